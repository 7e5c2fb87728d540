"""A record that is transcribed window by window, and its row."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

from curate.asr import Word
from curate.errors import InfrastructureError
from curate.io.rows import is_finite_number
from curate.models import Row
from curate.records import Record
from curate.stages.recognise.windows import Span, insert_words, merge_words, wordless_spans

_DIGITS = 3
_LOOPS = "compression_ratio"
"""Of this column the largest value counts: one window that loops makes the text doubtful."""


class LongRecord:
    """A record, and the rows of its windows.

    Args:
        record: the record; windows lie in its audio.
        windows: start and end of each, in seconds from the start of the record's audio.
        left_out: columns that the windows' records do not need, such as `speech`.
        speech: where speech is, if that is known: what has no word there is recognised again.
        window_s: the greatest length of a window.
    """

    def __init__(
        self,
        record: Record,
        windows: Sequence[Span],
        left_out: frozenset[str],
        speech: Sequence[Span] = (),
        window_s: float = math.inf,
    ) -> None:
        self.record = record
        self.windows = list(windows)
        self.failed = False
        self._rows: dict[int, Row] = {}
        offset: Any = record.get("offset")
        at_s = float(offset) if is_finite_number(offset) else 0.0
        self._at_s = at_s
        self._columns = {name: value for name, value in record.items() if name not in left_out}
        self._speech = speech
        self._window_s = window_s
        self._again: list[Span] | None = None
        self.waiting: list[tuple[int, Record]] = [(place, self._part(span)) for place, span in enumerate(self.windows)]
        """The windows to be transcribed: their numbers and records."""

    def _part(self, span: Span) -> Record:
        start_s, end_s = span
        return {**self._columns, "offset": round(self._at_s + start_s, 6), "duration": round(end_s - start_s, 6)}

    def add(self, place: int, row: Row) -> bool:
        """Add the row of a window, and return whether all are there, and none has failed."""
        self._rows[place] = row
        return len(self._rows) == len(self.windows) + len(self._again or ()) and not self.failed

    def look_again(self) -> bool:
        """Return whether there is speech without a word, and let it wait to be transcribed; True once."""
        rows = self._of_windows()
        if self._again is not None or not self._speech or any(row["text"] and not row.get("words") for row in rows):
            return False
        self._again = wordless_spans(self._speech, self._merged(rows), self._window_s)
        self.waiting = [(len(self.windows) + number, self._part(span)) for number, span in enumerate(self._again)]
        return bool(self._again)

    def _of_windows(self) -> list[Row]:
        return [self._rows[place] for place in range(len(self.windows))]

    def _overlap(self) -> bool:
        return any(later[0] < earlier[1] for earlier, later in pairwise(self.windows))

    def _merged(self, rows: Sequence[Row]) -> list[Word]:
        words = [self._words(row, start_s) for row, (start_s, _) in zip(rows, self.windows, strict=True)]
        return merge_words(self.windows, words) if self._overlap() else [word for part in words for word in part]

    def row(self) -> Row:
        """Return the row of the whole record.

        Raises:
            InfrastructureError: windows overlap, and the recogniser gives no times of words.
        """
        rows = self._of_windows()
        if any(row["text"] and not row.get("words") for row in rows):
            if self._overlap():
                raise InfrastructureError(
                    "the recogniser gives no words with times, so the texts of overlapping windows cannot be joined; "
                    "use another, or no long_form"
                )
            return {**self._others(rows), "text": " ".join(filter(None, (str(row["text"]).strip() for row in rows)))}
        merged = self._merged(rows)
        for number, span in enumerate(self._again or ()):
            merged = insert_words(merged, self._words(self._rows[len(self.windows) + number], span[0]), span)
        blank = " " if all(_has_blanks(row) for row in rows) else ""
        joined = {"text": blank.join(word.text for word in merged), "words": [word.row() for word in merged]}
        return {**self._others(rows), **joined}

    @staticmethod
    def _words(row: Row, start_s: float) -> list[Word]:
        return [
            Word(
                word["word"],
                round(word["start"] + start_s, _DIGITS),
                round(word["end"] + start_s, _DIGITS),
                word.get("score"),
            )
            for word in cast("Sequence[Mapping[str, Any]]", row.get("words") or ())
        ]

    def _others(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return the columns other than text and words: means by length, or the value of the most audio."""
        lengths_s = [end_s - start_s for start_s, end_s in self.windows]
        names = [name for name in rows[0] if name not in ("text", "words")]
        return {name: _combined(name, [row.get(name) for row in rows], lengths_s) for name in names}


def _combined(name: str, values: Sequence[Any], lengths_s: Sequence[float]) -> Any:
    known = [(value, length_s) for value, length_s in zip(values, lengths_s, strict=True) if value is not None]
    if not known:
        return None
    if all(is_finite_number(value) for value, _ in known):
        if name == _LOOPS:
            return max(value for value, _ in known)
        total_s = sum(length_s for _, length_s in known)
        return round(sum(value * length_s for value, length_s in known) / total_s, _DIGITS)
    seconds: dict[str, float] = defaultdict(float)
    for value, length_s in known:
        seconds[repr(value)] += length_s
    most = max(seconds, key=lambda shown: seconds[shown])
    return next(value for value, _ in known if repr(value) == most)


def _has_blanks(row: Row) -> bool:
    """Return whether the words of a row are separated by blanks in its text."""
    words = [str(word["word"]) for word in row.get("words") or ()]
    return len(words) < 2 or " ".join(words) == " ".join(str(row["text"]).split())
