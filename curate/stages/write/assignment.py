"""Assigns records to shards: the order of a published data set, decided before the first shard is written."""

from __future__ import annotations

import hashlib
import itertools
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from loguru import logger

from curate.errors import PlanError
from curate.io.rows import decode_row, encode_row
from curate.records import Record, audio_ms
from curate.stage import Gather, Reject, Source
from curate.stages.write.formats import ShardFormat
from curate.stages.write.licenses import check_licenses, is_denied

SHARD = "_shard"
"""The column that carries a record's shard to the stage that packs it: its folder, `#`, and a number."""

SURVEY = "_survey"
"""The column that carries to the stage that packs a shard what its format must know of the others."""

POSITION = "_position"
"""The column that carries a record's position in the input past the shards, where it is to be restored."""

_UNSAFE = re.compile(r"[^\w.-]+")
_STEP_MS = 10
"""The resolution of the histogram of durations from which buckets are cut."""
_OPEN_FILES = 128


@dataclass
class AssignShards(Gather):
    """Puts the records into the order of the output, folder after folder, and writes the shard of each.

    Within a folder the order of the input is kept, and shards have equally many records, or equally much audio.

    Args:
        by: columns whose values have folders of their own.
        buckets: of durations: how many, with equally many hours in each, or their borders in seconds.
        shards: how many of each folder.
        shard_records: how many records are in one, about.
        shard_s: how much audio is in one, about, in seconds.
        format: the format of the shards, if it looks at all records first.
        deny_licenses: patterns of licenses whose records are filtered.
    """

    by: list[str] = field(default_factory=list[str])
    buckets: int | list[float] | None = None
    shards: int | None = None
    shard_records: int | None = None
    shard_s: float | None = None
    format: ShardFormat | None = None
    deny_licenses: list[str] = field(default_factory=list[str])

    name = "assign"

    @property
    def reorders(self) -> bool:
        """Whether the order of the output may differ from that of the input."""
        return bool(self.by) or self.buckets not in (None, 1)

    def reads(self) -> Collection[str]:
        needed = (("duration",) if self.buckets is not None else ()) + (("license",) if self.deny_licenses else ())
        return (*self.by, *needed)

    def writes(self) -> Collection[str]:
        surveyed = (SURVEY,) if self.format is not None and self.format.surveys else ()
        return (SHARD, *surveyed, *((POSITION,) if self.reorders else ()))

    def check(self) -> None:
        if isinstance(self.buckets, int) and self.buckets < 1:
            raise PlanError(f"buckets={self.buckets} must be at least 1")
        if isinstance(self.buckets, list) and (
            not self.buckets or any(one >= other for one, other in itertools.pairwise(self.buckets))
        ):
            raise PlanError(f"buckets={self.buckets}: borders in seconds must rise")

    def check_sources(self, sources: Sequence[Source]) -> None:
        check_licenses(self.name.partition(".")[0], self.deny_licenses, sources)

    def gather(self, records: Iterator[Record]) -> Iterator[Record | Reject]:
        import tempfile

        with tempfile.TemporaryDirectory(prefix="curate-") as scratch:
            yield from self.gather_again(list(records), Path(scratch))

    def gather_again(self, records: Iterable[Record], scratch: Path) -> Iterator[Record | Reject]:
        allowed = _Allowed(records, self.deny_licenses)
        borders_ms = self._borders_ms(allowed)
        totals: dict[str, _Folder] = {}
        for record in allowed:
            label = self._label(borders_ms, record)
            totals.setdefault(label, _Folder()).count(record)
        for folder in totals.values():
            folder.plan(self.shards, self.shard_records, self.shard_s)
        self._warn_of_small_folders(totals)
        survey = self.format.survey(allowed, scratch) if self.format is not None and self.format.surveys else ""
        for record in records if self.deny_licenses else ():
            if is_denied(record.get("license"), self.deny_licenses):
                yield Reject(record, f"license {record['license']} is denied")
        ordered = (record if not self.reorders else {**record, POSITION: at} for at, record in enumerate(allowed))
        with closing(_by_label(ordered, scratch, partial(self._label, borders_ms), sorted(totals))) as rows:
            for label, record in rows:
                record[SHARD] = f"{label}#{totals[label].next_shard(record)}"
                if survey:
                    record[SURVEY] = survey
                yield record

    def _warn_of_small_folders(self, totals: Mapping[str, _Folder]) -> None:
        if self.shards is None:
            return
        for label, folder in sorted(totals.items()):
            if folder.records < self.shards:
                logger.warning(
                    "{}{} has {:,} records for {:,} shards, so it has {:,} shards",
                    self.name.partition(".")[0],
                    f", {label}" if label else "",
                    folder.records,
                    self.shards,
                    folder.records,
                )

    def _borders_ms(self, records: Iterable[Record]) -> Sequence[int]:
        """Return the borders between buckets in milliseconds."""
        if isinstance(self.buckets, list):
            return [round(border * 1000) for border in self.buckets]
        if self.buckets is None or self.buckets == 1:
            return ()
        counts = Counter(audio_ms(record) // _STEP_MS for record in records)
        total = sum(step * count for step, count in counts.items())
        borders: list[int] = []
        passed = 0
        for step, count in sorted(counts.items()):
            passed += step * count
            if passed * self.buckets >= total * (len(borders) + 1) and len(borders) < self.buckets - 1:
                borders.append((step + 1) * _STEP_MS)
        return borders

    def _label(self, borders_ms: Sequence[int], record: Record) -> str:
        """Return the folder of a record, with `/` between its levels; empty: the data set's own."""
        levels = [folder_name(record.get(column)) for column in self.by]
        if self.buckets is not None:
            levels.append(f"bucket{bisect_right(borders_ms, audio_ms(record)) + 1}")
        return "/".join(levels)


class _Allowed:
    """The records whose license is not denied, to be read again and again."""

    def __init__(self, records: Iterable[Record], denied: Sequence[str]) -> None:
        self._records, self._denied = records, denied

    def __iter__(self) -> Iterator[Record]:
        if not self._denied:
            return iter(self._records)
        return (record for record in self._records if not is_denied(record.get("license"), self._denied))


class _Folder:
    """How much a folder holds, and how its records are dealt out to shards."""

    def __init__(self) -> None:
        self.records = 0
        self.ms = 0
        self._shards = 1
        self._by_length = False
        self._passed = 0
        self._passed_ms = 0

    def count(self, record: Record) -> None:
        self.records += 1
        self.ms += audio_ms(record)

    def plan(self, shards: int | None, shard_records: int | None, shard_s: float | None) -> None:
        if shards is not None:
            wanted = shards
        elif shard_records is not None:
            wanted = -(-self.records // shard_records)
        else:
            self._by_length = self.ms > 0
            wanted = max(1, round(self.ms / 1000 / (shard_s or 1))) if self._by_length else 1
        self._shards = max(1, min(wanted, self.records))

    def next_shard(self, record: Record) -> int:
        """Return the number of the next record's shard; numbers rise, and some may be left out."""
        if self._by_length:
            middle = self._passed_ms + audio_ms(record) / 2
            self._passed_ms += audio_ms(record)
            return min(self._shards - 1, int(middle * self._shards / self.ms))
        number = self._passed * self._shards // self.records
        self._passed += 1
        return number


def folder_name(value: Any) -> str:
    """Return a folder's name for the value of a column; different values have different names."""
    if value is None:
        return "none"
    text = str(value)
    safe = _UNSAFE.sub("_", text)[:100].strip(".") or "_"
    if safe == text and text != "none":
        return text
    return f"{safe}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def _by_label(
    records: Iterable[Record], scratch: Path, label_of: Callable[[Record], str], labels: Sequence[str]
) -> Generator[tuple[str, Record]]:
    """Yield the records with their labels, label after label; several labels are sorted through files."""
    if len(labels) < 2:
        for record in records:
            yield label_of(record), record
        return
    paths = {label: scratch / f"folder-{number}.jsonl" for number, label in enumerate(labels)}
    files: dict[str, IO[bytes]] = {}
    try:
        for record in records:
            label = label_of(record)
            if label not in files:
                if len(files) >= _OPEN_FILES:
                    files.pop(next(iter(files))).close()
                files[label] = paths[label].open("ab")
            files[label].write(encode_row(record))
    finally:
        for file in files.values():
            file.close()
    for label in labels:
        with paths[label].open("rb") as file:
            for line in file:
                yield label, decode_row(line)
        paths[label].unlink()
