"""Records share nothing that a stage could change: not with their siblings, their neighbours, nor with the caller."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from curate import AudioBatch, Pipeline, ProcessingStage, RecordError, Reject, processing_stage
from curate.engine.worker.snapshot import Snapshot, copies_of
from curate.records import Record
from curate.stage import RecordStage
from curate.stages import ReadRecords
from tests.unit.engine.worker import records, work_on


class BatchUnreadable:
    """Can be pickled, and not be read back."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("not a number",)


@processing_stage(name="cut", cardinality="splits")
def cut(record: Record) -> list[Record]:
    return [{**record, "part": number} for number in range(2)]


@processing_stage(name="tagged")
def tagged(record: Record) -> Record:
    record["tags"].append(record.get("part", "seen"))
    return record


def test_parts_of_one_record_do_not_share_its_lists() -> None:
    outcome = work_on(records({"tags": []}), cut, tagged)
    assert [record["tags"] for record in outcome.kept] == [[0], [1]]


@pytest.mark.parametrize("odd", [lambda: lambda: 1, BatchUnreadable], ids=["cannot be pickled", "cannot be read back"])
def test_one_odd_value_does_not_spoil_the_neighbours(odd: Callable[[], Any]) -> None:
    @processing_stage(name="puts")
    def puts(record: Record) -> Record:
        return {**record, "odd": odd()} if record["x"] == 1 else record

    @dataclasses.dataclass
    class Fails(ProcessingStage):
        name = "fails"

        def process(self, batch: AudioBatch) -> AudioBatch:
            for record in batch.data:
                record.pop("odd", None)
                record["tags"].append(record["x"])
            if any(record["x"] == 2 for record in batch.data):
                raise ValueError("two")
            return batch

    rows = records(*({"x": x, "tags": []} for x in (1, 2, 3)))
    outcome = work_on(rows, puts, Fails())
    assert outcome.codes == {"r:2": "stage_error"}
    assert outcome.quarantined["r:2"].record["tags"] == []
    assert outcome.kept[1]["tags"] == [3]


@pytest.mark.parametrize("kind", ["float32", "array", "bytearray", "nested", "plain"])
def test_values_of_any_kind_are_the_same_when_a_batch_is_tried_again(kind: str) -> None:
    numpy = pytest.importorskip("numpy")
    make: dict[str, Callable[[], Any]] = {
        "float32": lambda: numpy.float32(0.5),
        "array": lambda: numpy.arange(3.0),
        "bytearray": lambda: bytearray(b"ab"),
        "nested": lambda: {"words": ["a", ["b"]]},
        "plain": lambda: "text",
    }
    seen: list[tuple[str, bool]] = []

    @processing_stage(name="puts")
    def puts(record: Record) -> Record:
        return {**record, "value": make[kind]()}

    @dataclasses.dataclass
    class Spoils(ProcessingStage):
        name = "spoils"

        def process(self, batch: AudioBatch) -> AudioBatch:
            for record in batch.data:
                value, expected = record["value"], make[kind]()
                seen.append((record["_id"], type(value) is type(expected) and repr(value) == repr(expected)))
                if kind in ("array", "bytearray"):
                    value[0] += 1
                elif kind == "nested":
                    value["words"][1].append("c")
                record["value"] = None
            if any(record["x"] == 2 for record in batch.data):
                raise ValueError("bad")
            return batch

    outcome = work_on(records(1, 2, 3), puts, Spoils())
    assert outcome.codes.keys() == {"r:2"}
    assert len(seen) > 3 and all(same for _, same in seen), seen


def test_a_snapshot_shares_only_what_cannot_be_copied() -> None:
    odd = BatchUnreadable()
    before: Record = {"_id": "r:1", "list": [1], "odd": (lambda: 1), "number": 2}
    snapshot = Snapshot([before])
    before["list"].append(2)
    assert snapshot["r:1"]["list"] == [1]
    assert snapshot["r:1"]["odd"] is before["odd"]
    assert copies_of([{"_id": "r:2", "odd": odd}])[0]["odd"] is odd


@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
def test_the_callers_records_stay_as_they_are(executor: str) -> None:
    rows = [{"tags": []}]
    pipeline = Pipeline("p", [ReadRecords(rows), tagged])
    found = [[record["tags"] for record in pipeline.run(executor).records()] for _ in range(2)]
    assert found == [[["seen"]], [["seen"]]]
    assert rows == [{"tags": []}]
    (batch,) = Pipeline("s", [tagged]).stream(iter([AudioBatch(rows)]), executor)
    assert batch.data == [{"tags": ["seen"]}]
    assert rows == [{"tags": []}]


def test_a_stream_keeps_what_was_left_out_before() -> None:
    batch = AudioBatch([{"x": 1}, {"x": 2}])
    batch.reject({"x": 0}, "before")
    batch.fail({"x": -1}, RecordError("bad_value", "before"))

    @processing_stage(name="odd_ones", cardinality="filters")
    def odd_ones(record: Record) -> Record | Reject:
        return record if record["x"] % 2 else Reject("even")

    (done,) = Pipeline("s", [odd_ones]).stream(iter([batch]))
    assert [note.reason for note in done.rejected] == ["before", "even"]
    assert [note.error.message for note in done.failed] == ["before"]


@pytest.mark.parametrize("reason", [None, 42, ValueError("bad")])
def test_a_reason_that_is_no_text_costs_one_record(reason: Any) -> None:
    @processing_stage(name="rejects", cardinality="filters")
    def rejects(record: Record) -> Record | Reject:
        return Reject(reason) if record["x"] == 2 else record

    outcome = work_on(records(1, 2, 3), rejects)
    assert outcome.codes == {"r:2": "stage_error"}
    assert "the reason must be a string" in outcome.quarantined["r:2"].message


def test_the_message_of_an_error_is_a_text() -> None:
    assert RecordError("bad_value", ValueError("because")).message == "because"  # pyright: ignore[reportArgumentType]


def test_a_stage_may_return_the_same_dict_every_time() -> None:
    class Reuses(RecordStage):
        name = "reuses"

        def setup(self) -> None:
            self.out: Record = {}

        def process_record(self, record: Record) -> Record:
            self.out.clear()
            self.out.update(record)
            return self.out

    assert [record["x"] for record in work_on(records(1, 2, 3), Reuses()).kept] == [1, 2, 3]


def test_a_stage_may_pickle_and_copy_its_batch() -> None:
    class Sends(ProcessingStage):
        name = "sends"

        def process(self, batch: AudioBatch) -> AudioBatch:
            sent = pickle.loads(pickle.dumps(batch))
            assert (sent.task_id, sent.data) == ("task", batch.data)
            assert copy.copy(batch).data is batch.data
            return sent

    assert len(work_on(records(1, 2), Sends()).kept) == 2


@pytest.mark.parametrize("how", ["replace", "stream"])
def test_a_copy_of_the_batch_tells_its_notes_once(how: str) -> None:
    @dataclasses.dataclass
    class Copies(ProcessingStage):
        name = "copies"
        cardinality = "filters"

        def process(self, batch: AudioBatch) -> AudioBatch:
            batch.reject(batch.data[0], "first")
            batch.fail(batch.data[1], RecordError("bad_value", "second"))
            return dataclasses.replace(batch, data=batch.data[2:])

    @dataclasses.dataclass
    class Streams(Copies):
        def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
            yield self.process(batch)

    outcome = work_on(records(1, 2, 3), Copies() if how == "replace" else Streams())
    assert [record["x"] for record in outcome.kept] == [3]
    assert outcome.filtered.keys() == {"r:1"}
    assert outcome.codes == {"r:2": "bad_value"}
