"""Stages are held to what they declare: they map, filter or split."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from worker import records, work_on

from curate import AudioBatch, InfrastructureError, ProcessingStage, RecordStage, Reject, processing_stage
from curate.records import Record
from curate.stage import Cardinality


def batch_stage(change: Callable[[list[Record]], list[Record]], cardinality: Cardinality = "maps") -> Any:
    @processing_stage(name="batchwise", cardinality=cardinality)
    def stage(batch: AudioBatch) -> AudioBatch:
        return batch.with_data(change(batch.data))

    return stage


def stream_stage(
    change: Callable[[list[Record]], Iterator[list[Record]]], declared: Cardinality = "maps"
) -> ProcessingStage:
    class Streamwise(ProcessingStage):
        cardinality = declared

        def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
            for part in change(batch.data):
                yield batch.with_data(part)

    return Streamwise()


def without(x: int) -> Callable[[list[Record]], list[Record]]:
    return lambda data: [record for record in data if record["x"] != x]


def test_a_mapping_stage_that_loses_a_record_is_named() -> None:
    outcome = work_on(records(1, 2, 3), batch_stage(without(2)))
    assert outcome.codes == {"r:2": "contract_lost"}
    assert outcome.quarantined["r:2"].message == (
        "stage 'batchwise' maps, but did not return r:2; "
        "return every record once, or declare cardinality='filters' and reject with a reason"
    )
    assert outcome.kept_ids == ["r:1", "r:3"]


def test_a_mapping_stage_that_repeats_a_record_is_named() -> None:
    outcome = work_on(records(1, 2), batch_stage(lambda data: [r for r in data for _ in range(r["x"])]))
    assert outcome.codes == {"r:2": "contract_repeated"}
    assert "'batchwise' maps, but returned r:2 more than once" in outcome.quarantined["r:2"].message


def test_a_stage_that_invents_a_record_is_named() -> None:
    def invents(data: list[Record]) -> list[Record]:
        return data + [{"_id": "r:99"} for record in data if record["x"] == 2]

    outcome = work_on(records(1, 2), batch_stage(invents))
    assert outcome.codes == {"r:2": "contract_invented"}
    assert "returned r:99, which it was not given" in outcome.quarantined["r:2"].message


def test_a_stage_that_drops_the_id_is_told_how_to_copy_a_record() -> None:
    outcome = work_on(records(1), batch_stage(lambda data: [{"x": record["x"]} for record in data]))
    assert outcome.codes == {"r:1": "contract_invented"}
    assert "a record without its `_id`; change the records that came, or copy" in outcome.quarantined["r:1"].message


def test_a_batch_in_another_order_is_fine() -> None:
    assert sorted(work_on(records(1, 2, 3), batch_stage(lambda data: data[::-1])).kept_ids) == ["r:1", "r:2", "r:3"]


@pytest.mark.parametrize("cardinality", ["maps", "splits"])
def test_a_streaming_stage_that_loses_a_record_is_named(cardinality: Cardinality) -> None:
    stage = stream_stage(lambda data: ([record] for record in data if record["x"] != 2), cardinality)
    outcome = work_on(records(1, 2, 3), stage)
    assert outcome.codes == {"r:2": "contract_lost"}
    assert len(outcome.kept) == 2


def test_a_streaming_stage_that_invents_a_record_is_named() -> None:
    stage = stream_stage(lambda data: iter([[{**data[0], "_id": "x"}], data]))
    assert work_on(records(1), stage).codes == {"r:1": "contract_invented"}


@pytest.mark.parametrize("order", [[1, 1, 2], [1, 2, 1]])
def test_a_stage_that_streams_a_record_again_is_stopped_and_named(order: list[int]) -> None:
    stage = stream_stage(lambda data: ([data[number - 1]] for number in order))
    with pytest.raises(InfrastructureError, match="stage 'streamwise' streamed r:1 more than once; yield it once"):
        work_on(records(1, 2), stage)


def test_a_streaming_stage_that_invents_a_record_at_the_end_is_stopped_and_named() -> None:
    stage = stream_stage(lambda data: iter([data, [{"_id": "x"}]]))
    with pytest.raises(InfrastructureError, match="stage 'streamwise' maps, but returned x, which it was not given"):
        work_on(records(1, 2), stage)


def test_a_record_function_that_returns_nothing_is_named() -> None:
    @processing_stage(name="forgets")
    def forgets(record: dict) -> Any:
        record["y"] = 1  # and no `return record`

    outcome = work_on(records(1), forgets)
    assert outcome.codes == {"r:1": "contract_lost"}
    assert "'forgets' maps, but returned nothing for r:1; return the record" in outcome.quarantined["r:1"].message


@pytest.mark.parametrize("result", ["text", [{"x": 1}], True, Reject("no")])
def test_a_mapping_record_function_returns_a_record_and_nothing_else(result: Any) -> None:
    @processing_stage(name="odd")
    def odd(record: dict) -> dict:
        return result

    assert work_on(records(1), odd).codes == {"r:1": "contract_lost"}


def test_a_record_keeps_its_id_whatever_a_record_function_does_to_it() -> None:
    @processing_stage(name="renames")
    def renames(record: dict) -> dict:
        return {"_id": "mine", "x": record["x"]} if record["x"] == 1 else {"x": record["x"]}

    assert work_on(records(1, 2), renames).kept == [{"_id": "r:1", "x": 1}, {"x": 2, "_id": "r:2"}]


@pytest.mark.parametrize("cardinality", ["maps", "filters"])
def test_a_function_may_return_the_same_dict_for_several_records(cardinality: Cardinality) -> None:
    same = {"language": "de"}

    @processing_stage(name="caches", cardinality=cardinality)
    def caches(record: dict) -> dict:
        return same

    assert work_on(records(1, 2, 3), caches).kept_ids == ["r:1", "r:2", "r:3"]


@pytest.mark.parametrize("cardinality", ["maps", "filters", "splits"])
def test_a_dict_of_another_kind_becomes_a_record(cardinality: Cardinality) -> None:
    @processing_stage(name="orders", cardinality=cardinality)
    def orders(record: dict) -> dict:
        return OrderedDict(record)

    outcome = work_on(records(1, 2), orders, orders, encode=True)
    assert len(outcome.kept) == 2


# Filters.


def test_a_filter_says_why_it_leaves_a_record_out() -> None:
    class Short(RecordStage):
        cardinality = "filters"

        def process_record(self, record: Record) -> Record | Reject:
            return record if record["x"] < 3 else Reject(f"x = {record['x']}")

    outcome = work_on(records(1, 5), Short())
    assert {i: (note.stage, note.reason) for i, note in outcome.filtered.items()} == {"r:2": ("short", "x = 5")}


@pytest.mark.parametrize("result", [False, None])
def test_a_filter_without_a_reason_gives_its_name(result: bool | None) -> None:
    @processing_stage(name="drops", cardinality="filters")
    def drops(record: dict) -> Any:
        return record if record["x"] == 1 else result

    outcome = work_on(records(1, 2), drops)
    assert outcome.filtered["r:2"].reason == "left out by drops"
    assert outcome.kept_ids == ["r:1"]


def test_a_batch_filter_may_reject_with_a_reason_or_simply_leave_out() -> None:
    @processing_stage(name="sieve", cardinality="filters")
    def sieve(batch: AudioBatch) -> AudioBatch:
        batch.reject(batch.data[0], "the first")
        batch.data = batch.data[2:]
        return batch

    outcome = work_on(records(1, 2, 3), sieve)
    assert {i: note.reason for i, note in outcome.filtered.items()} == {"r:1": "the first", "r:2": "left out by sieve"}


def test_rejects_may_stand_on_the_batch_that_is_returned() -> None:
    @processing_stage(name="sieve", cardinality="filters")
    def sieve(batch: AudioBatch) -> AudioBatch:
        result = batch.with_data(batch.data[1:])
        result.reject(batch.data[0], "the first")
        return result

    assert list(work_on(records(1, 2), sieve).filtered) == ["r:1"]


def test_a_record_that_is_rejected_and_returned_is_repeated() -> None:
    @processing_stage(name="sieve", cardinality="filters")
    def sieve(batch: AudioBatch) -> AudioBatch:
        batch.reject(batch.data[0], "no")
        return batch

    assert work_on(records(1), sieve).codes == {"r:1": "contract_repeated"}


def test_a_mapping_stage_may_not_reject() -> None:
    @processing_stage(name="sieve")
    def sieve(batch: AudioBatch) -> AudioBatch:
        batch.reject(batch.data[0], "no")
        return batch.with_data(batch.data[1:])

    outcome = work_on(records(1, 2), sieve)
    assert outcome.codes == {"r:1": "contract_lost", "r:2": "contract_lost"}


def test_a_filter_may_leave_out_everything() -> None:
    assert len(work_on(records(1, 2), batch_stage(lambda data: [], "filters")).filtered) == 2


def test_a_streaming_filter_need_not_mention_what_it_leaves_out() -> None:
    stage = stream_stage(lambda data: ([record] for record in data if record["x"] != 2), "filters")
    outcome = work_on(records(1, 2, 3), stage)
    assert list(outcome.filtered) == ["r:2"]
    assert outcome.kept_ids == ["r:1", "r:3"]


# Splits.


def halves(record: Record) -> list[Record]:
    return [{**record, "part": part, "duration": record["duration"] / 2} for part in "ab"]


split_records = processing_stage(name="split_records", cardinality="splits")


def test_children_are_numbered_in_the_order_in_which_they_are_yielded() -> None:
    @split_records
    def stage(record: dict) -> Iterator[dict]:
        yield from halves(record)

    outcome = work_on(records({"duration": 3.0}, {"duration": 5.0}), stage)
    assert [(row["_id"], row["part"]) for row in outcome.kept] == [
        ("r:1/0", "a"),
        ("r:1/1", "b"),
        ("r:2/0", "a"),
        ("r:2/1", "b"),
    ]
    assert [(s.root, s.children, s.parent_ms, s.children_ms) for s in outcome.splits] == [
        ("r:1", 2, 3000, 3000),
        ("r:2", 2, 5000, 5000),
    ]
    assert outcome.parts[0].kept_roots == ["r:1", "r:1", "r:2", "r:2"]


def test_a_batch_stage_splits_by_returning_copies_with_their_parents_id() -> None:
    stage = batch_stage(lambda data: [child for record in data for child in halves(record)][::-1], "splits")
    outcome = work_on(records({"duration": 3.0}, {"duration": 5.0}), stage)
    assert {row["_id"]: row["part"] for row in outcome.kept} == {"r:1/0": "b", "r:1/1": "a", "r:2/0": "b", "r:2/1": "a"}


def test_a_split_record_may_change_while_it_is_split_without_touching_the_books() -> None:
    @split_records
    def stage(record: dict) -> Iterator[dict]:
        for duration in (1.0, 2.0):
            record["duration"] = duration
            yield dict(record)

    (split,) = work_on(records({"duration": 3.0}), stage).splits
    assert (split.parent_ms, split.children_ms) == (3000, 3000)


def test_the_same_dict_yielded_twice_gives_two_children() -> None:
    @split_records
    def stage(record: dict) -> list[dict]:
        return [record, record]

    assert work_on(records(1), stage).kept_ids == ["r:1/0", "r:1/1"]


def test_splits_nest() -> None:
    @split_records
    def stage(record: dict) -> list[dict]:
        return [dict(record), dict(record)]

    outcome = work_on(records(1, 2), stage, stage.with_(name="again"))
    assert outcome.kept_ids[:4] == ["r:1/0/0", "r:1/0/1", "r:1/1/0", "r:1/1/1"]
    assert {split.root for split in outcome.splits} == {"r:1", "r:2"}
    assert len(outcome.splits) == 2 * 3


def test_children_that_are_streamed_out_of_order_are_acknowledged_together_and_in_order() -> None:
    @split_records
    def stage(record: dict) -> list[dict]:
        return [{**record, "k": k} for k in range(3)]

    backwards = stream_stage(lambda data: ([record] for record in reversed(data)))
    outcome = work_on(records(1, 2), stage, backwards)
    assert [[row["_id"] for row in cast("list[Record]", part.kept)] for part in outcome.parts] == [
        ["r:2/0", "r:2/1", "r:2/2"],
        ["r:1/0", "r:1/1", "r:1/2"],
    ]


def test_children_have_fates_of_their_own() -> None:
    @split_records
    def stage(record: dict) -> list[dict]:
        return [{**record, "k": k} for k in range(4)]

    @processing_stage(name="judges", cardinality="filters")
    def judges(record: dict) -> dict:
        if record["k"] == 1:
            raise ValueError("1")
        return record["k"] != 2

    outcome = work_on(records(1), stage, judges)
    assert outcome.kept_ids == ["r:1/0", "r:1/3"]
    assert list(outcome.filtered) == ["r:1/2"]
    assert list(outcome.quarantined) == ["r:1/1"]
    assert outcome.quarantined["r:1/1"].root == "r:1"


@pytest.mark.parametrize("result", [[], None, iter(())])
def test_a_record_that_is_split_into_nothing_was_lost(result: Any) -> None:
    @split_records
    def stage(record: dict) -> list[dict]:
        return result

    outcome = work_on(records(1), stage)
    assert outcome.codes == {"r:1": "contract_lost"}
    assert outcome.splits == []


def test_a_splitter_rejects_what_has_no_parts() -> None:
    @split_records
    def stage(record: dict) -> Reject:
        return Reject("silence")

    outcome = work_on(records(1), stage)
    assert outcome.filtered["r:1"].reason == "silence"
    assert outcome.splits == []


def test_a_splitter_that_returns_the_record_itself_makes_one_child() -> None:
    @split_records
    def stage(record: dict) -> dict:
        return record

    outcome = work_on(records(1), stage)
    assert outcome.kept_ids == ["r:1/0"]
    assert len(outcome.splits) == 1


def test_a_split_that_fails_half_way_leaves_nothing_behind() -> None:
    @split_records
    def stage(record: dict) -> Iterator[dict]:
        yield dict(record)
        if record["x"] == 1:
            raise ValueError("half way")

    outcome = work_on(records(1, 2), stage)
    assert outcome.kept_ids == ["r:2/0"]
    assert list(outcome.quarantined) == ["r:1"]
    assert [split.root for split in outcome.splits] == ["r:2"]


def test_all_parts_of_a_record_are_streamed_together() -> None:
    together = stream_stage(lambda data: ([record, dict(record)] for record in data), "splits")
    assert work_on(records(1, 2), together).kept_ids == ["r:1/0", "r:1/1", "r:2/0", "r:2/1"]
    apart = stream_stage(lambda data: ([record] for record in data for _ in range(2)), "splits")
    with pytest.raises(InfrastructureError, match="yield all parts of a record together"):
        work_on(records(1, 2), apart)


@pytest.mark.parametrize("result", [None, "text", {"x": 1}, [{"x": 1}]])
def test_a_batch_stage_returns_batches_and_nothing_else(result: Any) -> None:
    @processing_stage(name="odd")
    def odd(batch: AudioBatch) -> AudioBatch:
        return result

    note = work_on(records(1), odd).quarantined["r:1"]
    assert note.code == "stage_error"
    assert "stage 'odd' returned" in note.message
    assert "return the batch, or a list of batches" in note.message


def test_a_stream_yields_batches_and_nothing_else() -> None:
    class Odd(ProcessingStage):
        def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
            yield batch.data[0]  # pyright: ignore

    assert "returned a dict; return the batch" in work_on(records(1), Odd()).quarantined["r:1"].message
