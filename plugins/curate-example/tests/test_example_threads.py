"""The executor on threads: it passes the executor contract, and refuses what threads cannot do."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from curate import AudioBatch, InfrastructureError, Pipeline, ProcessingStage, RecordStage
from curate.errors import PlanError
from curate.executors import Executor
from curate.stages import InferenceAsrNemoStage, Partition, ReadRecords
from curate.testing import ExecutorContract
from curate_example.threads import ThreadsExecutor

ROWS: list[dict[str, Any]] = [{"x": x, "duration": 1.0} for x in range(40)]


class TestThreads(ExecutorContract):
    def executor(self) -> ThreadsExecutor:
        return ThreadsExecutor()


class TestOneThread(ExecutorContract):
    workers = 1

    def executor(self) -> ThreadsExecutor:
        return ThreadsExecutor()


def pipeline(*stages: Any, batch: int = 5) -> Pipeline:
    return Pipeline("threads", [ReadRecords(ROWS), Partition(max_records=batch), *stages])


def threads_left() -> list[str]:
    """Names of the executor's threads that are alive; other tests' threads of models are not its own."""
    return [thread.name for thread in threading.enumerate() if re.fullmatch(r"curate-\d+-\d+", thread.name)]


class Passes(RecordStage):
    """Hands its records on; the base of those below."""

    def writes(self) -> tuple[str, ...]:
        return ("thread",)

    def process_record(self, record: dict[str, Any]) -> dict[str, Any]:
        return record


@dataclass
class Meets(Passes):
    """Waits until as many workers as there should be are at work at the same time."""

    parties: int
    log: list[str] = field(default_factory=list[str])

    def __deepcopy__(self, memo: Any) -> Meets:
        return Meets(self.parties, self.log)  # every worker writes into the same log

    def setup(self) -> None:
        self.met = False
        self.log.append(f"setup {threading.current_thread().name}")

    def teardown(self) -> None:
        self.log.append(f"teardown {threading.current_thread().name}")

    def process_record(self, record: dict[str, Any]) -> dict[str, Any]:
        if not self.met:
            meeting_of(self.parties).wait(timeout=30)
            self.met = True
        return {**record, "thread": threading.current_thread().name}


MEETINGS: dict[int, threading.Barrier] = {}


def meeting_of(parties: int) -> threading.Barrier:
    return MEETINGS.setdefault(parties, threading.Barrier(parties))


@pytest.mark.parametrize(("asked", "option", "expected"), [(None, 3, 3), (2, 5, 2)])
def test_the_set_number_of_threads_works_at_the_same_time(asked: int | None, option: int, expected: int) -> None:
    stage = Meets(expected) if asked is None else Meets(expected).with_(workers=asked)
    result = pipeline(stage).run(ThreadsExecutor(workers=option))
    seen = {record["thread"] for record in result.records()}
    assert len(seen) == expected
    log = stage.log
    assert sorted(log) == sorted(f"{what} {name}" for what in ("setup", "teardown") for name in seen)
    assert threads_left() == []


def test_every_thread_has_its_own_copy() -> None:
    class Counts(Passes):
        def setup(self) -> None:
            self.seen = 0

        def process_record(self, record: dict[str, Any]) -> dict[str, Any]:
            self.seen += 1
            return {**record, "thread": (threading.get_ident(), self.seen)}

    stage = Counts()
    marks = [record["thread"] for record in pipeline(stage).run(ThreadsExecutor(workers=3)).records()]
    assert len(set(marks)) == len(ROWS)
    assert not hasattr(stage, "seen")


def test_a_stage_that_is_not_thread_safe_is_refused() -> None:
    class Alone(Passes):
        thread_safe = False

    with pytest.raises(
        PlanError, match=r"stage 'alone' declares thread_safe = False.*such as multiprocessing"
    ) as caught:
        pipeline(Alone()).plan(ThreadsExecutor())
    assert caught.value.stage == "alone"


def test_nemo_is_refused() -> None:
    assert not InferenceAsrNemoStage.thread_safe
    nemo = InferenceAsrNemoStage(model_name="stt_en_fastconformer_ctc_large")
    with pytest.raises(PlanError, match="thread_safe = False"):
        Pipeline("p", [ReadRecords([{"audio_filepath": "a.wav"}]), nemo]).plan(ThreadsExecutor())


def test_a_deadline_is_refused() -> None:
    with pytest.raises(PlanError, match=r"stage 'passes' has timeout_s=3, .*leave it out, or use an executor with"):
        pipeline(Passes().with_(timeout_s=3.0)).plan(ThreadsExecutor())


def test_a_stage_that_cannot_be_copied_is_refused() -> None:
    class Locked(Passes):
        def __post_init__(self) -> None:
            self.lock = threading.Lock()

    @dataclass
    class LockedStage(Locked):
        pass

    stage = LockedStage()
    with pytest.raises(PlanError, match=r"lock cannot be copied for a worker .*create it in setup\(\)"):
        pipeline(stage).plan(ThreadsExecutor())


def test_no_threads_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="workers=0: must be at least 1"):
        ThreadsExecutor(workers=0)


class NeverSetUp(Passes):
    def setup(self) -> None:
        raise OSError("the model is missing")


class LosesItsServer(ProcessingStage):
    def writes(self) -> tuple[str, ...]:
        return ()

    def process(self, batch: AudioBatch) -> AudioBatch:
        raise InfrastructureError("the server is gone")


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (NeverSetUp(), "'never_set_up' cannot be set up: OSError: the model is missing"),
        (LosesItsServer(), "server is gone"),
    ],
)
def test_an_error_that_no_record_caused_stops_the_run(stage: ProcessingStage, message: str) -> None:
    with pytest.raises(InfrastructureError, match=message):
        pipeline(stage).run(ThreadsExecutor(workers=2))
    assert threads_left() == []


class Interrupts(Passes):
    """Raises what the engine lets through in the thread of the driver."""

    def process_record(self, record: dict[str, Any]) -> dict[str, Any]:
        raise GeneratorExit


def test_whatever_ends_a_thread_reaches_the_driver() -> None:
    with pytest.raises(InfrastructureError, match=r"thread curate-0-\d has failed: GeneratorExit"):
        pipeline(Interrupts()).run(ThreadsExecutor(workers=2))
    assert threads_left() == []


def test_a_run_that_is_left_early_leaves_its_batches() -> None:
    announced: list[int] = []

    class Logs(Passes):
        def process_record(self, record: dict[str, Any]) -> dict[str, Any]:
            announced.append(record["x"])
            return record

    batches = (AudioBatch([{"x": x}]) for x in range(100_000))
    out = Pipeline("p", [Logs()]).stream(batches, ThreadsExecutor(workers=2))
    next(out)
    out.close()
    assert threads_left() == []
    assert len(announced) < 1000


def test_it_is_an_executor() -> None:
    assert isinstance(ThreadsExecutor(), Executor)
