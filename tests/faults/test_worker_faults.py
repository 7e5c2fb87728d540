"""What can happen to a worker, and what then: every record accounted for, the guilty one named, nobody left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faulty_stages import (
    BreaksTheCard,
    EndsWhenAllIsDone,
    FailsInSetup,
    FailsInTeardown,
    Misbehaves,
    MisbehavesAhead,
    MisbehavesInBatches,
    Quiet,
    RefusesToTravel,
    ReturnsOddities,
    Shouts,
    Slow,
)

from curate import Pipeline, Resources
from curate.errors import InfrastructureError, PlanError
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.executors.ray import RayExecutor
from curate.records import Record
from curate.stage import Source, Stage
from curate.stages import Partition, ReadRecords
from tests.conftest import processes_left

EXECUTORS: list[Any] = [
    pytest.param(MultiprocessingExecutor(cpus=2), id="multiprocessing"),
    pytest.param(RayExecutor(), id="ray"),
]

pytestmark = pytest.mark.parametrize("place", EXECUTORS, indirect=True)


def rows(count: int = 60, **does: str) -> list[Record]:
    """Return records of which `x7="hang"` makes the seventh hang."""
    made: list[Record] = [{"x": x, "duration": 1.0} for x in range(count)]
    for name, how in does.items():
        made[int(name[1:])]["does"] = how
    return made


def run(place: Any, records: list[Record], *stages: Stage, batch: int = 20) -> Any:
    pipeline = Pipeline("faults", [ReadRecords(records), Partition(max_records=batch, by_length=False), *stages])
    result = pipeline.run(place)
    summary = result.summary
    assert summary["records_in"] == len(records)
    assert summary["kept"] + summary["filtered"] + summary["quarantined"] == len(records)
    assert processes_left() == []
    return result


def guilty(result: Any) -> dict[int, str]:
    return {note.record["x"]: note.code for note in result.quarantined}


def reason(result: Any, x: int) -> str:
    return next(note.message for note in result.quarantined if note.record["x"] == x)


@pytest.mark.parametrize(
    ("how", "told"),
    [("sigkill", "killed from outside by SIGKILL"), ("segfault", "crashed by itself with SIGSEGV"), ("exit", "code 7")],
)
@pytest.mark.parametrize("stage", [Misbehaves(), MisbehavesInBatches(), MisbehavesAhead()])
def test_a_record_on_which_the_worker_dies_goes_to_quarantine_alone(
    place: Any, stage: Stage, how: str, told: str
) -> None:
    result = run(place, rows(x33=how), stage.with_(workers=2))
    assert guilty(result) == {33: "worker_died"}
    assert told in reason(result, 33)
    (note,) = result.quarantined
    assert (note.stage, note.attempts) == (stage.name, 3 if how == "sigkill" else 1)
    assert all(record["seen"] for record in result.records())


def test_a_segmentation_fault_says_where_in_python_it_was(place: Any) -> None:
    assert "in misbehave" in reason(run(place, rows(x3="segfault"), Misbehaves().with_(workers=1)), 3)


@pytest.mark.parametrize("how", ["hang", "hang in C"])
@pytest.mark.parametrize("stage", [Misbehaves(), MisbehavesAhead()])
def test_a_record_on_which_the_worker_hangs_goes_to_quarantine(place: Any, stage: Stage, how: str) -> None:
    result = run(place, rows(x33=how), stage.with_(workers=2, timeout_s=1.0))
    assert guilty(result) == {33: "timeout"}
    assert "made no progress for 1 s" in reason(result, 33)


def test_a_quiet_worker_among_talkative_ones_is_left_in_peace(place: Any, tmp_path: Path) -> None:
    """The first batch takes four times as long as a worker may hang, while the others are done all the time."""
    records: list[Record] = [{"x": x, "takes_s": 0.2 if x < 20 else 0.001} for x in range(5000)]
    result = run(place, records, Quiet(str(tmp_path / "pids")).with_(workers=2, timeout_s=1.0))
    assert result.summary["kept"] == 5000
    assert len((tmp_path / "pids").read_text().split()) == 2


def test_two_killers_and_a_hanger_among_a_thousand(place: Any) -> None:
    records = rows(1000, x123="segfault", x501="hang", x502="sigkill")
    result = run(place, records, Misbehaves().with_(workers=2, timeout_s=2.0), batch=64)
    assert guilty(result) == {123: "worker_died", 501: "timeout", 502: "worker_died"}
    assert result.summary["kept"] == 997


def test_a_stage_that_is_fused_with_others_is_named(place: Any) -> None:
    stages = [Slow(0.0).with_(name="before", workers=1), Misbehaves().with_(workers=1), Slow(0.0).with_(workers=1)]
    (note,) = run(place, rows(x33="exit"), *stages).quarantined
    assert (note.stage, note.record["x"]) == ("misbehaves", 33)


def test_what_was_handed_on_before_a_crash_is_kept(place: Any) -> None:
    """The last record of a batch, too: it does not wait until the worker says that the batch is done."""
    assert guilty(run(place, rows(4), EndsWhenAllIsDone().with_(workers=1), batch=4)) == {}


def test_a_crash_behind_another_hop(place: Any) -> None:
    behind = MisbehavesAhead().with_(workers=2, resources=Resources(cpus=0.5))
    result = run(place, rows(x33="exit", x34="sigkill"), Slow(0.0).with_(workers=1), behind)
    assert guilty(result) == {33: "worker_died", 34: "worker_died"}


@dataclass
class Odd(Source):
    """Yields two records among sixty with a value that does not travel."""

    when: str

    def read(self, after: str | None = None) -> Iterator[Record]:
        for x in range(60):
            yield {"_id": f"o:{x}", "x": x, "odd": RefusesToTravel(self.when) if x in (3, 30) else None}


def test_random_kills_convict_nobody(place: Any, tmp_path: Path) -> None:
    """Twenty SIGKILLs at random moments; whoever is worked on at such a moment is only tried again."""
    pids, killed, over = tmp_path / "pids", set[int](), threading.Event()
    pids.touch()

    class UntilOver(Source):
        def read(self, after: str | None = None) -> Iterator[Record]:
            for x in range(100_000):
                if over.is_set():
                    return
                yield {"_id": f"u:{x}", "x": x, "duration": 1.0}

    def kill() -> None:
        dice = random.Random(11)
        while len(killed) < 20 and not over.wait(dice.uniform(0.02, 0.2)):
            ready = sorted({int(pid) for pid in pids.read_text().split()} - killed)
            if ready:
                hit = dice.choice(ready)
                killed.add(hit)
                os.kill(hit, signal.SIGKILL)
        over.set()

    stages = [UntilOver(), Partition(max_records=50, by_length=False), Slow(0.002, str(pids)).with_(workers=2)]
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        result = Pipeline("kills", stages).run(place)
    finally:
        over.set()
        killer.join()
    assert len(killed) == 20
    assert guilty(result) == {}
    assert [record["x"] for record in result.records()] == list(range(result.summary["records_in"]))


@pytest.mark.parametrize("how", ["raise", "exit", "segfault"])
def test_a_setup_that_fails_is_tried_again_and_then_stops_the_run(place: Any, how: str, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    with pytest.raises(InfrastructureError, match="the model is missing" if how == "raise" else "while it was set up"):
        run(place, rows(), FailsInSetup(str(counter), how).with_(workers=1))
    assert counter.stat().st_size == 3
    assert processes_left() == []


def test_a_setup_that_fails_once_is_forgiven(place: Any, tmp_path: Path) -> None:
    result = run(place, rows(), FailsInSetup(str(tmp_path / "counter"), times=1).with_(workers=1))
    assert result.summary["kept"] == 60


def test_a_setup_that_hangs_stops_the_run(place: Any, tmp_path: Path) -> None:
    import attrs

    hurried = attrs.evolve(place, setup_timeout_s=2.0, setup_attempts=1)
    with pytest.raises(InfrastructureError, match="was not set up after 2 s"):
        run(hurried, rows(), FailsInSetup(str(tmp_path / "counter"), "hang").with_(workers=1))
    assert processes_left() == []


@pytest.mark.parametrize("how", ["raise", "exit", "segfault"])
def test_a_teardown_that_fails_loses_nothing(place: Any, how: str) -> None:
    assert run(place, rows(), FailsInTeardown(how).with_(workers=2)).summary["kept"] == 60


@pytest.mark.parametrize("when", ["pickled", "unpickled"])
def test_a_record_that_cannot_be_sent_to_a_worker(place: Any, when: str) -> None:
    result = Pipeline("p", [Odd(when), Partition(max_records=20), Slow(0.0).with_(workers=2)]).run(place)
    assert guilty(result) == {3: "bad_value", 30: "bad_value"}
    expected = "cannot be sent to a worker: TypeError" if when == "pickled" else "could not read the record: ValueError"
    assert expected in reason(result, 3)


def test_a_record_that_cannot_be_sent_on(place: Any) -> None:
    result = run(place, rows(), ReturnsOddities("pickled").with_(workers=2))
    assert guilty(result) == {3: "bad_value", 30: "bad_value"}
    assert "cannot be sent to the driver: column 'odd': TypeError" in reason(result, 3)


def test_a_record_that_does_not_arrive(place: Any) -> None:
    result = run(place, rows(), ReturnsOddities("unpickled").with_(workers=2))
    assert guilty(result) == {3: "worker_died", 30: "worker_died"}
    assert "it sent a frame that cannot be read (ValueError: this value does not arrive)" in reason(result, 3)


def test_a_stage_that_cannot_be_sent_is_found_at_plan_time(place: Any) -> None:
    @dataclass
    class Locked(Slow):
        def __post_init__(self) -> None:
            self.lock = threading.Lock()

    stage = Locked(0.0)
    with pytest.raises(PlanError, match=r"stage 'locked': lock cannot be sent to a worker .*; create it in setup\(\)"):
        Pipeline("p", [ReadRecords(rows()), stage]).plan(place)


def test_a_broken_card_is_the_death_of_a_worker(place: Any) -> None:
    result = run(place, rows(), BreaksTheCard().with_(workers=1))
    assert guilty(result) == {5: "worker_died"}
    assert "an illegal memory access" in reason(result, 5)


def test_the_end_of_what_a_dead_worker_has_printed_is_kept(place: Any) -> None:
    told = reason(run(place, rows(), Shouts().with_(workers=1)), 5)
    assert told.endswith("the last words")
    assert len(told) < 10_000


@contextmanager
def interrupted(sign: Path, *, times: int = 1) -> Iterator[None]:
    """Press Ctrl-C a moment after a file has appeared, once or several times."""
    over = threading.Event()

    def press() -> None:
        while not (sign.exists() or over.wait(0.05)):
            pass
        for _ in range(times):
            if not over.wait(0.5):
                os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_an_interrupt_keeps_what_is_in_flight(place: Any, tmp_path: Path) -> None:
    pids, run_dir = tmp_path / "pids", tmp_path / "run"
    stages = [ReadRecords(rows(4000)), Partition(max_records=20), Slow(0.005, str(pids)).with_(workers=2)]
    with interrupted(pids), pytest.raises(KeyboardInterrupt):
        Pipeline("p", stages).run(place, run_dir=run_dir)
    assert processes_left() == []
    commits = [json.loads(path.read_text()) for path in (run_dir / "commits").glob("p0-*.json")]
    done = sum(commit["account"]["books"]["records_in"] for commit in commits)
    assert 0 < done < 4000
    assert Pipeline("p", stages).run(place, run_dir=run_dir).summary["kept"] == 4000


def test_a_second_interrupt_does_not_wait(place: Any, tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    stages = [ReadRecords(rows(x0="hang")), Partition(max_records=1), Misbehaves(str(sign)).with_(workers=1)]
    with interrupted(sign, times=2), pytest.raises(KeyboardInterrupt) as caught:
        Pipeline("p", stages).run(place, run_dir=tmp_path / "run")
    assert isinstance(caught.value.__context__, KeyboardInterrupt)  # it came while the first one was waited for
    assert processes_left() == []
