"""Pipelines that every executor must bring to the same bytes; importable, so that workers elsewhere can have them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.errors import RecordError
from curate.pipeline import Pipeline
from curate.records import AudioBatch, Record
from curate.resources import Resources
from curate.stage import Gather, ProcessingStage, RecordStage, Reject, Stage
from curate.stage_decorator import processing_stage
from curate.stages import Merge, Partition, QualityFilter, ReadRecords

HALF = Resources(cpus=0.5)
"""Asked for by stages that are to work in another hop than their neighbours."""

COUNT = 300

ROWS: Sequence[Record] = [
    {"x": x, "text": f"Utterance {x}, größer\u2028", "duration": 0.25 * (x % 9)} for x in range(COUNT)
]


@processing_stage(name="words", reads=["text"], writes=["words"])
def words(record: Record) -> Record:
    """Split the text into words."""
    return {**record, "words": record["text"].split()}


@processing_stage(name="fails", writes=[])
def fails(batch: AudioBatch) -> AudioBatch:
    """Fail on some records, in two ways."""
    for record in batch.data:
        if record["x"] % 50 == 7:
            raise ValueError(f"cannot work on {record['x']}")
        if record["x"] % 50 == 8:
            raise RecordError("decode_error", f"broken {record['x']}")
    return batch


class Loses(ProcessingStage):
    """Forgets records, against its declaration."""

    def writes(self) -> tuple[str, ...]:
        return ()

    def process(self, batch: AudioBatch) -> AudioBatch:
        return batch.with_data(record for record in batch.data if record["x"] % 100 != 5)


class Splits(RecordStage):
    """Makes one to three records of one, or none."""

    cardinality = "splits"

    def writes(self) -> tuple[str, ...]:
        return ("part", "duration")

    def process_record(self, record: Record) -> list[Record] | Reject:
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
            self.context.announce(part)
            yield batch.with_data({**record, "streamed": True} for record in part)


class Backwards(Gather):
    """Turns the order round, and leaves some records out."""

    def writes(self) -> tuple[str, ...]:
        return ()

    def gather(self, records: Iterator[Record]) -> Iterator[Record]:
        yield from reversed([record for record in records if record["x"] % 13])


class Unstorable(RecordStage):
    """Writes a value that no manifest can hold into one record."""

    def writes(self) -> tuple[str, ...]:
        return ("score",)

    def process_record(self, record: Record) -> Record:
        return {**record, "score": float("nan") if record["x"] == 100 else 0.5}


class EndsItsWorker(RecordStage):
    """Kills its worker on one record, leaves it on another one, and hangs on a third."""

    def writes(self) -> tuple[str, ...]:
        return ()

    def process_record(self, record: Record) -> Record:
        if record["x"] == 33:
            os.kill(os.getpid(), signal.SIGSEGV)
        if record["x"] == 133:
            os._exit(7)
        if record["x"] == 233:
            time.sleep(3600)
        return record


PIPELINES: Mapping[str, Callable[[], Sequence[Stage]]] = {
    "copy": list,
    "filter": lambda: [words, QualityFilter("duration > 0.5")],
    "failures": lambda: [words, fails, Loses()],
    "split": lambda: [Splits(), words],
    "hops": lambda: [words, Streams(), Splits().with_(name="apart"), Streams(size=2).with_(name="again")],
    "phases": lambda: [Splits().with_(checkpoint=True), fails, Backwards(), Partition(max_records=7), Streams()],
    "unstorable": lambda: [Unstorable()],
    "everything left out": lambda: [QualityFilter("x < 0")],
}
"""Stages between a reader of `ROWS` and three writers."""

OUTPUTS = ("out.jsonl", "out.jsonl.gz", "out.parquet")


def contract_pipeline(stages: Sequence[Stage], *, batch: int = 40, workers: int | None = None) -> Pipeline:
    """Return a pipeline over `ROWS` that publishes `OUTPUTS`.

    Args:
        stages: what is done.
        batch: how many records travel together.
        workers: how many workers each stage asks for.
    """
    asking: list[Any] = [
        stage.with_(workers=workers) if isinstance(stage, ProcessingStage) and workers is not None else stage
        for stage in stages
    ]
    cut = Partition(max_records=batch).with_(name="cut")
    return Pipeline("contract", [ReadRecords(ROWS), cut, *asking, *map(Merge, OUTPUTS)])
