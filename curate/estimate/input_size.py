"""How much there is to work on: counted from the source, in records and in audio, or in bytes where lengths are unknown.

A source is read for a bounded time. What lies behind is extrapolated, and the description says so.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

from curate.errors import UsageError
from curate.plural import counted
from curate.records import DEFAULT_FILEPATH_KEY, Failed, Record, audio_ms
from curate.stage import Source
from curate.storage import scheme_of

Unit: TypeAlias = Literal["seconds", "bytes", "records"]

SURVEY_S = 20.0
"""The time for which the source is read."""

CANDIDATES = 4096
"""The records among which a sample is chosen, spread evenly at random over all that were read."""

_JUDGED = 100
"""The first records, by which the unit is chosen."""


@attrs.frozen
class InputSize:
    """The size of an input.

    Args:
        records: the number of records.
        amount: the sum over the records of what work is proportional to, in `unit`.
        unit: `seconds` of audio where records have a `duration`; else `bytes` of the audio files; else `records`.
        basis: how it was found out, in words.
        longest: the amount of the largest record.
        mean_s: the seconds of audio for one `unit`; None: not known yet.
    """

    records: float
    amount: float
    unit: Unit
    basis: str
    longest: float
    mean_s: float | None = None

    @property
    def audio_s(self) -> float | None:
        """The audio in seconds; None: unknown."""
        return self.amount if self.unit == "seconds" else None if self.mean_s is None else self.amount * self.mean_s

    def in_records(self, audio_s: float) -> InputSize:
        """Return this size with the number of records as the amount, each of the length that they have on average.

        Args:
            audio_s: the audio of a record, in seconds.
        """
        return attrs.evolve(self, amount=self.records, unit="records", longest=1.0, mean_s=audio_s or None)

    def with_hours(self, hours: float) -> InputSize:
        """Return the size of an input like this with another amount of audio.

        Raises:
            UsageError: the amount of audio of this one is unknown.
        """
        if not self.audio_s:
            raise UsageError("--hours needs the lengths of the records: a `duration` column, or a sample of --sample-s")
        factor = hours * 3600 / self.audio_s
        basis = f"{hours:,g} hours, as asked, of records like those of the input"
        return attrs.evolve(self, records=self.records * factor, amount=self.amount * factor, basis=basis)


@attrs.frozen
class Survey:
    """The records of a source as far as they were read, and a spread sample of them.

    Args:
        candidates: the sample, in random order, so that any first part of it is spread over the input too.
        positions: the place of each candidate among the records.
    """

    size: InputSize
    candidates: Sequence[Record]
    positions: Sequence[int]


def survey(
    source: Source, *, limit_s: float = SURVEY_S, seed: int = 0, clock: Callable[[], float] = time.monotonic
) -> Survey:
    """Read a source, for a bounded time, and return its size and a spread sample.

    Raises:
        UsageError: it has no records, or the rest of it can be neither counted nor extrapolated.
    """
    end, draw = clock() + limit_s, random.Random(seed)
    chosen: list[tuple[int, Record]] = []
    tally: _Tally | None = None
    first: list[Record] = []
    is_whole = True
    for place, record in enumerate(item for item in source.read() if not isinstance(item, Failed)):
        if tally is not None:
            tally.add(record)
        else:
            first.append(record)
            if len(first) == _JUDGED:
                tally = _Tally.of(first)
        if len(chosen) < CANDIDATES:
            chosen.append((place, record))
        elif (drawn := draw.randrange(place + 1)) < CANDIDATES:  # each record is as likely to be among them
            chosen[drawn] = place, record
        if clock() > end:
            is_whole = False
            break
    if not first:
        raise UsageError("the input has no records, so nothing can be estimated")
    tally = tally or _Tally.of(first)
    size = tally.size() if is_whole else _extrapolated(tally, source)
    draw.shuffle(chosen)
    return Survey(size, [record for _, record in chosen], [place for place, _ in chosen])


def amount_of(record: Record, unit: Unit) -> float | None:
    """Return the amount of one record; None: it is unknown."""
    if unit == "seconds":
        return audio_ms(record) / 1000 or None
    if unit == "records":
        return 1.0
    path = _file_of(record)
    try:
        return None if path is None else float(path.stat().st_size)
    except OSError:
        return None


def _file_of(record: Record) -> Path | None:
    path: Any = record.get(DEFAULT_FILEPATH_KEY)
    return None if not isinstance(path, str) or scheme_of(path) or "::" in path else Path(path)


@attrs.define
class _Tally:
    unit: Unit
    records: int = 0
    known: int = 0
    amount: float = 0.0
    longest: float = 0.0
    text_bytes: int = 0

    @classmethod
    def of(cls, records: Sequence[Record]) -> _Tally:
        units: tuple[Unit, ...] = ("seconds", "bytes")
        unit = next((unit for unit in units if all(amount_of(each, unit) for each in records)), "records")
        tally = cls(unit)
        for record in records:
            tally.add(record)
        return tally

    def add(self, record: Record) -> None:
        self.records += 1
        amount = amount_of(record, self.unit)
        if amount:
            self.known += 1
            self.amount += amount
            self.longest = max(self.longest, amount)
        if self.records <= _JUDGED:
            self.text_bytes += len(json.dumps(record, default=str))

    def size(self, records: float | None = None, read: str = "") -> InputSize:
        """Return the size of all records, of which those that were counted are typical."""
        total = self.records if records is None else max(records, self.records)
        mean = self.amount / max(1, self.known)
        unknown = self.records - self.known
        what = {"seconds": "hours from `duration`", "bytes": "bytes of the audio files, for lack of `duration`"}
        basis = f"{read or counted(self.records) + ' counted'}, {what.get(self.unit, 'neither lengths nor sizes known')}"
        if unknown:
            basis += f"; {counted(unknown)} without a length taken as the mean"
        return InputSize(total, mean * total, self.unit, basis, self.longest)


def _extrapolated(tally: _Tally, source: Source) -> InputSize:
    total = source.count()
    if total is not None:
        return tally.size(total, f"{tally.records:,} of {total:,} records read and the rest extrapolated")
    try:
        inputs = sum(path.stat().st_size for path in source.inputs())
    except OSError:
        inputs = 0
    read = tally.text_bytes * tally.records // min(tally.records, _JUDGED)
    if inputs <= read:
        raise UsageError(
            f"the input is not read to its end after {SURVEY_S:g} s, and its size is unknown: say how much there is with "
            "--hours"
        )
    return tally.size(
        tally.records * inputs / read, f"about {read:,} of {inputs:,} bytes of the input read and the rest extrapolated"
    )
