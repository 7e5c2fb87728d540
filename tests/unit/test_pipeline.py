"""Pipelines: run in memory and in a run directory, stream, describe."""

from __future__ import annotations

import copy
import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import (
    AudioBatch,
    Gather,
    InfrastructureError,
    Pipeline,
    ProcessingStage,
    Resources,
    Writer,
    processing_stage,
)
from curate.errors import PlanError, PluginError
from curate.records import Record, RecordReader
from curate.stages import Merge, Partition, QualityFilter, ReadRecords

ROWS: list[Record] = [{"x": x, "duration": 0.5} for x in range(10)]


@processing_stage(name="squares", writes=["y"])
def squares(record: dict) -> dict:
    if record["x"] == 4:
        raise ValueError("four")
    return {**record, "y": record["x"] ** 2}


def pipeline(*stages: Any) -> Pipeline:
    return Pipeline("p", [ReadRecords(ROWS), *stages])


# Composing.


def test_stages_are_added_one_after_the_other() -> None:
    made = Pipeline(name="p").add_stage(ReadRecords(ROWS)).add_stage(squares)
    assert repr(made) == "Pipeline('p', stages=['read_records', 'squares'])"


def test_only_stages_are_added() -> None:
    with pytest.raises(TypeError, match="add_stage takes a stage, not 3"):
        Pipeline("p").add_stage(3)  # pyright: ignore
    with pytest.raises(TypeError, match=r"call it: add_stage\(MyStage\(…\)\)"):
        Pipeline("p").add_stage(Merge)  # pyright: ignore


def test_a_pipelines_name_can_be_a_folder() -> None:
    for name in ("", ".", "..", "a/b"):
        with pytest.raises(PlanError, match=r"invalid pipeline name '.*': it is also used as the run directory's name"):
            Pipeline(name)


def test_names_of_other_frameworks_are_answered_with_ours() -> None:
    with pytest.raises(AttributeError, match=r"\.add_stage\(stage\.with_\(workers=…\)\)"):
        Pipeline("p").add_parallel_stage(squares)
    with pytest.raises(AttributeError, match="Pipeline has no attribute 'build'"):
        Pipeline("p").build()


def test_a_pipeline_can_be_copied() -> None:
    assert copy.deepcopy(pipeline(squares)).name == "p"


def test_describe_shows_stages_settings_and_options() -> None:
    text = pipeline(squares.with_(workers=2), QualityFilter("y < 9")).describe()
    assert text.splitlines()[0] == "Pipeline 'p'"
    assert "  read_records: ReadRecords(label='records', roots=None)" in text
    assert "with workers=2" in text
    assert "quality_filter: QualityFilter(expression='y < 9'" in text


# Running.


def test_a_pipeline_without_a_writer_runs_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = pipeline(squares, QualityFilter("y < 30")).run()
    assert [record["x"] for record in result.records()] == [0, 1, 2, 3, 5]
    assert [(note.record["_id"], note.code, note.stage) for note in result.quarantined] == [
        ("records:5", "stage_error", "squares")
    ]
    assert {note.stage for note in result.filtered} == {"quality_filter"}
    assert result.summary["records_in"] == 10
    assert result.run_dir is None
    assert list(tmp_path.iterdir()) == []
    assert ROWS[0] == {"x": 0, "duration": 0.5}


def test_results_can_be_read_more_than_once_and_changed() -> None:
    result = pipeline(squares).run()
    for record in result.records():
        record["y"] = None
    assert next(result.records())["y"] == 0


def test_a_pipeline_with_a_writer_runs_in_a_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = pipeline(squares, Merge("out.jsonl")).run()
    assert result.run_dir == Path("runs/p")
    assert result.outputs == (Path("runs/p/out.jsonl"),)
    rows = [json.loads(line) for line in (tmp_path / "runs/p/out.jsonl").open()]
    assert rows[0] == {"x": 0, "duration": 0.5, "y": 0}
    assert result.filtered == []
    assert [record["x"] for record in result.records()] == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_a_run_directory_may_be_asked_for(tmp_path: Path) -> None:
    result = pipeline(squares).run(run_dir=tmp_path / "run")
    assert (tmp_path / "run" / "summary.json").exists()
    assert len(list(result.records())) == 9


@pytest.mark.parametrize("rows", [[], ROWS])
def test_a_pipeline_may_merely_copy(rows: list[Record], tmp_path: Path) -> None:
    result = Pipeline("p", [ReadRecords(rows), Merge("out.jsonl")]).run(run_dir=tmp_path)
    published = [line for path in result.outputs for line in path.read_bytes().splitlines()]
    assert len(published) == len(rows)
    assert result.summary["kept"] == len(rows)
    assert len(list(Pipeline("p", [ReadRecords(rows)]).run().records())) == len(rows)


def test_gathers_and_partitioners_need_no_work_around_them(tmp_path: Path) -> None:
    class Reverses(Gather):
        def gather(self, records: Iterator[Record]) -> Iterator[Record]:
            yield from reversed(list(records))

    pipeline(Reverses(), Partition(max_records=3), Partition(max_records=2), Merge("out.jsonl")).run(run_dir=tmp_path)
    assert [json.loads(line)["x"] for line in (tmp_path / "out.jsonl").open()] == list(range(9, -1, -1))


def test_several_writers_publish_what_is_kept_where_they_stand(tmp_path: Path) -> None:
    made = pipeline(squares, Merge("all.jsonl"), QualityFilter("y < 9"), Merge("few.jsonl"), Merge("few.parquet"))
    result = made.run(run_dir=tmp_path)
    assert [path.name for path in result.outputs] == ["all.jsonl", "few.jsonl", "few.parquet"]
    assert len((tmp_path / "all.jsonl").read_bytes().splitlines()) == 9
    assert len((tmp_path / "few.jsonl").read_bytes().splitlines()) == 3


def test_a_writer_that_raises_is_named_and_the_next_life_publishes(tmp_path: Path) -> None:
    broken = [True]

    class Uploads(Writer):
        def write(self, records: RecordReader, directory: Path) -> list[Path]:
            if broken[0]:
                raise ConnectionError("no network")
            return []

    made = pipeline(squares, Uploads())
    with pytest.raises(InfrastructureError, match="stage 'uploads': ConnectionError: no network"):
        made.run(run_dir=tmp_path)
    broken[0] = False
    assert made.run(run_dir=tmp_path).summary["kept"] == 9


def test_only_copies_of_a_stage_are_set_up() -> None:
    @dataclass
    class Loads(ProcessingStage):
        model: Any = None

        def setup(self) -> None:
            self.model = object()

        def process(self, batch: AudioBatch) -> AudioBatch:
            assert self.model is not None
            return batch

    stage = Loads()
    pipeline(stage).run()
    assert stage.model is None


def test_a_stage_that_cannot_be_copied_for_a_worker_is_named() -> None:
    @dataclass
    class Locks(ProcessingStage):
        def __post_init__(self) -> None:
            self.lock = threading.Lock()

        def process(self, batch: AudioBatch) -> AudioBatch:
            return batch

    with pytest.raises(PlanError, match=r"stage 'locks': lock cannot be copied for a worker .*create it in setup\(\)"):
        pipeline(Locks()).run()


def test_an_unknown_executor_is_named() -> None:
    with pytest.raises(PluginError, match="loocal"):
        pipeline(squares).run("loocal")


def test_an_executor_may_be_an_object() -> None:
    from curate.executors.local import LocalExecutor

    assert pipeline(squares).run(LocalExecutor()).summary["executor"] == "local"


# Streaming.


def batches(numbers: Iterator[int], read: list[int]) -> Iterator[AudioBatch]:
    for number in numbers:
        read.append(number)
        yield AudioBatch([{"x": number}, {"x": number + 0.5}], task_id=f"t{number}")


@processing_stage(name="doubles")
def doubles(record: dict) -> dict:
    return {**record, "y": record["x"] * 2}


def test_an_endless_iterator_is_streamed_in_bounded_memory() -> None:
    read: list[int] = []
    stages = [doubles, doubles.with_(name="again", resources=Resources(cpus=0.5))]
    stream = Pipeline("p", stages).stream(batches(itertools.count(), read))
    for number, batch in enumerate(itertools.islice(stream, 50)):
        assert batch.data == [{"x": number, "y": number * 2}, {"x": number + 0.5, "y": (number + 0.5) * 2}]
        assert batch.task_id == f"t{number}"
        assert len(read) <= number + 2
    stream.close()  # pyright: ignore


def test_a_stream_reads_nothing_before_it_is_asked() -> None:
    read: list[int] = []
    stream = Pipeline("p", [doubles]).stream(batches(itertools.count(), read))
    assert read == []
    next(stream)
    assert read == [0]


def test_what_is_left_out_or_fails_stands_on_the_batch_that_is_yielded() -> None:
    @processing_stage(name="judges", cardinality="filters")
    def judges(record: dict) -> Any:
        if record["x"] == 1:
            raise ValueError("one")
        return record["x"] != 2

    (batch,) = Pipeline("p", [judges]).stream([AudioBatch([{"x": x} for x in range(4)])])
    assert batch.data == [{"x": 0}, {"x": 3}]
    assert [(note.record, note.reason) for note in batch.rejected] == [({"x": 2}, "left out by judges")]
    assert [(note.record, note.error.code, str(note.error)) for note in batch.failed] == [
        ({"x": 1}, "stage_error", "judges: ValueError: one")
    ]


def test_records_keep_their_own_ids_even_if_they_are_not_unique() -> None:
    @processing_stage(name="splits", cardinality="splits")
    def splits(record: dict) -> list[dict]:
        return [record, record] if record["x"] == 2 else [record]

    data = [{"_id": "same", "x": 1}, {"_id": "same", "x": 2}, {"x": 3}]
    first, second = Pipeline("p", [splits]).stream([AudioBatch(data), AudioBatch(data)])
    assert first.data == second.data
    assert first.data == [
        {"_id": "same/0", "x": 1},
        {"_id": "same/0", "x": 2},
        {"_id": "same/1", "x": 2},
        {"x": 3},
    ]
    assert data[0] == {"_id": "same", "x": 1}


def test_empty_batches_come_back_empty() -> None:
    endless = (AudioBatch([], task_id=str(number)) for number in itertools.count())
    stream = Pipeline("p", [doubles]).stream(endless)
    assert [next(stream).task_id for _ in range(3)] == ["0", "1", "2"]


def test_a_stream_passes_checkpoints_by() -> None:
    stages = [doubles.with_(checkpoint=True), QualityFilter("y < 3")]
    (batch,) = Pipeline("p", stages).stream([AudioBatch([{"x": x} for x in range(4)])])
    assert [record["x"] for record in batch.data] == [0, 1]


def test_a_stream_of_a_streaming_stage_yields_whole_batches_in_order() -> None:
    class Backwards(ProcessingStage):
        def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
            for record in reversed(batch.data):
                yield batch.with_data([record])

    (batch,) = Pipeline("p", [Backwards()]).stream([AudioBatch([{"x": x} for x in range(4)])])
    assert [record["x"] for record in batch.data] == [0, 1, 2, 3]


def test_a_stream_that_is_left_tears_its_stages_down() -> None:
    events: list[str] = []

    @dataclass
    class Loads(ProcessingStage):
        def setup(self) -> None:
            events.append("setup")

        def teardown(self) -> None:
            events.append("teardown")

        def process(self, batch: AudioBatch) -> AudioBatch:
            return batch

    stream = Pipeline("p", [Loads()]).stream(AudioBatch([{"x": x}]) for x in itertools.count())
    next(stream)
    stream.close()  # pyright: ignore
    assert events == ["setup", "teardown"]


def test_an_error_of_the_iterator_is_the_callers() -> None:
    def broken() -> Iterator[AudioBatch]:
        yield AudioBatch([{"x": 1}])
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(Pipeline("p", [doubles]).stream(broken()))


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (ReadRecords(ROWS), "takes its batches from the caller, so leave the source out"),
        (Merge("o.jsonl"), "stage 'merge' is a writer, and Pipeline.stream takes processing stages only"),
        (Partition(), "stage 'partition' is a partitioner, and Pipeline.stream takes processing stages only"),
    ],
)
def test_a_stream_has_nothing_that_needs_a_run(stage: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [stage]).stream([])


def test_a_stream_of_records_is_told_to_put_them_into_batches() -> None:
    stream: Any = Pipeline("p", [processing_stage(name="same")(_same)]).stream([{"x": 1}])  # pyright: ignore
    with pytest.raises(TypeError, match=r"Pipeline.stream takes batches, not a dict; put records into one: AudioBatch"):
        next(stream)


def _same(record: dict) -> dict:
    return record
