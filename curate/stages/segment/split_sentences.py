"""The stage that cuts a transcribed recording into sentences, by its words' times and its punctuation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from curate.align.scores import mean_score
from curate.errors import PlanError, RecordError
from curate.io.rows import is_finite_number
from curate.records import Record
from curate.stage import RecordStage, Reject
from curate.stages.segment.children import OF_THE_WHOLE, PARENT_SPAN, child_of, inherited, numbered
from curate.text.sentences import ends_sentence

Word = dict[str, Any]


@dataclass
class SplitSentences(RecordStage):
    """Splits a record into sentences, from the times of its words (`[{word, start, end, …}]`) and their punctuation.

    A sentence ends with a word that ends in `.`, `?`, `!` or their like in other scripts. A sentence longer than
    `max_s` is cut at its longest pause, again and again; sentences shorter than `min_s` are joined with the next one
    while both stay within `max_s`. Each child has the `text` of its words and the `words` with times from its own
    start, and lies from half of the pause before to half of the pause behind it, at most `pad_s`. `part` and `parts`
    number them. A record without words is filtered.

    With `align_prefix`, each child also gets a score like that of the whole, in `<prefix>_score`: of its own words, and
    of the audio within it that the text does not cover. A sentence that the audio does not have stays by itself, with
    the score 0, so that a filter removes it by name.

    Args:
        words_key: the column with the words.
        text_key: the column that is written.
        min_s: a shorter sentence is joined with the next one.
        max_s: a longer sentence is cut.
        pad_s: the most of a pause that is kept on either side.
        align_prefix: the prefix of the columns of `align`, if the words are its; empty: they are not.
    """

    words_key: str = "words"
    text_key: str = "text"
    min_s: float = 1.0
    max_s: float = 30.0
    pad_s: float = 0.2
    align_prefix: str = ""

    cardinality = "splits"

    def check(self) -> None:
        if not 0 <= self.min_s <= self.max_s < float("inf") or not 0 <= self.pad_s < float("inf"):
            raise PlanError("split_sentences: min_s must be 0 to max_s, and pad_s 0 or more", self.name)

    def reads(self) -> tuple[str, ...]:
        return (self.words_key, "duration", *self._of_alignment()[1:])

    def writes(self) -> tuple[str, ...]:
        own = ("offset", "duration", "part", "parts", PARENT_SPAN, self.text_key, self.words_key)
        return own + self._of_alignment()[:1]

    def drops(self) -> frozenset[str]:
        return OF_THE_WHOLE.union(self._of_alignment()[1:]) - {"claimed_duration", self.words_key}

    def _of_alignment(self) -> tuple[str, ...]:
        """Return the columns of an alignment, in addition to its words: the score, and what is left over."""
        prefix = self.align_prefix
        return (f"{prefix}_score", f"{prefix}_missing", f"{prefix}_uncovered") if prefix else ()

    def process_record(self, record: Record) -> Sequence[Record] | Reject:
        words = words_of(record, self.words_key)
        if not words:
            return Reject("no words")
        duration: Any = record.get("duration")
        if not is_finite_number(duration):
            raise RecordError("missing_column", "the record has no 'duration'; use audio_duration before")
        pieces = [piece for sentence in _sentences(words) for piece in self._cut(sentence)]
        groups = self._joined(pieces)
        inherits = inherited(record, (self.words_key, *self._of_alignment()))
        return numbered([self._child(record, inherits, groups, place, float(duration)) for place in range(len(groups))])

    def _cut(self, words: list[Word]) -> Iterator[list[Word]]:
        """Yield the words of a sentence, in pieces that are not too long where they have more than one word."""
        if len(words) == 1 or words[-1]["end"] - words[0]["start"] <= self.max_s:
            yield words
            return
        pauses = [words[place]["start"] - words[place - 1]["end"] for place in range(1, len(words))]
        at = 1 + max(range(len(pauses)), key=lambda place: (pauses[place], -abs(place - len(pauses) / 2)))
        yield from self._cut(words[:at])
        yield from self._cut(words[at:])

    def _joined(self, pieces: list[list[Word]]) -> list[list[Word]]:
        groups: list[list[Word]] = []
        for piece in pieces:
            is_short = groups and groups[-1][-1]["end"] - groups[-1][0]["start"] < self.min_s
            if self.align_prefix and groups and (_is_absent(piece) or _is_absent(groups[-1])):
                is_short = False
            if is_short and piece[-1]["end"] - groups[-1][0]["start"] <= self.max_s:
                groups[-1] = groups[-1] + piece
            else:
                groups.append(piece)
        return groups

    def _child(
        self, record: Record, inherits: Record, groups: Sequence[list[Word]], place: int, duration_s: float
    ) -> Record:
        words = groups[place]
        before_s = groups[place - 1][-1]["end"] if place else 0.0
        behind_s = groups[place + 1][0]["start"] if place + 1 < len(groups) else duration_s
        start_s = round(words[0]["start"] - min(self.pad_s, max(0.0, words[0]["start"] - before_s) / 2), 3)
        end_s = min(duration_s, round(words[-1]["end"] + min(self.pad_s, max(0.0, behind_s - words[-1]["end"]) / 2), 3))
        child = child_of(record, inherits, start_s, max(start_s, end_s))
        child[self.text_key] = " ".join(str(word["word"]).strip() for word in words)
        child[self.words_key] = [
            {**word, "start": round(word["start"] - start_s, 3), "end": round(word["end"] - start_s, 3)}
            for word in words
        ]
        if self.align_prefix:
            score_key, _, uncovered_key = self._of_alignment()
            child[score_key] = _score(words, record.get(uncovered_key))
        return child


def _is_absent(words: Sequence[Word]) -> bool:
    """Return whether the audio has none of the words: `align` gives them no length."""
    return words[0]["start"] == words[-1]["end"]


def _score(words: Sequence[Word], uncovered: Any) -> float | None:
    """Return the score of the words of a child, and of the audio between them that the text does not cover."""
    extra_words = sum(
        float(one["words"])
        for one in uncovered or ()
        if words[0]["start"] <= one["start"] and one["end"] <= words[-1]["end"]
    )
    score = mean_score((word.get("score") for word in words), extra_words)
    return None if score is None else round(score, 3)


def words_of(record: Record, key: str) -> list[Word]:
    """Return the words of a column, in order of time; [] for null.

    Raises:
        RecordError: `missing_column`; `bad_value`: it is not a list of words with times.
    """
    if key not in record:
        raise RecordError("missing_column", f"the record has no {key!r}")
    value: object = record[key]
    if value is None:
        return []
    words: list[Word] = []
    for each in cast("list[object]", value) if isinstance(value, list) else [None]:
        word = cast("Word", each) if isinstance(each, dict) else {}
        start: Any = word.get("start")
        end: Any = word.get("end")
        if not isinstance(word.get("word"), str) or not is_finite_number(start) or not is_finite_number(end):
            raise RecordError("bad_value", f"{key} = {value!r:.80} is not a list of words with word, start and end")
        if not 0 <= start <= end or (words and start < words[-1]["start"]):
            raise RecordError("bad_value", f"{key}: the word {word['word']!r:.40} at {start} s is out of order")
        words.append(word)
    return words


def _sentences(words: Sequence[Word]) -> Iterator[list[Word]]:
    sentence: list[Word] = []
    for word in words:
        sentence.append(word)
        if ends_sentence(word["word"]):
            yield sentence
            sentence = []
    if sentence:
        yield sentence
