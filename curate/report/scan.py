"""One pass over the records of a run: histograms, samples, and the worst error rates, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from curate.engine import RunReader
from curate.records import Record
from curate.report.breakdown import Breakdown
from curate.report.columns import DURATION, SPEAKING_RATE, Columns
from curate.report.histogram import Histogram
from curate.report.measures import MEASURES, MeasureSurvey
from curate.report.samples import Fate, Reservoirs, Worst, as_number, record_of
from curate.report.sanitize import printable

FATES: tuple[Fate, ...] = ("kept", "filtered", "quarantined")


def rows_of(run: RunReader, fate: Fate, problems: list[str]) -> Iterator[Record]:
    """Yield the kept records, or the notes about those with another fate, that have the record under `record`."""
    read = {"kept": run.records, "filtered": run.filtered, "quarantined": run.failed}
    return read[fate](damaged=problems)


MAX_SAMPLES: Mapping[Fate, int] = MappingProxyType({"kept": 10, "filtered": 18, "quarantined": 18})
"""The maximum number of samples of an outcome; all of them may be of one reason."""

_WORST = 20


class Survey:
    """What was seen of the records.

    Args:
        columns: what to look at.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.counts: dict[Fate, int] = dict.fromkeys(FATES, 0)
        measured = [column for column in columns.measured if column not in MEASURES]
        self.histograms = {column: {fate: Histogram() for fate in FATES} for column in measured}
        self.measures = MeasureSurvey(columns)
        self.breakdown = Breakdown()
        self.samples: dict[Fate, Reservoirs] = {fate: Reservoirs(most) for fate, most in MAX_SAMPLES.items()}
        self.worst = Worst(_WORST)
        self.errors = 0.0
        self.words = 0

    @classmethod
    def of(cls, run: RunReader, columns: Columns, problems: list[str]) -> Survey:
        """Read all records of a run once.

        Args:
            run: the run.
            columns: what to look at.
            problems: receives a message about every unit file that cannot be read.
        """
        survey = cls(columns)
        for fate in FATES:
            for row in rows_of(run, fate, problems):
                survey.see(fate, row)
        return survey

    def see(self, fate: Fate, row: Mapping[str, Any]) -> None:
        """Count a kept record, or a note about one that was not kept."""
        self.counts[fate] += 1
        record = record_of(fate, row)
        words = _count_words(record.get(self.columns.text))
        for column, by_fate in self.histograms.items():
            value = _VALUES[column](record, words) if column in _VALUES else as_number(record.get(column))
            if value is not None:
                by_fate[fate].add(value)
        self.measures.see(fate, row, record)
        self.samples[fate].offer(_group(fate, row), fate, row, self.columns)
        compared = self.columns.comparison
        rate = None if compared is None else as_number(record.get(compared.column))
        self.breakdown.see(fate, record, rate, words)
        if rate is not None:
            self.errors += rate * words
            self.words += words
            self.worst.offer(rate, fate, row, self.columns)

    def ids(self) -> Iterator[str]:
        """Yield the ids of all samples."""
        for reservoirs in self.samples.values():
            yield from (sample.id for _, samples in reservoirs.groups() for sample in samples)
        yield from (sample.id for sample in self.worst.samples())
        yield from (one.sample.id for examples in self.measures.examples().values() for one in examples)


def _group(fate: Fate, row: Mapping[str, Any]) -> str:
    if fate == "kept":
        return ""
    cause = row.get("code") if fate == "quarantined" else str(row.get("reason", "")).partition(" (")[0]
    return printable(f"{row.get('stage')} {cause}", 200)


def _count_words(text: Any) -> int:
    return len(text.split()) if isinstance(text, str) and len(text) <= 100_000 else 0


def _speaking_rate(record: Mapping[str, Any], words: int) -> float | None:
    duration_s = as_number(record.get(DURATION))
    return words / duration_s if words and duration_s is not None and duration_s > 0 else None


_VALUES: Mapping[str, Callable[[Mapping[str, Any], int], float | None]] = {SPEAKING_RATE: _speaking_rate}
