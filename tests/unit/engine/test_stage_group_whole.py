"""A batch of which every record is kept comes back as a whole; any other comes back record by record."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportAssignmentType=false
# rows are records here, though they may be bytes
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from curate import RecordError, Reject, processing_stage
from curate.engine.protocol.messages import BatchTask, PartialResult
from curate.engine.worker.stage_group import StageGroupRunner
from curate.io.rows import encode_row
from curate.records import Record
from curate.stage import ProcessingStage, RecordStage, WorkerContext
from tests.unit.engine.worker import records


@processing_stage(name="tags")
def tags(record: Record) -> Record:
    record["tag"] = record["x"]
    return record


@processing_stage(name="renews")
def renews(record: Record) -> Record:
    return {**record, "new": True}


def outcomes_of(data: list[Record], *stages: ProcessingStage, encode: bool = False) -> list[PartialResult]:
    runner = StageGroupRunner(
        stages, context=WorkerContext(), encode=encode_row if encode else None, blamed={"": "tags"}
    )
    runner.setup()
    return list(runner.run(BatchTask(3, data, "audio_filepath", "", "")))


def the_part(data: list[Record], *stages: ProcessingStage, encode: bool = False) -> PartialResult:
    (outcome,) = outcomes_of(data, *stages, encode=encode)
    assert not outcome.is_whole
    return outcome


@pytest.mark.parametrize("encode", [False, True], ids=["records", "rows"])
def test_a_batch_that_is_kept_comes_back_whole(encode: bool) -> None:
    data = records({"x": 1, "duration": 1.5}, {"x": 2})
    (outcome,) = outcomes_of(data, tags, renews, encode=encode)
    assert outcome.is_whole
    expected: list[Any] = [{**record, "tag": record["x"], "new": True} for record in data]
    assert outcome.kept == ([encode_row(record) for record in expected] if encode else expected)
    assert (outcome.number, outcome.input_ms, len(outcome.busy_s)) == (3, [1500, 0], 2)
    assert outcome.kept_ms is outcome.input_ms
    part = outcome.with_roots(["r:1", "r:2"])
    assert (part.kept, part.kept_roots, part.kept_ms) == (outcome.kept, ["r:1", "r:2"], [1500, 0])


@pytest.mark.parametrize("after", [2.0, 3, None])
def test_a_length_that_has_changed_is_told(after: Any) -> None:
    @processing_stage(name="measures", writes=["duration"])
    def measures(record: Record) -> Record:
        return {**record, "duration": after}

    (outcome,) = outcomes_of(records({"duration": 1.5}), measures)
    assert outcome.is_whole
    assert (outcome.input_ms, outcome.kept_ms) == ([1500], [int((after or 0) * 1000)])


def test_lengths_that_can_be_changed_in_place_are_not_trusted() -> None:
    numpy = pytest.importorskip("numpy")

    @processing_stage(name="doubles", writes=["duration"])
    def doubles(record: Record) -> Record:
        record["duration"] *= 2
        return record

    data = records({"duration": numpy.array(1.5)}, {"duration": numpy.array(0.5)})
    assert the_part(data, doubles).kept_ms == [3000, 1000]


def _fails(record: Record) -> Record:
    if record["x"] == 2:
        raise RecordError("bad_value", "two")
    return record


def _rejects(record: Record) -> Record | Reject:
    return Reject("two") if record["x"] == 2 else record


@pytest.mark.parametrize("encode", [False, True], ids=["records", "rows"])
@pytest.mark.parametrize(
    ("function", "cardinality"), [(_fails, "maps"), (_rejects, "filters")], ids=["fails", "rejects"]
)
def test_a_batch_with_a_gap_does_not(function: Callable[..., Any], cardinality: Any, encode: bool) -> None:
    function.__annotations__["record"] = dict
    stage = processing_stage(name="drops", cardinality=cardinality)(function)
    part = the_part(records(1, 2, 3), stage, tags, encode=encode)
    assert part.kept_roots == ["r:1", "r:3"]
    assert [note.root for note in (*part.filtered, *part.quarantined)] == ["r:2"]


def test_a_record_that_cannot_be_stored_costs_itself_alone() -> None:
    @processing_stage(name="spoils")
    def spoils(record: Record) -> Record:
        return {**record, "value": object()} if record["x"] == 2 else record

    part = the_part(records(1, 2, 3), spoils, encode=True)
    assert part.kept_roots == ["r:1", "r:3"]
    assert [(note.root, note.code) for note in part.quarantined] == [("r:2", "bad_value")]


def test_parts_of_a_batch_come_back_as_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(1000))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(now)))
    outcomes = outcomes_of(records(1, 2, 3), tags)
    assert len(outcomes) > 1
    assert not any(outcome.is_whole for outcome in outcomes)
    assert [root for outcome in outcomes for root in outcome.roots()] == [
        "r:1",
        "r:2",
        "r:3",
    ]


def test_a_stage_that_takes_the_id_away_cannot_hide_a_record() -> None:
    class Hides(RecordStage):
        name = "hides"

        def process_record(self, record: Record) -> Record:
            if record["x"] == 2:
                record["_id"] = "r:1"
            if record["x"] == 3:
                del record["_id"]
            return record

    (outcome,) = outcomes_of(records(1, 2, 3, 4), Hides(), tags)
    assert [(record["_id"], record["x"]) for record in outcome.kept] == [("r:1", 1), ("r:2", 2), ("r:3", 3), ("r:4", 4)]


def test_what_a_stage_returns_is_judged_in_the_order_of_the_records() -> None:
    """The very record, a new one, a note, an error and several parts, one after the other."""

    class Everything(RecordStage):
        name = "everything"
        cardinality = "splits"

        def process_record(self, record: Record) -> Any:
            kind = record["x"] % 4
            if kind == 0:
                return record
            if kind == 1:
                return [{**record, "part": number} for number in range(2)]
            if kind == 2:
                return Reject("two")
            return self._broken(record)

        def _broken(self, record: Record) -> Iterator[Record]:
            yield record
            raise ValueError("three")

    part = the_part(records(*range(40)), Everything())
    assert [record["x"] for record in part.kept] == [x for x in range(40) for _ in range((1, 2, 0, 0)[x % 4])]
    assert [note.record["x"] for note in part.filtered] == list(range(2, 40, 4))
    assert [note.record["x"] for note in part.quarantined] == list(range(3, 40, 4))


@pytest.mark.parametrize("size", [1, 2, 8])
def test_what_a_filter_remembers_is_its_own(size: int) -> None:
    """It may compare with the last record that it has kept, whatever the stages behind it do with that one."""

    class Louder(RecordStage):
        name = "louder"
        cardinality = "filters"

        def setup(self) -> None:
            self.last: Record = {"x": 0}

        def process_record(self, record: Record) -> Record | None:
            if record["x"] <= self.last["x"]:
                return None
            self.last = record
            return record

    @processing_stage(name="negates")
    def negates(record: Record) -> Record:
        record["x"] = -record["x"]
        return record

    runner = StageGroupRunner([Louder(), negates], context=WorkerContext(), blamed={"": "negates"})
    runner.setup()
    data = records(3, 1, 5, 4, 6, 2, 7, 5)
    kept: list[Any] = []
    for start in range(0, len(data), size):
        for outcome in runner.run(BatchTask(1, data[start : start + size], "audio_filepath", "", "")):
            kept.extend(outcome.kept)
    assert [record["x"] for record in kept] == [-3, -5, -6, -7]


def test_an_id_that_cannot_be_compared_is_taken_back() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ValueError("neither true nor false")

        __hash__ = None

    @processing_stage(name="spoils")
    def spoils(record: Record) -> Record:
        if record["x"] == 20:
            record["_id"] = Odd()
        return record

    (outcome,) = outcomes_of(records(*range(40)), spoils)
    assert [record["_id"] for record in outcome.kept] == [f"r:{number}" for number in range(1, 41)]
