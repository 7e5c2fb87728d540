"""The stage that selects one of several transcripts of a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.errors import PlanError, RecordError
from curate.io.rows import is_finite_number
from curate.records import Record
from curate.stages.recognise.opinions import OpinionsStage

_ORDERS = ("highest", "lowest")


@dataclass
class SelectBest(OpinionsStage):
    """Selects the best of several transcripts, by a score of each or by how far it agrees with the others.

    With `score_keys` the transcript with the best score is selected, such as `avg_logprob` of two passes of one model.
    Scores of different models are seldom comparable. Without, it is the transcript with the fewest word errors against
    all others, by the words of the longer one of each pair, which needs three or more. Of equally good ones the first
    counts. `best_text` gets the transcript as it is, `best_source` the name of its column, and `best_score` its score,
    or the mean of those rates.

    Args:
        text_keys: the columns with the transcripts, two or more, the most trusted first.
        score_keys: the columns with their scores, in the same order; a transcript whose score is null is selected last.
        order: `highest` or `lowest`: which score is best.
        normaliser: as for `word_error_rate`; without `score_keys` the transcripts are compared in this form.
        lang_key: the column with the language, for the normaliser; records may lack it.
        prefix: the beginning of the names of the columns that are written.
    """

    score_keys: Sequence[str] = field(default_factory=list[str], kw_only=True)
    order: str = field(default="highest", kw_only=True)
    prefix: str = field(default="best", kw_only=True)

    name = "select_best"

    def check(self) -> None:
        super().check()
        if isinstance(self.score_keys, str) or (self.score_keys and len(self.score_keys) != len(self.text_keys)):
            raise PlanError(
                f"select_best: score_keys={self.score_keys!r:.80}: give one column for each of text_keys",
                self.name,
            )
        if self.order not in _ORDERS:
            raise PlanError(f"select_best: order={self.order!r:.80}: choose from {', '.join(_ORDERS)}", self.name)
        if not self.score_keys and len(self.text_keys) < 3:
            raise PlanError(
                "select_best: two transcripts are equally far from each other; give score_keys, or a third transcript",
                self.name,
            )
        if not self.prefix:
            raise PlanError("select_best: prefix is empty; it begins the names of the columns", self.name)

    def reads(self) -> Sequence[str]:
        return (*super().reads(), *self.score_keys)

    def writes(self) -> Sequence[str]:
        return tuple(f"{self.prefix}_{name}" for name in ("text", "source", "score"))

    def process_record(self, record: Record) -> Record:
        texts = self.texts(record)
        scores = self._scores(record) if self.score_keys else self._mean_rates(record, texts)
        sign = -1 if self.score_keys and self.order == "highest" else 1
        places = [place for place, score in enumerate(scores) if score is not None]
        best = min(places, key=lambda place: sign * _number(scores[place]), default=0)
        values = (record[self.text_keys[best]], self.text_keys[best], scores[best])
        record.update(zip(self.writes(), values, strict=True))
        return record

    def _scores(self, record: Mapping[str, Any]) -> list[float | None]:
        scores: list[float | None] = []
        for key in self.score_keys:
            if key not in record:
                raise RecordError("missing_column", f"the record has no {key!r} to choose by")
            score: Any = record[key]
            if score is not None and not is_finite_number(score):
                raise RecordError("bad_value", f"{key} = {score!r:.80} is not a number")
            scores.append(score)
        return scores

    def _mean_rates(self, record: Record, texts: Sequence[str]) -> list[float | None]:
        normalise = self.normalised_by(record)
        normalised = list(map(normalise, texts))
        return [  # the distance of each from itself is 0
            round(sum(self._distance(record, other, text) for other in normalised) / (len(texts) - 1), 4)
            for text in normalised
        ]

    def _distance(self, record: Record, first: str, second: str) -> float:
        """Return the word errors between two transcripts by the words of the longer one, so that none is favoured."""
        errors = self.errors(record, first, second)[0]
        words = errors.reference_length + max(0, errors.insertions - errors.deletions)
        return errors.errors / max(words, 1)


def _number(score: float | None) -> float:
    return 0.0 if score is None else score
