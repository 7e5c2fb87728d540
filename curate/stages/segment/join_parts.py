"""The gather that puts the parts of split recordings together again."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from curate.io.rows import is_finite_number
from curate.records import ID, Record
from curate.stage import Gather, Joined
from curate.stages.segment.children import PARENT_SPAN, moved_words

_CHILD = re.compile(r"(.+)/\d+", flags=re.DOTALL)
_OWN = frozenset({ID, "offset", "duration", "part", "parts", PARENT_SPAN, "segments"})


def _texts() -> list[str]:
    return ["text", "pred_text"]


@dataclass
class JoinParts(Gather):
    """Undoes the last split: the parts of a recording become one record with the id and place of the split parent.

    Texts are joined in the order of the parts, times of words become times from the start of the parent, and
    `segments` has the place of each part. `parts` is how many there were, and `missing_parts` are the numbers of those
    that a filter or a failure has left out, [] if none. A column that has one value in all parts is kept; others are
    dropped. Records that were not split pass unchanged. The balance of the run counts the parts as *joined*.

    Memory: the parts of one recording.

    Args:
        text_keys: the columns whose texts are joined, where records have them.
        words_key: the column with the words and their times.
        separator: what stands between two texts; empty for scripts without blanks.
    """

    text_keys: Sequence[str] = ()
    words_key: str = "words"
    separator: str = " "

    def __post_init__(self) -> None:
        self.text_keys = list(self.text_keys) or _texts()

    def writes(self) -> tuple[str, ...]:
        return ("duration", "parts", "missing_parts", "segments")

    def drops(self) -> frozenset[str]:
        return frozenset({"part", PARENT_SPAN})

    def gather(self, records: Iterator[Record]) -> Iterator[Record | Joined]:
        for parent, group in itertools.groupby(records, key=_parent_of):
            if parent is None:
                yield from group
            else:
                yield self._joined(parent, list(group))

    def _joined(self, parent: str, parts: list[Record]) -> Joined:
        ordered = sorted(parts, key=lambda part: (_number(part, "offset"), _number(part, "part")))
        start_s, end_s = _span_of(ordered)
        first = ordered[0]
        joins = {*self.text_keys, self.words_key}
        record: Record = {
            name: value
            for name, value in first.items()
            if name not in _OWN | joins and all(name in part and part[name] == value for part in ordered)
        }
        record[ID] = parent
        if start_s > 0:
            record["offset"] = start_s
        record["duration"] = round(end_s - start_s, 6)
        for key in self.text_keys:
            texts = [str(part[key]).strip() for part in ordered if part.get(key)]
            if any(key in part for part in ordered):
                record[key] = self.separator.join(filter(None, texts))
        if any(self.words_key in part for part in ordered):
            record[self.words_key] = [
                word
                for part in ordered
                for word in moved_words(part.get(self.words_key), _number(part, "offset") - start_s)
            ]
        record["segments"] = [
            [round(at - start_s, 3), round(at - start_s + _number(part, "duration"), 3)]
            for part in ordered
            for at in (_number(part, "offset"),)
        ]
        expected = int(_number(first, "parts"))
        there = {int(_number(part, "part")) for part in ordered}
        record["parts"] = expected
        record["missing_parts"] = [number for number in range(expected) if number not in there]
        return Joined(record, parts)


def _parent_of(record: Record) -> str | None:
    """Return the id of the record that a part was split from; None for a record that is not a part."""
    match = _CHILD.fullmatch(record[ID]) if "part" in record and "parts" in record else None
    return None if match is None else match[1]


def _span_of(parts: Sequence[Record]) -> tuple[float, float]:
    """Return where the parent lies in its recording; from the first to the last part where they do not say."""
    value: Any = parts[0].get(PARENT_SPAN)
    span = cast("list[Any]", value) if isinstance(value, list) else []
    if len(span) == 2 and all(map(is_finite_number, span)) and span[1] > span[0]:
        return float(span[0]), float(span[1])
    ends = [_number(part, "offset") + _number(part, "duration") for part in parts]
    return _number(parts[0], "offset"), max(ends)


def _number(record: Record, key: str) -> float:
    value: Any = record.get(key)
    return float(value) if is_finite_number(value) else 0.0
