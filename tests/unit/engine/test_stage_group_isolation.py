"""One bad record costs one record: what a worker does when stages raise."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import attrs
import pytest
from worker import records, work_on

from curate import AudioBatch, InfrastructureError, ProcessingStage, RecordError, RecordStage, processing_stage
from curate.engine import Interrupted
from curate.engine.worker.stage_group import StageGroupRunner
from curate.records import Record
from curate.stage import WorkerContext


@dataclass
class FailsOn(ProcessingStage):
    """Raises while a batch holds one of `bad`."""

    bad: tuple[int, ...] = ()
    error: Any = ValueError
    name = "fails_on"

    def __post_init__(self) -> None:
        self.calls: list[list[int]] = []

    def process(self, batch: AudioBatch) -> AudioBatch:
        self.calls.append([record["x"] for record in batch.data])
        for record in batch.data:
            record["y"] = record["x"] * 2
        for record in batch.data:
            if record["x"] in self.bad:
                raise self.error(f"cannot work on {record['x']}") if isinstance(self.error, type) else self.error
        return batch


def each(function: Any, **options: Any) -> Any:
    return processing_stage(name="each", **options)(function)


def test_a_batch_that_raises_is_split_until_the_guilty_record_is_alone() -> None:
    outcome = work_on(records(*range(16)), FailsOn(bad=(11,)))
    assert outcome.codes == {"r:12": "stage_error"}
    assert len(outcome.kept) == 15
    note = outcome.quarantined["r:12"]
    assert note.stage == "fails_on"
    assert note.message == "ValueError: cannot work on 11"
    assert 'raise self.error(f"cannot work on' in note.traceback
    assert note.attempts == 1


def test_narrowing_down_one_record_of_1024_takes_few_calls() -> None:
    stage = FailsOn(bad=(700,))
    work_on(records(*range(1024)), stage)
    assert len(stage.calls) <= 2 * 10 + 1


def test_every_record_of_a_batch_may_be_guilty() -> None:
    outcome = work_on(records(*range(7)), FailsOn(bad=tuple(range(7))))
    assert len(outcome.codes) == 7
    assert outcome.kept == []


def test_records_come_to_each_attempt_as_they_were() -> None:
    seen: list[Record] = []

    @processing_stage(name="spoils")
    def spoils(batch: AudioBatch) -> AudioBatch:
        for record in batch.data:
            assert "spoilt" not in record
            assert record["list"] == [1]
            record["spoilt"] = True
            record["list"].append(2)
        seen.extend(batch.data)
        if any(record["x"] == 3 for record in batch.data):
            raise ValueError("3")
        return batch

    outcome = work_on(records(*({"x": x, "list": [1]} for x in range(6))), spoils)
    assert outcome.quarantined["r:4"].record == {"_id": "r:4", "x": 3, "list": [1]}
    assert [row["list"] for row in outcome.kept] == [[1, 2]] * 5


def test_a_record_function_that_changes_its_record_and_fails_leaves_nothing_behind() -> None:
    @processing_stage(name="spoils", retries=2)
    def spoils(record: dict) -> dict:
        assert "spoilt" not in record
        record["spoilt"] = True
        record["list"].append(2)
        raise ValueError("no")

    outcome = work_on(records({"list": [1]}), spoils)
    assert outcome.quarantined["r:1"].record == {"_id": "r:1", "list": [1]}
    assert outcome.quarantined["r:1"].message == "ValueError: no"


def test_a_record_error_gives_its_own_code_and_message() -> None:
    def check(record: dict) -> dict:
        raise RecordError("too_long", "it has 99 s")

    note = work_on(records(1), each(check)).quarantined["r:1"]
    assert (note.code, note.message, note.stage) == ("too_long", "it has 99 s", "each")


def test_a_record_error_from_a_batch_stage_is_narrowed_down_as_well() -> None:
    outcome = work_on(records(*range(8)), FailsOn(bad=(5,), error=RecordError("decode_error", "bad frame")))
    assert outcome.codes == {"r:6": "decode_error"}


@pytest.mark.parametrize("by_batch", [True, False])
def test_a_record_is_tried_again_as_often_as_the_stage_says(by_batch: bool) -> None:
    calls = {"r:1": 0, "r:2": 0}

    def flaky(record: Record) -> Record:
        calls[record["_id"]] += 1
        if record["_id"] == "r:2" and calls["r:2"] < 4:
            raise OSError("try again")
        return record

    if by_batch:

        @processing_stage(name="flaky", retries=3)
        def stage(batch: AudioBatch) -> AudioBatch:
            for record in batch.data:
                flaky(record)
            return batch

    else:

        @processing_stage(name="flaky", retries=3)
        def stage(record: dict) -> dict:
            return flaky(record)

    assert work_on(records(1, 2), stage).kept_ids == ["r:1", "r:2"]


@pytest.mark.parametrize("by_batch", [True, False])
def test_quarantine_says_how_many_attempts_there_were(by_batch: bool) -> None:
    @processing_stage(name="fails")
    def fails_record(record: dict) -> dict:
        raise OSError("never")

    stage = FailsOn(bad=(1,)) if by_batch else fails_record
    assert work_on(records(1), stage.with_(retries=4)).quarantined["r:1"].attempts == 5


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "oom"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), "oom"),
        (SystemExit(3), "stage_error"),
        (type("PanicException", (BaseException,), {})("a panic in Rust"), "stage_error"),
        (asyncio.CancelledError(), "stage_error"),
        (RuntimeError("CUDA error: out of memory"), "oom"),
        (type("Mute", (ValueError,), {"__str__": lambda self: 1 / 0})(), "stage_error"),
        (RecursionError("deep"), "stage_error"),
        (StopIteration(), "stage_error"),
    ],
)
@pytest.mark.parametrize("by_batch", [True, False])
def test_whatever_a_stage_raises_is_the_records(error: BaseException, code: str, by_batch: bool) -> None:
    def raises(record: dict) -> dict:
        if record["x"] == 2:
            raise error
        return record

    stage = FailsOn(bad=(2,), error=error) if by_batch else each(raises)
    outcome = work_on(records(1, 2, 3), stage)
    assert outcome.codes == {"r:2": code}
    assert outcome.kept_ids == ["r:1", "r:3"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        type("AcceleratorError", (RuntimeError,), {})("device-side assert triggered"),
    ],
)
def test_a_broken_gpu_is_nobodys_fault(error: Exception) -> None:
    with pytest.raises(InfrastructureError, match=r"stage 'fails_on': .*Error: "):
        work_on(records(1, 2, 3), FailsOn(bad=(2,), error=error))


@pytest.mark.parametrize("interrupt", [Interrupted, GeneratorExit])
def test_interrupts_are_no_records(interrupt: type[BaseException]) -> None:
    with pytest.raises(interrupt):
        work_on(records(1), FailsOn(bad=(1,), error=interrupt))


def test_slow_records_are_handed_on_before_the_window_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def slow(record: dict) -> dict:
        now[0] += 0.4 if record["x"] < 6 else 0.0
        return record

    outcome = work_on(records(*range(40)), each(slow), each(slow).with_(name="next"))
    assert [len(part.kept) for part in outcome.parts] == [3, 3, 34]
    assert outcome.kept_ids == [f"r:{number}" for number in range(1, 41)]
    assert sum(part.busy_s[0] for part in outcome.parts) == pytest.approx(2.4)


def test_a_batch_stage_behind_slow_records_gets_the_whole_window(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def slow(record: dict) -> dict:
        now[0] += 2.0
        return record

    batches = FailsOn()
    work_on(records(*range(8)), each(slow), batches)
    assert batches.calls == [list(range(8))]


def test_a_key_error_on_a_declared_column_is_a_missing_column() -> None:
    def divides(record: dict) -> dict:
        return {**record, "rate": record["words"] / record["duration"]}

    stage = each(divides, reads=["words", "duration"])
    outcome = work_on(records({"words": 3, "duration": 2.0}, {"words": 3}, {"words": 3, "duration": None}), stage)
    assert outcome.codes == {"r:2": "missing_column", "r:3": "missing_column"}
    assert outcome.quarantined["r:2"].message == "the record has no duration"


def test_a_key_error_on_another_key_is_the_stages_error() -> None:
    def looks_up(record: dict) -> dict:
        return {"a": record}[record["x"]]

    assert work_on(records(1), each(looks_up, reads=["x"])).codes == {"r:1": "stage_error"}


def test_a_long_traceback_is_cut_in_the_middle() -> None:
    def fails(record: dict) -> dict:
        raise ValueError("x" * 100_000 + " the end")

    note = work_on(records(1), each(fails)).quarantined["r:1"]
    assert len(note.traceback) < 20_000
    assert note.traceback.rstrip().endswith("the end")


@pytest.mark.parametrize("by_batch", [True, False])
@pytest.mark.parametrize(
    "error",
    [
        InfrastructureError("the card is gone"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EMFILE, "Too many open files"),
    ],
)
def test_trouble_that_is_not_the_records_stops_the_run(error: Exception, by_batch: bool) -> None:
    def raises(record: dict) -> dict:
        raise error

    stage = FailsOn(bad=(2,), error=error) if by_batch else each(raises)
    with pytest.raises(InfrastructureError, match=r"the card is gone|stage '(fails_on|each)': OSError"):
        work_on(records(1, 2), stage)


def test_an_ordinary_os_error_is_the_records() -> None:
    stage = FailsOn(bad=(2,), error=OSError(errno.ENOENT, "No such file"))
    assert work_on(records(1, 2), stage).codes == {"r:2": "stage_error"}


@dataclass
class Streams(ProcessingStage):
    """Streams records two at a time, announcing each pair; fails on `bad`."""

    bad: tuple[int, ...] = ()
    announces: bool = True

    def __post_init__(self) -> None:
        self.processed: list[int] = []

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        for start in range(0, len(batch.data), 2):
            pair = batch.data[start : start + 2]
            if self.announces:
                self.context.announce(pair)
            self.processed.extend(record["x"] for record in pair)
            if any(record["x"] in self.bad for record in pair):
                raise ValueError("bad pair")
            yield batch.with_data(pair)


def test_what_was_streamed_before_a_failure_is_not_worked_on_again() -> None:
    stage = Streams(bad=(5,))
    outcome = work_on(records(*range(10)), stage)
    assert outcome.codes == {"r:6": "stage_error"}
    assert [stage.processed.count(x) for x in range(4)] == [1, 1, 1, 1]


def test_announced_records_are_the_suspects() -> None:
    stage = Streams(bad=(5,))
    outcome = work_on(records(*range(100)), stage)
    assert outcome.codes == {"r:6": "stage_error"}
    assert max(stage.processed.count(x) for x in range(100) if x not in (4, 5)) == 1
    assert ["r:5", "r:6"] in outcome.started


def test_without_announcements_the_unfinished_records_are_halved() -> None:
    stage = Streams(bad=(5,), announces=False)
    assert work_on(records(*range(100)), stage).codes == {"r:6": "stage_error"}


def test_thousands_of_guilty_records_in_one_streamed_batch_are_no_trouble() -> None:
    outcome = work_on(records(*range(3000)), Streams(bad=tuple(range(3000))))
    assert len(outcome.codes) == 3000


def test_a_stream_that_raises_after_its_last_record_stops_the_run() -> None:
    class Untidy(ProcessingStage):
        def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
            yield batch
            raise ValueError("cannot clean up")

    with pytest.raises(InfrastructureError, match="stage 'untidy': ValueError: cannot clean up"):
        work_on(records(1), Untidy())


def test_a_failure_inside_a_chain_costs_the_record_at_the_stage_where_it_happened() -> None:
    outcome = work_on(
        records(1, 2, 3),
        FailsOn(bad=(1,)),
        FailsOn(bad=(2,)).with_(name="second"),
        FailsOn(bad=(3,)).with_(name="third"),
    )
    assert {identity: note.stage for identity, note in outcome.quarantined.items()} == {
        "r:1": "fails_on",
        "r:2": "second",
        "r:3": "third",
    }


def test_a_batch_reports_its_failed_records_itself() -> None:
    @processing_stage(name="probes")
    def probes(batch: AudioBatch) -> AudioBatch:
        good = [record for record in batch.data if record["x"] != 2]
        for record in batch.data:
            record["decoded"] = threading.Lock()  # nothing that could be stored
            if record["x"] == 2:
                batch.fail(record, RecordError("decode_error", "no"))
        return batch.with_data({**record, "decoded": True} for record in good)

    outcome = work_on(records(1, 2, 3), probes)
    assert outcome.codes == {"r:2": "decode_error"}
    assert outcome.quarantined["r:2"].record == {"_id": "r:2", "x": 2}
    assert outcome.kept_ids == ["r:1", "r:3"]


def test_values_that_cannot_be_copied_may_travel_between_fused_stages() -> None:
    @processing_stage(name="opens")
    def opens(record: dict) -> dict:
        record["lock"] = threading.Lock()
        return record

    @processing_stage(name="closes")
    def closes(record: dict) -> dict:
        del record["lock"]
        if record["x"] == 2:
            raise ValueError("2")
        return record

    outcome = work_on(records(1, 2, 3), opens, closes, encode=True)
    assert outcome.codes == {"r:2": "stage_error"}
    assert len(outcome.kept) == 2


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (float("nan"), None),
        ({1, 2}, None),
        (b"bytes", None),
        (object(), None),
        ([float("inf")], None),
        pytest.param(10**5000, None, id="huge"),
        ("\udc80", b'"\\udc80"'),
        ("ü\u2028", '"ü\u2028"'.encode()),
        ((1, 2), b"[1, 2]"),
    ],
)
def test_a_row_that_cannot_be_stored_goes_to_quarantine_alone(value: Any, stored: bytes | None) -> None:
    def puts(record: dict) -> dict:
        if record["x"] == 2:
            record["value"] = value
        return record

    outcome = work_on(records(1, {"x": 2, "duration": 1.5}, 3), each(puts), encode=True)
    if stored is None:
        note = outcome.quarantined["r:2"]
        assert (note.code, note.stage) == ("bad_value", "each")
        assert "column 'value'" in note.message
        assert note.record["duration"] == 1.5  # or the books would lose the audio
        assert len(outcome.kept) == 2
    else:
        assert not outcome.quarantined
        assert stored in outcome.kept[1]


def test_deeply_nested_and_circular_values_go_to_quarantine() -> None:
    circle: list[Any] = []
    circle.append(circle)
    deep: Any = 1
    for _ in range(100_000):  # newer Pythons encode 5,000 without a word
        deep = [deep]

    def puts(record: dict) -> dict:
        return {**record, "value": {1: 1, 2: circle, 3: deep}[record["x"]]}

    outcome = work_on(records(1, 2, 3), each(puts), encode=True)
    assert outcome.codes == {"r:2": "bad_value", "r:3": "bad_value"}


def test_numpy_scalars_are_stored_as_numbers() -> None:
    numpy = pytest.importorskip("numpy")

    def puts(record: dict) -> dict:
        return {**record, "f": numpy.float32(0.5), "i": numpy.int64(7), "b": numpy.bool_(True)}

    (row,) = work_on(records(1), each(puts), encode=True).kept
    assert row == b'{"_id": "r:1", "x": 1, "f": 0.5, "i": 7, "b": true}\n'


def test_a_stage_that_cannot_be_set_up_stops_the_run_and_only_what_was_set_up_is_torn_down() -> None:
    events: list[str] = []

    @dataclass
    class Sets(ProcessingStage):
        label: str
        error: Exception | None = field(default=None)

        def setup(self) -> None:
            if self.error:
                raise self.error
            events.append(f"setup {self.label}")

        def teardown(self) -> None:
            events.append(f"teardown {self.label}")
            raise ValueError("teardown is never fatal")

        def process(self, batch: AudioBatch) -> AudioBatch:
            return batch

    runner = StageGroupRunner([Sets("a"), Sets("b", ValueError("no model")), Sets("c")], context=WorkerContext())
    with pytest.raises(InfrastructureError, match="stage 'sets' cannot be set up: ValueError: no model"):
        runner.setup()
    runner.teardown()
    runner.teardown()
    assert events == ["setup a", "teardown a"]


def test_frozen_stages_learn_of_their_run() -> None:
    @attrs.frozen
    class Frozen(RecordStage):
        limit: int = 1

        def process_record(self, record: Record) -> Record:
            return {**record, "roots": self.context.audio_roots}

    assert work_on(records(1), Frozen()).kept[0]["roots"] is None


def test_a_new_batch_need_not_repeat_what_the_records_have_in_common() -> None:
    seen: list[tuple[str, str, str]] = []

    @processing_stage(name="renews")
    def renews(batch: AudioBatch) -> list[AudioBatch]:
        return [AudioBatch(batch.data[:1], "other"), AudioBatch(batch.data[1:])]

    @processing_stage(name="looks")
    def looks(batch: AudioBatch) -> AudioBatch:
        seen.append((batch.filepath_key, batch.task_id, batch.dataset_name))
        return batch

    assert len(work_on(records(1, 2, 3), renews, looks).kept) == 3
    assert seen == [("audio_filepath", "task", "set")] * 2
