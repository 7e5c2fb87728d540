"""The stage that compares the transcripts of several recognisers, and takes the majority text of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, groupby
from typing import Any

from curate.errors import PlanError
from curate.records import Record
from curate.stages.recognise.opinions import OpinionsStage
from curate.text.consensus import AgreedWord, find_majority, join_words


@dataclass
class Agreement(OpinionsStage):
    """Measures how far the transcripts of several recognisers agree, and writes their majority text.

    `agreement_pairs` has the error rates of each pair (`{first, second, wer, cer}`, the first being the reference), and
    `agreement_wer` and `agreement_cer` the greatest of them: 0 where all agree. `agreement_text` is the majority text:
    the transcripts are aligned word by word, and each word has one vote of each; a tie is decided by the order of
    `text_keys`, so put the best recogniser first. Its words are spelled as in the first transcript that has them.
    `agreement_share` is the share of its places on which all agree, and `agreement_parts` its passages by the number of
    transcripts that agree (`{text, votes}`); the text of a passage in which most have no word is empty.

    Two architectures that err in different ways show more than two sizes of one: models trained on the same data make
    the same mistakes, and agree on them.

    Args:
        text_keys: the columns with the transcripts, two or more, the best first.
        normaliser: as for `word_error_rate`: transcripts, and the single words that are voted on, are compared in this
            form.
        lang_key: the column with the language, for the normaliser; records may lack it.
        prefix: the beginning of the names of the columns that are written.
    """

    prefix: str = field(default="agreement", kw_only=True)

    name = "agreement"

    def check(self) -> None:
        super().check()
        if not self.prefix:
            raise PlanError("agreement: prefix is empty; it begins the names of the columns", self.name)

    def writes(self) -> Sequence[str]:
        return tuple(f"{self.prefix}_{name}" for name in ("wer", "cer", "pairs", "text", "share", "parts"))

    def process_record(self, record: Record) -> Record:
        texts, normalise = self.texts(record), self.normalised_by(record)
        normalised = list(map(normalise, texts))
        pairs: list[dict[str, Any]] = []
        for first, second in combinations(range(len(texts)), 2):
            words, characters = self.errors(record, normalised[first], normalised[second])
            pairs.append(
                {
                    "first": self.text_keys[first],
                    "second": self.text_keys[second],
                    "wer": round(words.rate, 4),
                    "cer": round(characters.rate, 4),
                }
            )
        majority = find_majority(texts, normalise)
        agreed = sum(word.votes == len(texts) for word in majority)
        values = (
            max(pair["wer"] for pair in pairs),
            max(pair["cer"] for pair in pairs),
            pairs,
            join_words(majority),
            round(agreed / len(majority), 4) if majority else 1.0,
            _parts(majority),
        )
        record.update(zip(self.writes(), values, strict=True))
        return record


def _parts(majority: Sequence[AgreedWord]) -> list[dict[str, Any]]:
    """Return the passages of the majority text whose words have equally many votes."""
    groups = groupby(majority, key=lambda word: (word.votes, bool(word.text)))
    return [{"text": join_words(list(words)), "votes": votes} for (votes, _), words in groups]
