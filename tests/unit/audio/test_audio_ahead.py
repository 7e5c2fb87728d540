"""`load_ahead`: every record once, in order, ahead of the caller, within its bound, and no thread left behind.

The threads are steered by events and semaphores; no test looks at a clock. A wait that would hang is cut by `WAIT_S`,
which a passing test never reaches.
"""

from __future__ import annotations

import errno
import gc
import itertools
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_files import encoded, tone
from hypothesis import given
from hypothesis import strategies as st

from curate.audio import load_ahead
from curate.errors import InfrastructureError, RecordError

WAIT_S = 30.0
RATE_HZ = 10  # small arrays: a fake second is ten samples


@pytest.fixture(autouse=True)
def no_thread_stays_behind() -> Iterator[None]:
    yield
    assert not loader_threads()


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("curate-audio")]


def samples_of(record: dict[str, Any]) -> np.ndarray:
    return np.full(round(record.get("real", record.get("duration", 1.0)) * RATE_HZ), record["n"], np.float32)


def numbered(durations: list[float]) -> list[dict[str, Any]]:
    return [{"n": n, "duration": duration} for n, duration in enumerate(durations)]


class Meter:
    """A loader that notes what is held for certain when a load starts.

    After `requests` calls of `next` the caller has been given at most so many records; whatever started and is of a
    higher number is held. (What it was just being given may be held as well, and a bad record counts little; the
    meter leaves both out.)
    """

    def __init__(self, max_audio_s: float) -> None:
        self.max_audio_s = max_audio_s
        self.lock = threading.Lock()
        self.requests = 0
        self.started: list[dict[str, Any]] = []
        self.too_much: list[list[float]] = []

    def load(self, record: dict[str, Any]) -> np.ndarray:
        with self.lock:
            self.started.append(record)
            held = [other["duration"] for other in self.started if other["n"] >= self.requests and not other.get("bad")]
            if len(held) > 1 and sum(held) > self.max_audio_s + 1e-6:
                self.too_much.append(held)
        if record.get("bad"):
            raise RecordError("decode_error", "bad")
        return samples_of(record)

    def asked(self, pairs: Iterator[Any]) -> Iterator[Any]:
        while True:
            with self.lock:
                self.requests += 1
            try:
                pair = next(pairs)
            except StopIteration:
                return
            yield pair


@given(
    durations=st.lists(st.sampled_from([0.1, 0.5, 1.0, 3.0, 9.9, 25.0]), max_size=40),
    bad=st.sets(st.integers(0, 39)),
    threads=st.integers(1, 4),
)
def test_every_record_comes_once_in_order_with_its_own_samples_within_the_bound(
    durations: list[float], bad: set[int], threads: int
) -> None:
    records = [record | {"bad": record["n"] in bad} for record in numbered(durations)]
    meter = Meter(10.0)
    seen: list[int] = []
    pairs = load_ahead(records, max_audio_s=10.0, threads=threads, load=meter.load, rate_hz=RATE_HZ)
    for record, samples in meter.asked(pairs):
        assert record is records[len(seen)]
        seen.append(record["n"])
        if record["bad"]:
            assert isinstance(samples, RecordError)
        else:
            np.testing.assert_array_equal(samples, samples_of(record))
    assert seen == list(range(len(records)))
    assert sorted(record["n"] for record in meter.started) == seen
    assert not meter.too_much


def test_a_record_longer_than_the_bound_is_loaded_alone() -> None:
    meter = Meter(10.0)
    records = numbered([1.0, 50.0, 1.0, 50.0, 50.0, 1.0])
    pairs = load_ahead(records, max_audio_s=10.0, threads=3, load=meter.load, rate_hz=RATE_HZ)
    assert [len(samples) for _, samples in meter.asked(pairs)] == [10, 500, 10, 500, 500, 10]
    assert not meter.too_much


def test_loading_overlaps_with_the_caller_s_computing() -> None:
    second_loaded = threading.Event()

    def load(record: dict[str, Any]) -> np.ndarray:
        if record["n"] == 1:
            second_loaded.set()
        return samples_of(record)

    pairs = load_ahead(numbered([1.0, 1.0]), threads=1, load=load, rate_hz=RATE_HZ)
    next(pairs)
    assert second_loaded.wait(WAIT_S), "the second record is loaded while the caller has the first"
    assert len(list(pairs)) == 1


def test_as_many_records_are_loaded_at_once_as_there_are_threads() -> None:
    together = threading.Barrier(3)

    def load(record: dict[str, Any]) -> np.ndarray:
        together.wait(WAIT_S)  # breaks unless three loads run at once
        return samples_of(record)

    pairs = load_ahead(numbered([1.0] * 6), threads=3, load=load, rate_hz=RATE_HZ)
    assert [type(samples) for _, samples in pairs] == [np.ndarray] * 6


def test_a_slow_record_holds_back_the_order_not_the_others() -> None:
    others_done = threading.Semaphore(0)

    def load(record: dict[str, Any]) -> np.ndarray:
        if record["n"] == 0:
            for _ in range(4):
                assert others_done.acquire(timeout=WAIT_S)
        else:
            others_done.release()
        return samples_of(record)

    pairs = load_ahead(numbered([1.0] * 5), threads=2, load=load, rate_hz=RATE_HZ)
    results = list(pairs)
    assert [record["n"] for record, _ in results] == [0, 1, 2, 3, 4]
    assert all(isinstance(samples, np.ndarray) for _, samples in results)


def test_nothing_is_decoded_behind_the_bound_while_the_caller_computes() -> None:
    loaded: list[int] = []
    ready = threading.Semaphore(0)

    def load(record: dict[str, Any]) -> np.ndarray:
        loaded.append(record["n"])
        ready.release()
        return samples_of(record)

    pairs = load_ahead(numbered([4.0] * 20), max_audio_s=10.0, threads=3, load=load, rate_hz=RATE_HZ)
    next(pairs)
    for _ in range(3):  # the first, and two that fit
        assert ready.acquire(timeout=WAIT_S)
    pairs.close()
    assert sorted(loaded) == [0, 1, 2], "with one more, 12 seconds would be held"


def test_the_true_length_counts_once_it_is_known() -> None:
    """Records that say 0.1 s and are 100 s long: at most one per thread is decoded before the lie is found out."""
    loaded: list[int] = []

    def load(record: dict[str, Any]) -> np.ndarray:
        loaded.append(record["n"])
        return samples_of(record)

    records = [{"n": n, "duration": 0.1, "real": 100.0} for n in range(50)]
    pairs = load_ahead(records, max_audio_s=10.0, threads=2, load=load, rate_hz=RATE_HZ)
    for taken in range(1, 51):
        next(pairs)
        assert len(loaded) <= taken + 2
    pairs.close()


@pytest.mark.parametrize("duration", [0.0, -1.0, None, "3", float("nan"), True, 1e300, 10.0])
def test_an_endless_generator_is_read_only_a_little_ahead(duration: object) -> None:
    read = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal read
        for n in itertools.count():
            read += 1
            yield {"n": n, "duration": duration, "real": 1.0}

    pairs = load_ahead(endless(), max_audio_s=10.0, threads=2, load=samples_of, rate_hz=RATE_HZ)
    for n, (record, _) in enumerate(itertools.islice(pairs, 500)):
        assert record["n"] == n
        assert read <= n + 1 + 230  # at most 10 s held and 10 s waiting, of at least 0.1 s each
    pairs.close()


def test_a_source_s_error_comes_after_the_records_before_it() -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield from numbered([1.0] * 3)
        raise RuntimeError("the manifest ends here")

    seen: list[int] = []
    with pytest.raises(RuntimeError, match="ends here"):
        seen.extend(record["n"] for record, _ in load_ahead(broken(), load=samples_of, rate_hz=RATE_HZ))
    assert seen == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecordError("truncated", "x"), "truncated"),
        (FileNotFoundError(errno.ENOENT, "gone"), "missing_file"),
        (PermissionError(errno.EACCES, "no"), "unreadable_file"),
        (ZeroDivisionError("oops"), "stage_error"),
    ],
)
def test_the_record_s_own_fault_is_delivered_and_the_next_records_go_on(error: Exception, code: str) -> None:
    def load(record: dict[str, Any]) -> np.ndarray:
        if record["n"] == 1:
            raise error
        return samples_of(record)

    results = list(load_ahead(numbered([1.0] * 4), load=load, rate_hz=RATE_HZ))
    assert [isinstance(samples, RecordError) for _, samples in results] == [False, True, False, False]
    fault = results[1][1]
    assert isinstance(fault, RecordError)
    assert fault.code == code


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InfrastructureError("root gone"), InfrastructureError),
        (OSError(errno.EIO, "Input/output error"), InfrastructureError),
        (OSError(errno.ENOSPC, "full"), InfrastructureError),
        (OSError(errno.EMFILE, "too many"), InfrastructureError),
        (MemoryError(), MemoryError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_is_not_the_record_s_fault_is_raised_at_its_place(error: BaseException, kind: type[BaseException]) -> None:
    def load(record: dict[str, Any]) -> np.ndarray:
        if record["n"] == 2:
            raise error
        return samples_of(record)

    seen: list[int] = []
    with pytest.raises(kind):
        seen.extend(record["n"] for record, _ in load_ahead(numbered([1.0] * 5), load=load, rate_hz=RATE_HZ))
    assert seen == [0, 1]
    assert not loader_threads()


def test_closing_early_stops_the_threads() -> None:
    pairs = load_ahead(({"n": n} for n in itertools.count()), load=samples_of, rate_hz=RATE_HZ)
    next(pairs)
    assert len(loader_threads()) == 2
    pairs.close()
    assert not loader_threads()


def test_closing_waits_only_for_the_load_that_runs() -> None:
    running, release = threading.Event(), threading.Event()
    loaded: list[int] = []

    def load(record: dict[str, Any]) -> np.ndarray:
        loaded.append(record["n"])
        if record["n"] == 1:
            running.set()
            assert release.wait(WAIT_S)
        return samples_of(record)

    pairs = load_ahead(numbered([1.0] * 10), threads=1, load=load, rate_hz=RATE_HZ)
    next(pairs)
    assert running.wait(WAIT_S)
    closer = threading.Thread(target=pairs.close)
    closer.start()
    release.set()
    closer.join(WAIT_S)
    assert not closer.is_alive()
    assert len(loaded) <= 3


def test_an_error_of_the_caller_stops_the_threads() -> None:
    def consume() -> None:
        for _ in load_ahead(({"n": n} for n in itertools.count()), load=samples_of, rate_hz=RATE_HZ):
            raise ValueError("the caller's")

    with pytest.raises(ValueError, match="the caller's"):
        consume()
    gc.collect()
    assert not loader_threads()


def test_a_generator_that_is_never_started_has_no_threads() -> None:
    pairs = load_ahead(numbered([1.0]), load=samples_of, rate_hz=RATE_HZ)
    assert not loader_threads()
    pairs.close()


def test_no_records_are_no_pairs() -> None:
    assert list(load_ahead([])) == []


@pytest.mark.parametrize("options", [{"threads": 0}, {"max_audio_s": 0}, {"max_audio_s": float("inf")}])
def test_senseless_options_are_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        load_ahead([], **options)


def test_samples_that_the_caller_dropped_are_held_by_nobody() -> None:
    pairs = load_ahead(numbered([1.0] * 3), load=samples_of, rate_hz=RATE_HZ)
    _, samples = next(pairs)
    assert isinstance(samples, np.ndarray)
    dropped = weakref.ref(samples)
    del samples
    assert dropped() is None
    pairs.close()


def test_a_kept_error_keeps_no_audio_but_its_traceback() -> None:
    arrays: list[weakref.ref[np.ndarray]] = []

    def load(record: dict[str, Any]) -> np.ndarray:
        blocks = np.zeros(1000)
        arrays.append(weakref.ref(blocks))
        raise RecordError("decode_error", f"damaged after {len(blocks)}")

    ((_, error),) = load_ahead(numbered([1.0]), load=load, rate_hz=RATE_HZ)
    assert isinstance(error, RecordError)
    assert error.__traceback__ is not None
    assert arrays[0]() is None


def test_real_files_are_loaded_as_load_record_does(tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / f"{n}.flac").write_bytes(encoded(tone(0.5 + n, hz=200 * (n + 1)), "FLAC"))
    (tmp_path / "bad.wav").write_bytes(b"<html>" + b" " * 100)
    names = ["0.flac", "bad.wav", "1.flac", "none.flac", "2.flac", "3.flac"]
    records: list[dict[str, Any]] = [{"wav": str(tmp_path / name)} for name in names]
    records += [{"wav": None}, {"wav": records[5]["wav"], "offset": 1.0, "duration": 0.5}]
    pairs = load_ahead(records, max_audio_s=4.0, roots=[tmp_path], filepath_key="wav", rate_hz=8_000)
    outcomes = [s.code if isinstance(s, RecordError) else len(s) for _, s in pairs]
    assert outcomes == [4_000, "not_audio", 12_000, "missing_file", 20_000, 28_000, "missing_column", 4_000]


def test_a_vanished_root_is_raised_not_delivered(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError):
        next(load_ahead([{"audio_filepath": str(tmp_path / "gone" / "a.wav")}], roots=[tmp_path / "gone"]))


def test_importing_the_package_imports_no_decoder() -> None:
    import subprocess

    heavy = "{'numpy', 'soundfile', 'soxr', '_soundfile', 'torch'}"
    code = f"import sys, curate.audio; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
