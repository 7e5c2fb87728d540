"""Random pipelines, and a plain Python reading of what they must come to.

What a stage does to a record depends on the record's path `k` and the stage's salt alone, so that the reference and the
engine agree on it whatever batches the records travel in.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import strategies as st

from curate import AudioBatch, Gather, Pipeline, ProcessingStage, RecordError, RecordStage, Reject, Resources
from curate.records import Record
from curate.stage import Cardinality, Stage
from curate.stages import Merge, Partition, ReadRecords

Fate = Literal["goes on", "left out", "raises"]


@dataclass(frozen=True)
class Rule:
    """What a stage does."""

    salt: int
    cardinality: Cardinality
    raising: int = 0
    """So many records of a hundred raise."""
    leaving: int = 0
    """So many records of a hundred are left out, if the stage may do that."""

    def _lot(self, what: str, record: Record) -> int:
        return zlib.crc32(f"{self.salt}/{what}/{record['k']}".encode())

    def fate(self, record: Record) -> Fate:
        if self._lot("raises", record) % 100 < self.raising:
            return "raises"
        if self.cardinality != "maps" and self._lot("leaves", record) % 100 < self.leaving:
            return "left out"
        return "goes on"

    def results(self, record: Record) -> list[Record]:
        """Return what a record that goes on becomes."""
        changed = {**record, "n": record["n"] * 3 + self.salt}
        if self.cardinality != "splits":
            return [changed]
        count = 1 + self._lot("parts", record) % 3
        return [{**changed, "k": f"{record['k']}.{part}"} for part in range(count)]


class Refused(ValueError):
    """What the stages raise."""


@dataclass
class ByRecord(RecordStage):
    rule: Rule

    def __post_init__(self) -> None:
        self.cardinality = self.rule.cardinality

    def writes(self) -> tuple[str, ...]:
        return ("k", "n")

    def process_record(self, record: Record) -> Any:
        fate = self.rule.fate(record)
        results = self.rule.results(record)
        record["n"] = "spoilt"
        if fate == "raises":
            raise Refused(record["k"])
        if fate == "left out":
            return Reject("lot")
        return results if self.rule.cardinality == "splits" else results[0]


@dataclass
class ByBatch(ProcessingStage):
    rule: Rule
    reports: bool = False
    """Report failures with `fail`, instead of raising."""

    def __post_init__(self) -> None:
        self.cardinality = self.rule.cardinality

    def writes(self) -> tuple[str, ...]:
        return ("k", "n")

    def process(self, batch: AudioBatch) -> AudioBatch:
        done: list[Record] = []
        for record in batch.data:
            done.extend(self.outcome(batch, record))
        return batch.with_data(done)

    def outcome(self, batch: AudioBatch, record: Record) -> list[Record]:
        fate = self.rule.fate(record)
        if fate == "raises":
            if not self.reports:
                record["n"] = "spoilt"
                raise Refused(record["k"])
            batch.fail(record, RecordError("bad_value", record["k"]))
        elif fate == "left out":
            batch.reject(record, "lot")
        return self.rule.results(record) if fate == "goes on" else []


@dataclass
class ByStream(ByBatch):
    """Streams parts of three records, the last first."""

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        backwards = batch.data[::-1]
        for start in range(0, len(backwards), 3):
            part = backwards[start : start + 3]
            if self.rule.salt % 2:
                self.context.announce(part)
            yield batch.with_data(result for record in part for result in self.outcome(batch, record))


@dataclass
class Backwards(Gather):
    """Leaves some out, and turns the others round."""

    rule: Rule

    def writes(self) -> tuple[str, ...]:
        return ()

    def gather(self, records: Iterator[Record]) -> Iterator[Record]:
        kept = [record for record in records if self.rule.fate(record) == "goes on"]
        yield from reversed(kept)


@dataclass
class Drawn:
    """A pipeline that was drawn by lot."""

    count: int
    stages: list[Stage] = field(default_factory=list[Stage])

    def rows(self) -> list[Record]:
        return [{"k": str(number), "n": number, "duration": number % 7 / 2} for number in range(self.count)]

    def pipeline(self, *, batch: int | None = None, output: str | None = "out.jsonl") -> Pipeline:
        pipeline = Pipeline("drawn", [ReadRecords(self.rows())])
        if batch is not None:
            pipeline.add_stage(Partition(max_records=batch))
        for stage in self.stages:
            pipeline.add_stage(stage)
        if output is not None:
            pipeline.add_stage(Merge(output))
        return pipeline

    def expected(self) -> Expected:
        expected = Expected()
        rows = [(f"records:{number}", row) for number, row in enumerate(self.rows(), start=1)]
        for stage in self.stages:
            rule: Rule = stage.rule  # pyright: ignore
            following: list[tuple[str, Record]] = []
            for identity, row in rows:
                fate = rule.fate(row)
                if isinstance(stage, Backwards):
                    if fate == "goes on":
                        following.insert(0, (identity, row))
                    else:
                        expected.filtered.add((identity, stage.name))
                elif fate == "raises":
                    code = "bad_value" if getattr(stage, "reports", False) else "stage_error"
                    expected.quarantined.add((identity, stage.name, code))
                elif fate == "left out":
                    expected.filtered.add((identity, stage.name))
                elif rule.cardinality == "splits":
                    parts = rule.results(row)
                    expected.split += 1
                    expected.children += len(parts)
                    following.extend((f"{identity}/{k}", part) for k, part in enumerate(parts))
                else:
                    following.append((identity, rule.results(row)[0]))
            rows = following
        expected.kept = rows
        return expected


@dataclass
class Expected:
    kept: list[tuple[str, Record]] = field(default_factory=list[tuple[str, Record]])
    filtered: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    quarantined: set[tuple[str, str, str]] = field(default_factory=set[tuple[str, str, str]])
    children: int = 0
    split: int = 0

    @property
    def lines(self) -> bytes:
        return b"".join(json.dumps(row).encode() + b"\n" for _, row in self.kept)


@st.composite
def drawn_pipelines(draw: st.DrawFn, *, max_records: int = 40) -> Drawn:
    drawn = Drawn(draw(st.integers(0, max_records)))
    for number in range(draw(st.integers(0, 4))):
        rule = Rule(
            salt=draw(st.integers(0, 9)),
            cardinality=draw(st.sampled_from(["maps", "filters", "splits"])),
            raising=draw(st.sampled_from([0, 0, 10, 50, 100])),
            leaving=draw(st.sampled_from([0, 30, 100])),
        )
        kind = draw(st.sampled_from([ByRecord, ByBatch, ByStream, Backwards]))
        if kind is Backwards:
            rule = Rule(rule.salt, "filters", 0, rule.leaving)
        stage = kind(rule, draw(st.booleans())) if issubclass(kind, ByBatch) else kind(rule)
        drawn.stages.append(
            stage.with_(
                name=f"s{number}",
                resources=Resources(cpus=draw(st.sampled_from([1.0, 0.5]))),
                checkpoint=draw(st.booleans()),
                retries=draw(st.sampled_from([0, 0, 1])),
            )
        )
    return drawn
