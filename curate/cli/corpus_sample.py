"""The first records of a corpus, and what is typical and what is odd about them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from typing import Any

import attrs

from curate.audio import probe
from curate.durations import duration_text
from curate.errors import RecordError
from curate.records import ID, AudioBatch, Failed, Record

_FIRST = 3
_STRANGEST = 10
_EXAMPLE_CHARACTERS = 40


@attrs.define
class Column:
    """The values of one column."""

    types: set[str] = attrs.field(factory=set[str])
    nulls: int = 0
    values: int = 0
    example: str = ""
    missing: int = 0

    @property
    def null_share(self) -> float:
        return (self.nulls + self.missing) / max(1, self.values + self.missing)


@attrs.frozen
class CorpusSample:
    """What the first records of a corpus show.

    Args:
        records: how many were read.
        failed: how many of them are not records, or name no audio that can be opened.
        hours: by `duration`; None: no record has one.
        opened_s: the mean length of the recordings that were opened; None: none was.
        first: the first ones.
        columns: their columns.
        audio: formats, rates and channels of the recordings that were opened → how many.
        strangest: ids with the reason, the strangest first.
    """

    records: int
    failed: int
    hours: float | None
    opened_s: float | None
    first: Sequence[Record]
    columns: Mapping[str, Column]
    audio: Mapping[str, int]
    strangest: Sequence[tuple[str, str]]

    def hours_text(self) -> str:
        """Return the length of all recordings in words."""
        if self.hours is not None:
            return f"{duration_text(self.hours * 3600)} by their durations"
        if self.opened_s is not None:
            return f"about {duration_text(self.opened_s * self.records)}, from the recordings that were opened"
        return "of unknown length"

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON-ready data."""
        columns = {
            name: {"types": sorted(column.types), "null_share": round(column.null_share, 4), "example": column.example}
            for name, column in self.columns.items()
        }
        return {**attrs.asdict(self, recurse=False), "columns": columns}


def read_sample(stage: Any, limit: int) -> tuple[list[Record | Failed], tuple[str, ...] | None]:
    """Return the first records of a reader, and the roots of their audio.

    A reader of several stages, a source and one that takes its records apart, runs in this process.
    """
    source, *rest = stage.parts() if hasattr(stage, "parts") else [stage]
    source.check()
    items: Iterator[Record | Failed] = source.read()
    for part in rest:
        items = _through(part, items)
    return list(islice(items, limit)), source.audio_roots()


def _through(stage: Any, items: Iterable[Record | Failed]) -> Iterator[Record | Failed]:
    for item in items:
        if isinstance(item, Failed):
            yield item
            continue
        batch = stage.process(AudioBatch([item]))
        yield from ({**record, ID: f"{item[ID]}/{number}"} for number, record in enumerate(batch.data))
        yield from batch.failed


def describe_sample(items: Sequence[Record | Failed], roots: tuple[str, ...] | None, files: int) -> CorpusSample:
    """Return the description of records; up to `files` of their recordings are opened, spread over all of them."""
    records = [item for item in items if not isinstance(item, Failed)]
    broken = [(item.record[ID], f"{item.error.code}: {item.error}") for item in items if isinstance(item, Failed)]
    audio: Counter[str] = Counter()
    lengths: list[float] = []
    step = max(1, len(records) // files) if files else 0
    for record in records[::step][:files] if step else []:
        try:
            about = probe(record.get("audio_filepath", ""), roots=roots)
        except RecordError as error:
            broken.append((record[ID], f"{error.code}: {error}"))
            audio[f"cannot be opened ({error.code})"] += 1
            continue
        lengths.append(about.duration_s)
        channels = "mono" if about.channels == 1 else f"{about.channels} channels"
        audio[f"{about.format} {about.subtype}, {about.rate_hz:,} Hz, {channels}"] += 1
    durations = [_number(record.get("duration")) for record in records]
    known = [duration for duration in durations if duration is not None]
    return CorpusSample(
        records=len(items),
        failed=len(broken),
        hours=sum(known) / 3600 if known else None,
        opened_s=statistics.fmean(lengths) if lengths else None,
        first=records[:_FIRST],
        columns=_columns(records),
        audio=dict(audio.most_common()),
        strangest=[*broken, *_outliers(records)][:_STRANGEST],
    )


def measure_sample(profile: Any, items: Sequence[Record | Failed], files: int) -> dict[str, dict[str, float]]:
    """Return the distribution of each measure over some recordings, spread over all records; null values are left out.

    Args:
        profile: the composite stage `audio_profile`; loudness is measured where its library is installed.
        items: the records.
        files: the largest number of recordings that are measured.
    """
    records = [dict(item) for item in items if not isinstance(item, Failed)]
    step = max(1, len(records) // files) if files else 0
    batch = AudioBatch(records[::step][:files] if step else [])
    measures: list[str] = []
    for part in profile(loudness=find_spec("pyloudnorm") is not None).parts():
        part.setup()
        batch = part.process(batch)
        measures += part.writes()
        part.teardown()
    found: dict[str, dict[str, float]] = {}
    for name in measures:
        values = sorted(value for record in batch.data if (value := _number(record.get(name))) is not None)
        if values:
            low, high = (values[min(len(values) - 1, int(share * len(values)))] for share in (0.05, 0.95))
            middle = statistics.median(values)
            found[name] = {"recordings": len(values), "low": low, "median": middle, "high": high}
    return found


def _columns(records: Sequence[Record]) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for record in records:
        for name, value in record.items():
            if name == ID:
                continue
            column = columns.setdefault(name, Column())
            column.values += 1
            if value is None:
                column.nulls += 1
            else:
                column.types.add(type(value).__name__)
                column.example = column.example or str(value)[:_EXAMPLE_CHARACTERS]
    for column in columns.values():
        column.missing = len(records) - column.values
    return columns


def _outliers(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Return the records that are furthest from the others in length, transcript or speaking rate."""
    found: list[tuple[float, str, str]] = []
    for name, values in _measures(records).items():
        known = [value for value in values if value is not None]
        if len(known) < 8:
            continue
        middle = statistics.median(known)
        spread = statistics.median(abs(value - middle) for value in known) or max(abs(middle) / 10, 1e-9)
        for record, value in zip(records, values, strict=True):
            if value is not None and abs(value - middle) > 5 * spread:
                reason = f"{name} is {value:.4g}, and the median {middle:.4g}"
                found.append((abs(value - middle) / spread, record[ID], reason))
    found += [(1e9, record[ID], "the transcript is empty") for record in records if record.get("text") == ""]
    return [(identity, why) for _, identity, why in sorted(found, key=lambda each: -each[0])]


def _measures(records: Sequence[Record]) -> dict[str, list[float | None]]:
    durations = [_number(record.get("duration")) for record in records]
    texts = [float(len(record["text"])) if isinstance(record.get("text"), str) else None for record in records]
    rates = [
        text / duration if text is not None and duration else None
        for text, duration in zip(texts, durations, strict=True)
    ]
    return {"duration (s)": durations, "length of text": texts, "characters a second": rates}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
