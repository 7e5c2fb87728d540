"""How much there is to work on: counted from the source, in records and in seconds of audio.

Lengths are those of `duration`, or of the headers of the files. A source is read for a bounded time; what lies behind
is extrapolated, and the description says so.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import attrs

from curate.audio import probe
from curate.errors import InfrastructureError, RecordError, UsageError
from curate.plural import counted
from curate.records import DEFAULT_FILEPATH_KEY, Failed, Record, audio_ms
from curate.stage import Source
from curate.storage import scheme_of

Unit: TypeAlias = Literal["seconds", "records"]

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
        amount: what work is proportional to, in `unit`.
        unit: `seconds` of audio, or `records` where lengths are unknown.
        basis: how it was found, in words.
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
        if self.unit == "seconds":
            return self.amount
        return None if self.mean_s is None else self.amount * self.mean_s

    def in_records(self, mean_s: float) -> InputSize:
        """Return this size with the number of records as the amount.

        Args:
            mean_s: the audio of a record, in seconds; 0: unknown.
        """
        return attrs.evolve(self, amount=self.records, unit="records", longest=1.0, mean_s=mean_s or None)

    def with_hours(self, hours: float) -> InputSize:
        """Return the size of an input like this with another amount of audio.

        Raises:
            UsageError: the amount of audio of this one is unknown.
        """
        if not self.audio_s:
            raise UsageError("--hours needs the lengths of the records: a `duration` column, or a sample of --sample-s")
        factor = hours * 3600 / self.audio_s
        basis = f"{hours:,.12g} hours as asked, of records like those of the input"
        return attrs.evolve(self, records=self.records * factor, amount=self.amount * factor, basis=basis)


@attrs.frozen
class Survey:
    """The records of a source as far as they were read, and a spread sample of them.

    Args:
        size: of the whole input.
        candidates: the sample, in an order in which any first part of it is spread over the lengths: the median first,
            then the quartiles, and so on.
        positions: the place of each candidate among the records.
        amounts: the amount of each candidate, in the unit of the size.
    """

    size: InputSize
    candidates: Sequence[Record]
    positions: Sequence[int]
    amounts: Sequence[float]


def survey(
    source: Source, *, limit_s: float = SURVEY_S, seed: int = 0, clock: Callable[[], float] = time.monotonic
) -> Survey:
    """Read a source, for a bounded time, and return its size and a spread sample.

    Raises:
        UsageError: it has no records, or the rest of it can be neither counted nor extrapolated.
    """
    end, draw = clock() + limit_s, random.Random(seed)
    tally = _Tally(source.audio_roots())
    chosen: list[tuple[int, Record, float | None]] = []
    is_whole = True
    for place, record in enumerate(item for item in source.read() if not isinstance(item, Failed)):
        candidate = place, record, tally.add(record)
        if place < CANDIDATES:
            chosen.append(candidate)
        elif (drawn := draw.randrange(place + 1)) < CANDIDATES:  # each record is as likely to be among them
            chosen[drawn] = candidate
        if clock() > end:
            is_whole = False
            break
    if not tally.records:
        raise UsageError("the input has no records, so nothing can be estimated")
    size = tally.size() if is_whole else _extrapolated(tally, source)
    draw.shuffle(chosen)
    mean = size.amount / size.records
    amounts = [1.0 if size.unit == "records" else mean if length is None else length for _, _, length in chosen]
    by_amount = sorted(range(len(chosen)), key=amounts.__getitem__)
    order = [by_amount[rank] for rank in _spread(len(chosen))]
    return Survey(size, [chosen[at][1] for at in order], [chosen[at][0] for at in order], [amounts[at] for at in order])


def _spread(count: int) -> list[int]:
    """Return the numbers below a count in an order of which each first part is spread evenly, the middle first.

    That is the van der Corput sequence: the bits of 1, 2, 3, … in reverse, behind the point.
    """
    bits = count.bit_length()
    points = (int(f"{number:0{bits}b}"[::-1], 2) / 2**bits for number in (*range(1, 2**bits), 0))
    return list(dict.fromkeys(int(point * count) for point in points))


@attrs.define
class _Tally:
    """The records so far.

    Args:
        roots: the folders that audio may be read from; None: anywhere.
    """

    roots: tuple[str, ...] | None
    records: int = 0
    declared: int = 0
    opened: int = 0
    unopened: int = 0
    seconds: float = 0.0
    longest_s: float = 0.0
    text_bytes: int = 0
    """The length of the first records as JSON."""

    def add(self, record: Record) -> float | None:
        """Count a record, and return its seconds of audio; None: unknown."""
        self.records += 1
        if self.records <= _JUDGED:
            self.text_bytes += len(json.dumps(record, default=str))
        seconds: float | None = audio_ms(record) / 1000
        if seconds:
            self.declared += 1
        else:
            seconds = self._opened_s(record)
        self.seconds += seconds or 0.0
        self.longest_s = max(self.longest_s, seconds or 0.0)
        return seconds

    def _opened_s(self, record: Record) -> float | None:
        """Return the length of a local file by its header; 0 for what is not a recording, which fails quickly."""
        path: Any = record.get(DEFAULT_FILEPATH_KEY)
        is_local = isinstance(path, str) and scheme_of(path) is None and "::" not in path
        if not is_local or (self.records > _JUDGED and not self.opened):
            return None
        try:
            seconds = probe(path, roots=self.roots).duration_s
        except (RecordError, InfrastructureError):
            self.unopened += 1
            return 0.0
        self.opened += 1
        return seconds

    def size(self, records: float | None = None, read: str = "") -> InputSize:
        """Return the size of all records, of which those that were read are typical."""
        total = self.records if records is None else max(records, self.records)
        read = read or f"{counted(self.records)} counted"
        known = self.declared + self.opened + self.unopened
        if not self.seconds or 2 * known < self.records:
            return InputSize(total, total, "records", f"{read}, lengths unknown", 1.0)
        ways = {"`duration`": self.declared, "headers of files": self.opened}
        basis = f"{read}, lengths by {' and '.join(way for way, number in ways.items() if number)}"
        if self.unopened:
            basis += f", {self.unopened:,} not opened"
        if known < self.records:
            basis += f", {self.records - known:,} without a length taken as the mean"
        return InputSize(total, self.seconds / known * total, "seconds", basis, self.longest_s)


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
            f"{counted(tally.records)} were read in {SURVEY_S:g} s, and the source does not know how many there are; "
            "estimate from a manifest of a part of them, and scale it with --hours"
        )
    words = f"about {read:,} of {inputs:,} bytes of the input read and the rest extrapolated"
    return tally.size(tally.records * inputs / read, words)
