"""The spool: decoded once for all processes of a node, bounded, and gone at the end."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from audio_files import mp3

from curate.audio import RecordingCache, Spool, TemporarySpool, load
from curate.audio.spool import SpoolFormat
from curate.errors import InfrastructureError, RecordError

FLOAT = SpoolFormat(channels=2, is_int16=False)
LONG_S = 150.0


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 2)).astype(np.float32)


def stored(spool: Spool, key: str, array: np.ndarray, form: SpoolFormat = FLOAT):
    return spool.open(key, form, lambda: iter(np.array_split(array, 7)), lambda: None)


@pytest.fixture
def recording(tmp_path: Path) -> str:
    path = tmp_path / "long.mp3"
    path.write_bytes(mp3(LONG_S, rate_hz=22_050))
    return str(path)


def test_what_was_stored_is_read_by_position(tmp_path: Path) -> None:
    array = frames(1000)
    found = stored(Spool(tmp_path / "s"), "a", array)
    assert found is not None
    assert found.frames == 1000
    np.testing.assert_array_equal(found.read(0, 5000), array)
    np.testing.assert_array_equal(found.read(500, 10), array[500:510])
    assert found.read(1000, 10).shape == (0, 2)
    assert found.read(2000, 10).shape == (0, 2)


def test_16_bit_integers_come_back_bit_for_bit(tmp_path: Path) -> None:
    array = (np.arange(-32768, 32768).reshape(-1, 2) / np.float32(32768)).astype(np.float32)
    spool = Spool(tmp_path / "s")
    found = stored(spool, "a", array, SpoolFormat(channels=2, is_int16=True))
    assert found is not None
    np.testing.assert_array_equal(found.read(0, len(array)), array)
    assert sum(path.stat().st_size for path in spool.folder.iterdir()) < array.nbytes


def test_a_recording_is_decoded_once_for_all_that_open_it(tmp_path: Path) -> None:
    calls: list[int] = []

    def decode() -> Iterator[np.ndarray]:
        calls.append(1)
        yield frames(10)

    for _ in range(3):
        assert Spool(tmp_path / "s").open("a", FLOAT, decode, lambda: None) is not None
    assert len(calls) == 1
    assert Spool(tmp_path / "s").open("b", FLOAT, decode, lambda: None) is not None
    assert len(calls) == 2


def test_damage_is_stored_as_the_end_of_what_is_good(tmp_path: Path) -> None:
    def decode() -> Iterator[np.ndarray]:
        yield frames(10)
        raise RecordError("truncated", "it ends")

    for _ in range(2):
        found = Spool(tmp_path / "s").open("a", FLOAT, decode, lambda: None)
        assert found is not None
        assert found.frames == 10
        assert found.failure is not None
        assert (found.failure.code, str(found.failure)) == ("truncated", "it ends")


def test_the_files_used_least_recently_go_first(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", max_bytes=3 * 4096 + 3 * 80_000)
    for number, key in enumerate("abc"):
        stored(spool, key, frames(10_000))
        for path in spool.folder.glob("*.frames"):
            os.utime(path, (path.stat().st_atime, min(path.stat().st_mtime, 1000 + number)))
    kept = stored(spool, "a", frames(10_000))  # used again
    stored(spool, "d", frames(10_000))
    assert len(list(spool.folder.glob("*.frames"))) == 3
    calls: list[int] = []
    spool.open("a", FLOAT, lambda: iter([frames(1)] if not calls.append(1) else []), lambda: None)
    assert not calls, "what was used last is still there"
    assert kept is not None
    assert kept.read(0, 1).shape == (1, 2)


def test_a_file_that_another_process_deletes_as_it_is_opened_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "s")
    array = frames(100)
    assert stored(spool, "a", array) is not None
    opens = os.open

    def open_and_delete(path: Path, *arguments: int, **options: int) -> int:
        """As a process does that makes room for another recording."""
        fd = opens(path, *arguments, **options)
        if str(path).endswith(".frames"):
            Path(path).unlink()
        return fd

    monkeypatch.setattr(os, "open", open_and_delete)
    found = stored(spool, "a", array)
    assert found is not None
    np.testing.assert_array_equal(found.read(0, 100), array)


def test_a_recording_larger_than_the_spool_is_not_stored(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", max_bytes=10_000)
    for _ in range(2):
        assert stored(spool, "a", frames(10_000)) is None
    assert sum(path.stat().st_size for path in spool.folder.iterdir()) < 10_000


def test_a_recording_larger_than_the_spool_is_decoded_again_and_right(recording: str, tmp_path: Path) -> None:
    wanted = load(recording, offset_s=140.0, duration_s=2.0)
    with RecordingCache(2**20, spool=Spool(tmp_path / "s", max_bytes=1_000_000)) as cache:
        for _ in range(2):
            audio = cache.audio({"audio_filepath": recording, "offset": 140.0, "duration": 2.0})
            np.testing.assert_array_equal(audio.samples(), wanted)


def test_a_spool_that_cannot_be_written_is_not_the_record_s_fault(recording: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        RecordingCache(spool=Spool(tmp_path / "file" / "s")) as cache,
        pytest.raises(InfrastructureError, match="spool"),
    ):
        cache.audio({"audio_filepath": recording, "offset": 140.0, "duration": 2.0}).samples()


def test_a_temporary_spool_is_gone_when_it_is_closed(recording: str) -> None:
    spool = TemporarySpool()
    with RecordingCache(spool=spool) as cache:
        cache.audio({"audio_filepath": recording, "offset": 140.0, "duration": 2.0}).samples()
        assert spool.folder.is_dir()
    spool.close()
    assert not spool.folder.parent.exists()
    spool.close()


# ---------------------------------------------------------------- several processes


def hear(path: str, folder: str, first: int, results: object) -> None:
    with RecordingCache(spool=Spool(folder)) as cache:
        sums: dict[int, float] = {}
        for k in range(first, 100, 4):
            audio = cache.audio({"audio_filepath": path, "offset": 1.5 * k, "duration": 1.5})
            sums[k] = float(np.abs(audio.samples()).sum())
        results.put((cache.decodes, cache.decoded_s, sums))  # type: ignore[attr-defined]


def test_the_processes_of_a_node_share_one_decode(recording: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=hear, args=(recording, str(tmp_path / "s"), k, results)) for k in range(4)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert sum(decodes for decodes, _, _ in found) == 1
    assert sum(decoded_s for _, decoded_s, _ in found) == pytest.approx(LONG_S)
    sums = {k: value for _, _, each in found for k, value in each.items()}
    assert sorted(sums) == list(range(100))
    for k in (0, 57, 99):
        assert sums[k] == float(np.abs(load(recording, offset_s=1.5 * k, duration_s=1.5)).sum())


def die_while_decoding(folder: str) -> None:
    def decode() -> Iterator[np.ndarray]:
        yield frames(10)
        os.kill(os.getpid(), signal.SIGKILL)

    Spool(folder).open("a", FLOAT, decode, lambda: None)


def test_a_process_that_was_killed_while_decoding_leaves_no_lock_and_no_half_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    worker = context.Process(target=die_while_decoding, args=(str(tmp_path / "s"),))
    worker.start()
    worker.join(timeout=60)
    assert worker.exitcode == -signal.SIGKILL
    found = stored(Spool(tmp_path / "s"), "a", frames(500))
    assert found is not None
    assert found.frames == 500
    header = json.loads(next((tmp_path / "s").glob("*.frames")).read_bytes()[:4096].rstrip(b"\0"))
    assert header["frames"] == 500
    Spool.remove(tmp_path / "s")
    assert not (tmp_path / "s").exists()
