"""Stages from functions: the ten-line way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from curate import AudioBatch, Pipeline, ProcessingStage, Reject, Resources, processing_stage
from curate.errors import PlanError
from curate.records import Record
from curate.stage_decorator import BatchFunctionStage, RecordFunctionStage
from curate.stages import ReadRecords


@processing_stage(name="counts", reads=["text"], writes=["words"])
def counts(record: dict) -> dict:
    record["words"] = len(record["text"].split())
    return record


def test_a_function_of_a_record() -> None:
    assert isinstance(counts, RecordFunctionStage)
    assert (counts.name, counts.reads(), counts.writes()) == ("counts", ("text",), ("words",))
    assert counts.process(AudioBatch([{"text": "a b"}])).data == [{"text": "a b", "words": 2}]  # pyright: ignore


def test_a_function_of_a_batch() -> None:
    @processing_stage(name="batches", resources=Resources(cpus=2), batch_size=4, workers=3)
    def batches(batch: AudioBatch) -> list[AudioBatch]:
        return [batch.with_data(batch.data[:1]), batch.with_data(batch.data[1:])]

    assert isinstance(batches, BatchFunctionStage)
    assert (batches.resources, batches.batch_size, batches.workers) == (Resources(cpus=2), 4, 3)
    parts: Any = batches.process(AudioBatch([{"x": 1}, {"x": 2}]))
    assert [part.data for part in parts] == [[{"x": 1}], [{"x": 2}]]
    assert batches.writes() is None


@pytest.mark.parametrize(
    ("annotation", "takes_batch"),
    [
        (AudioBatch, True),
        ("AudioBatch", True),
        (dict, False),
        (dict[str, Any], False),
        ("dict", False),
        ("dict[str, Any]", False),
        (Record, False),
        ("Record", False),
    ],
)
def test_the_parameters_annotation_says_what_it_takes(annotation: Any, takes_batch: bool) -> None:
    def function(item):
        return item

    function.__annotations__ = {"item": annotation}
    stage = processing_stage(name="x")(function)
    assert isinstance(stage, BatchFunctionStage if takes_batch else RecordFunctionStage)


def test_annotations_that_only_a_type_checker_imports_are_understood() -> None:
    def function(batch):
        return batch

    function.__annotations__ = {"batch": "AudioBatch", "return": "NobodyKnows"}
    assert isinstance(processing_stage(name="x")(function), BatchFunctionStage)


def test_a_list_of_batches_is_answered_with_what_the_engine_does() -> None:
    with pytest.raises(PlanError, match="takes a list of batches, but a stage sees one batch at a time"):

        @processing_stage(name="x")
        def merges(batches: list[AudioBatch]) -> AudioBatch:
            return batches[0]


def test_a_function_must_say_what_it_takes() -> None:
    with pytest.raises(PlanError, match=r"name='x'.*annotate the parameter .*; it has no annotation"):
        processing_stage(name="x")(lambda item: item)

    def text(item: str) -> str:
        return item

    with pytest.raises(PlanError, match="not <class 'str'>"):
        processing_stage(name="x")(text)


def test_a_function_takes_one_parameter() -> None:
    def two(a: dict, b: dict) -> dict:
        return a | b

    with pytest.raises(PlanError, match="must take one parameter, a batch"):
        processing_stage(name="x")(two)


def test_cardinality_is_declared_and_checked() -> None:
    with pytest.raises(PlanError, match="cardinality='filter' is not one of"):
        processing_stage(name="x", cardinality="filter")  # pyright: ignore


def test_columns_are_a_list() -> None:
    with pytest.raises(PlanError, match=r"reads='text' must be a list: \['text'\]"):
        processing_stage(name="x", reads="text")


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="has no option 'worker': did you mean 'workers'"):

        @processing_stage(name="x", worker=2)
        def stage(record: dict) -> dict:
            return record


def test_with_keeps_the_function_and_what_it_declares() -> None:
    stage = counts.with_(workers=2, name="again")
    assert (stage.name, stage.workers, stage.reads(), stage.function) == ("again", 2, ("text",), counts.function)
    assert counts.workers is None


def test_a_filter_may_answer_yes_or_no_or_why_not() -> None:
    @processing_stage(name="picks", cardinality="filters")
    def picks(record: dict) -> Any:
        return {1: True, 2: False, 3: None, 4: Reject("four"), 5: record}[record["x"]]

    result = Pipeline("p", [ReadRecords([{"x": x} for x in range(1, 6)]), picks]).run()
    assert [record["x"] for record in result.records()] == [1, 5]
    assert [(note.record["x"], note.reason) for note in result.filtered] == [
        (2, "left out by picks"),
        (3, "left out by picks"),
        (4, "four"),
    ]


def test_a_splitter_may_be_a_generator() -> None:
    @processing_stage(name="cuts", cardinality="splits", writes=["word"])
    def cuts(record: dict) -> Iterator[dict]:
        for word in record["text"].split():
            yield {**record, "word": word}

    records = list(Pipeline("p", [ReadRecords([{"text": "a b"}]), cuts]).run().records())
    assert [(record["_id"], record["word"]) for record in records] == [("records:1/0", "a"), ("records:1/1", "b")]


def test_functions_are_stages() -> None:
    assert isinstance(counts, ProcessingStage)
    assert counts.settings()["function"] is counts.function


def test_a_stage_can_be_called_like_the_function_that_it_was_made_of() -> None:
    assert counts({"text": "a b c"}) == {"text": "a b c", "words": 3}


@pytest.mark.parametrize("truth", [np.bool_, bool])
def test_a_filter_may_answer_with_numpys_truth(truth: Any) -> None:
    @processing_stage(name="positive", cardinality="filters")
    def positive(record: dict) -> Any:
        return truth(record["x"] > 0)

    assert positive.process(AudioBatch([{"x": 1}, {"x": -1}])).data == [{"x": 1}]  # pyright: ignore
