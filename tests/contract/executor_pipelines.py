"""Pipelines that every executor must bring to the same bytes; importable, so that workers elsewhere can have them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from curate import AudioBatch, Gather, Pipeline, ProcessingStage, RecordError, RecordStage, Reject, Resources
from curate.functions import processing_stage
from curate.records import Record
from curate.stage import Stage
from curate.stages import Merge, Partition, QualityFilter, ReadRecords

HALF = Resources(cpus=0.5)
COUNT = 300

ROWS: list[Record] = [
    {"x": x, "text": f"Utterance {x}, größer\u2028", "duration": 0.25 * (x % 9)} for x in range(COUNT)
]


@processing_stage(name="words", reads=["text"], writes=["words"])
def words(record: dict) -> dict:
    return {**record, "words": record["text"].split()}


@processing_stage(name="fails", writes=[])
def fails(batch: AudioBatch) -> AudioBatch:
    for record in batch.data:
        if record["x"] % 50 == 7:
            raise ValueError(f"cannot work on {record['x']}")
        if record["x"] % 50 == 8:
            raise RecordError("decode_error", f"broken {record['x']}")
    return batch


class Loses(ProcessingStage):
    def writes(self) -> tuple[str, ...]:
        return ()

    def process(self, batch: AudioBatch) -> AudioBatch:
        return batch.with_data(record for record in batch.data if record["x"] % 100 != 5)


class Splits(RecordStage):
    cardinality = "splits"

    def writes(self) -> tuple[str, ...]:
        return ("part", "duration")

    def process_record(self, record: Record) -> Any:
        if record["x"] % 11 == 0:
            return Reject("nothing in it")
        parts = 1 + record["x"] % 3
        return [{**record, "part": part, "duration": record["duration"] / parts} for part in range(parts)]


@dataclass
class Streams(ProcessingStage):
    """Hands records on in small parts, the last first."""

    size: int = 3
    resources = HALF

    def writes(self) -> tuple[str, ...]:
        return ("streamed",)

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        data = batch.data[::-1]
        for start in range(0, len(data), self.size):
            part = data[start : start + self.size]
            batch.announce(part)
            yield batch.with_data({**record, "streamed": True} for record in part)


class Backwards(Gather):
    def writes(self) -> tuple[str, ...]:
        return ()

    def gather(self, records: Iterator[Record]) -> Iterator[Record]:
        yield from reversed([record for record in records if record["x"] % 13])


class Unstorable(RecordStage):
    def writes(self) -> tuple[str, ...]:
        return ("score",)

    def process_record(self, record: Record) -> Record:
        return {**record, "score": float("nan") if record["x"] == 100 else 0.5}


PIPELINES: dict[str, list[Stage]] = {
    "copy": [],
    "filter": [words, QualityFilter("duration > 0.5")],
    "failures": [words, fails, Loses()],
    "split": [Splits(), words],
    "hops": [words, Streams(), Splits().with_(name="apart"), Streams(size=2).with_(name="again")],
    "phases": [Splits().with_(checkpoint=True), fails, Backwards(), Partition(max_records=7), Streams()],
    "unstorable": [Unstorable()],
    "everything left out": [QualityFilter("x < 0")],
}


def pipeline(name: str, batch: int = 40) -> Pipeline:
    """Return one of the pipelines, with its input and its outputs."""
    stages = [ReadRecords(ROWS), Partition(max_records=batch).with_(name="cut"), *PIPELINES[name]]
    return Pipeline("contract", [*stages, Merge("out.jsonl"), Merge("out.jsonl.gz"), Merge("out.parquet")])
