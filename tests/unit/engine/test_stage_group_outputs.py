"""What a worker makes of the odd things that a stage may return."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from worker import records, work_on

from curate import AudioBatch, ProcessingStage, RecordError, processing_stage
from curate.records import Record


@pytest.mark.parametrize(
    "lazily",
    [
        lambda data: filter(None, data),
        lambda data: map(dict, data),
        lambda data: (record for record in data),
        tuple,
    ],
)
def test_a_batch_function_may_set_its_data_to_whatever_yields_records(lazily: Any) -> None:
    @processing_stage(name="lazy")
    def lazy(batch: AudioBatch) -> AudioBatch:
        batch.data = lazily(batch.data)
        return batch

    assert work_on(records(1, 2, 3), lazy).kept_ids == ["r:1", "r:2", "r:3"]
    assert list(lazy.process(AudioBatch([{"x": 1}])).data) == [{"x": 1}]


@pytest.mark.parametrize("data", [None, 7, "text", ["text"], [None]])
def test_the_data_of_a_batch_is_dicts(data: Any) -> None:
    @processing_stage(name="sets")
    def sets(batch: AudioBatch) -> AudioBatch:
        batch.data = data
        return batch

    message = r"the data of a batch must be a list of dicts|a record must be a plain dict"
    with pytest.raises(TypeError, match=message):
        AudioBatch(data)
    (note,) = work_on(records(1), sets).quarantined.values()
    assert re.search(message, note.message)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda batch: batch.data, "stage 'returns' returned a list of dicts; return the batch"),
        (lambda batch: batch.data[0], "stage 'returns' returned a dict; return the batch"),
        (lambda batch: batch.data.append("x") or batch, "a record must be a plain dict, not str: 'x'"),
    ],
)
def test_a_batch_function_that_returns_something_else_is_told_what_to_return(returned: Any, message: str) -> None:
    @processing_stage(name="returns")
    def returns(batch: AudioBatch) -> AudioBatch:
        return returned(batch)

    assert message in work_on(records(1), returns).quarantined["r:1"].message


def test_a_generator_may_change_a_record_and_yield_it_again() -> None:
    @processing_stage(name="parts", cardinality="splits")
    def parts(record: dict) -> Iterator[Record]:
        for part in range(3):
            record["part"] = part
            yield record

    outcome = work_on(records(1), parts)
    assert [(row["_id"], row["part"]) for row in outcome.kept] == [("r:1/0", 0), ("r:1/1", 1), ("r:1/2", 2)]
    assert [row["part"] for row in parts.process(AudioBatch([{"x": 1}])).data] == [0, 1, 2]


def test_a_batch_stage_that_splits_into_one_dict_several_times_is_told_to_copy() -> None:
    @processing_stage(name="parts", cardinality="splits")
    def parts(batch: AudioBatch) -> AudioBatch:
        return batch.with_data([record for record in batch.data for _ in range(2 if record["x"] == 2 else 1)])

    outcome = work_on(records(1, 2), parts)
    assert outcome.kept_ids == ["r:1/0"]
    assert outcome.codes == {"r:2": "contract_repeated"}
    assert "the same dict for several parts of r:2; return a new one for each" in outcome.quarantined["r:2"].message


@pytest.mark.parametrize("texts", [lambda record: iter(["a", "b"]), lambda record: "ab", lambda record: 7])
def test_a_split_into_texts_is_told_what_to_yield(texts: Any) -> None:
    @processing_stage(name="parts", cardinality="splits")
    def parts(record: dict) -> Any:
        return texts(record)

    message = work_on(records(1), parts).quarantined["r:1"].message
    assert "stage 'parts' yielded a str: 'a'; yield dicts" in message or "; return a record, or several" in message
    with pytest.raises(TypeError, match="stage 'parts'"):
        parts.process(AudioBatch([{"x": 1}]))


def test_an_error_that_a_generator_raises_is_its_records_in_eager_use_as_well() -> None:
    @processing_stage(name="parts", cardinality="splits")
    def parts(record: dict) -> Iterator[Record]:
        yield record
        raise RecordError("too_long", "it has 99 s")

    done = parts.process(AudioBatch([{"x": 1}]))
    assert (done.data, [note.error.code for note in done.failed]) == ([], ["too_long"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda batch, record: batch.fail(record, "no"), "the error is a RecordError"),
        (lambda batch, record: batch.reject(record, ValueError("no")), "the reason must be a string"),
        (lambda batch, record: batch.reject(record["_id"], "no"), "a record must be a plain dict, not str"),
    ],
)
def test_notes_of_the_wrong_type_are_refused_and_the_books_balance(spoil: Any, message: str) -> None:
    class Notes(ProcessingStage):
        cardinality = "filters"

        def process(self, batch: AudioBatch) -> AudioBatch:
            for record in batch.data:
                if record["x"] % 2:
                    batch.reject(record, "odd")
                elif record["x"] == 4:
                    spoil(batch, record)
            return batch.with_data([record for record in batch.data if record["x"] in (0, 2)])

    outcome = work_on(records(*range(6)), Notes())
    assert outcome.kept_ids == ["r:1", "r:3"]
    assert list(outcome.filtered) == ["r:2", "r:4", "r:6"]
    assert message in outcome.quarantined["r:5"].message
