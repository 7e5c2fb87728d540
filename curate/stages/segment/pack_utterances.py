"""The gather that packs neighbouring utterances of a recording into windows, to train models with a fixed window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.errors import PlanError
from curate.io.rows import is_finite_number
from curate.records import DEFAULT_FILEPATH_KEY, ID, Record
from curate.stage import Gather, Joined
from curate.stages.segment.children import PARENT_SPAN, moved_words

_SLACK_S = 0.001
_PLACE = frozenset({"offset", "duration", "part", "parts", PARENT_SPAN, "segments"})


def _agreeing() -> list[str]:
    return ["speaker", "lang", "channel"]


@dataclass
class PackUtterances(Gather):
    """Packs neighbouring utterances of one recording into windows, as models with a fixed window are trained.

    An utterance is a record with `offset`, `duration` and `text`. A window lies from the start of its first utterance
    to the end of its last one, at most `max_s`. Its text is theirs, joined; `segments` has `{start, end, text}` of
    each, in seconds from the window's start, `words` the words with times from there, and `previous_text` the text of
    the window before. Where the utterance between two others is missing, because it was filtered or has failed, a
    window ends: it would hold speech that its text lacks. So it does at a pause of more than `max_pause_s`, which may
    hold such speech. `previous_text` is null for the first window of a recording, of a speaker, and behind a missing
    utterance.

    Windows never contain two recordings. They contain two speakers only where `within` does not name the column. A
    column that has one value in all utterances is kept; others are dropped. The window has the `_id` of its first
    utterance, and the balance of the run counts the utterances as *joined*.

    Memory: the utterances of one window.

    Args:
        filepath_key: the column that holds the path of the audio.
        text_key: the column with the text; an utterance without one is a window of its own.
        words_key: the column with words and their times, if there is one.
        max_s: the greatest length of a window; a longer utterance is a window of its own.
        max_pause_s: the longest pause inside of a window.
        within: the columns in which all utterances of a window agree; a missing column is a value like any other.
        separator: what stands between two texts; empty for scripts without blanks.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    text_key: str = "text"
    words_key: str = "words"
    max_s: float = 30.0
    max_pause_s: float = 2.0
    within: Sequence[str] = field(default_factory=_agreeing)
    separator: str = " "

    def check(self) -> None:
        if not 0.5 <= self.max_s < float("inf") or not 0 <= self.max_pause_s < float("inf"):
            raise PlanError("pack_utterances: max_s must be at least 0.5 s, and max_pause_s 0 or more", self.name)

    def reads(self) -> tuple[str, ...]:
        return (self.filepath_key, self.text_key)

    def writes(self) -> tuple[str, ...]:
        return ("segments", "previous_text")

    def drops(self) -> frozenset[str]:
        return frozenset({"part", "parts", PARENT_SPAN})

    def gather(self, records: Iterator[Record]) -> Iterator[Record | Joined]:
        window: list[Record] = []
        previous: str | None = None
        for record in records:
            if window and not self._fits(window, record):
                yield self._packed(window, previous)
                previous = self._text(window) if self._follows(window[-1], record) else None
                window = []
            window.append(record)
        if window:
            yield self._packed(window, previous)

    def _follows(self, before: Record, record: Record) -> bool:
        """Return whether a record is the next utterance of the same recording, and nothing between them is missing."""
        names = (self.filepath_key, *self.within)
        if any(before.get(name) != record.get(name) for name in names) or not before.get(self.text_key):
            return False
        if not (is_finite_number(before.get("offset")) and is_finite_number(record.get("offset"))):
            return False
        if _parent_of(before) == _parent_of(record) and _number(record, "part") - _number(before, "part") not in (0, 1):
            return False
        return _number(record, "offset") >= _end_s(before) - _SLACK_S

    def _fits(self, window: Sequence[Record], record: Record) -> bool:
        return (
            self._follows(window[-1], record)
            and bool(record.get(self.text_key))
            and _number(record, "offset") - _end_s(window[-1]) <= self.max_pause_s + _SLACK_S
            and _end_s(record) - _number(window[0], "offset") <= self.max_s + _SLACK_S
        )

    def _text(self, window: Sequence[Record]) -> str:
        texts = (str(part.get(self.text_key) or "").strip() for part in window)
        return self.separator.join(filter(None, texts))

    def _packed(self, window: Sequence[Record], previous: str | None) -> Record | Joined:
        first, start_s = window[0], _number(window[0], "offset")
        record: Record = {
            name: value
            for name, value in first.items()
            if name not in _PLACE and all(name in part and part[name] == value for part in window)
        }
        record[ID] = first[ID]
        if "offset" in first:
            record["offset"] = first["offset"]
        if "duration" in first:
            record["duration"] = round(_end_s(window[-1]) - start_s, 6)
        record[self.text_key] = self._text(window)
        record["segments"] = [self._segment(part, start_s) for part in window if part.get(self.text_key)]
        record["previous_text"] = previous
        if any(self.words_key in part for part in window):
            record[self.words_key] = [
                word
                for part in window
                for word in moved_words(part.get(self.words_key), _number(part, "offset") - start_s)
            ]
        return Joined(record, list(window)) if len(window) > 1 else record

    def _segment(self, part: Record, start_s: float) -> Record:
        at_s = _number(part, "offset") - start_s
        times = {"start": round(at_s, 3), "end": round(at_s + _number(part, "duration"), 3)}
        speaker = {} if "speaker" in self.within or part.get("speaker") is None else {"speaker": part["speaker"]}
        return {**times, "text": str(part[self.text_key]).strip(), **speaker}


def _parent_of(record: Record) -> str:
    """Return the id of the record that an utterance was split from, or its own input."""
    return str(record[ID]).rpartition("/" if "part" in record else ":")[0]


def _end_s(record: Record) -> float:
    return _number(record, "offset") + _number(record, "duration")


def _number(record: Record, key: str) -> float:
    value: Any = record.get(key)
    return float(value) if is_finite_number(value) else 0.0
