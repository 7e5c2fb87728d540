"""The stage that scores recognised texts for hallucinations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from curate.errors import PlanError, RecordError
from curate.io.rows import is_finite_number
from curate.records import Record
from curate.stage import RecordStage
from curate.text.hallucination import HallucinationScores, rate_limits, score_hallucination
from curate.text.languages import language_code

_COLUMNS = ("ngram_share", "cycle", "compression", "chars_per_s", "phrase", "no_speech")


@dataclass
class Hallucination(RecordStage):
    """Scores a recognised text, and writes the reasons to take it for a hallucination, possibly none.

    Columns: `hallucination_ngram_share`, `hallucination_cycle`, `hallucination_compression`,
    `hallucination_chars_per_s`, `hallucination_phrase`, `hallucination_no_speech` (null without `speech_s`) and
    `hallucination_reasons`, a list of `repetition`, `cycle`, `compression`, `rate_low`, `rate_high`, `phrase`,
    `no_speech`, `whisper_no_speech`, `whisper_logprob` and `whisper_compression`. Words are counted, and characters in
    scripts that separate words by no blank. Nothing is left out: filter with `len(hallucination_reasons) == 0`.

    A phrase that recognisers write for silence ("Thank you.") is a reason only where something else points to silence:
    little speech, Whisper's figures, or a rate below four times the lowest. Columns of speech and of Whisper are used
    if the record has them.

    Args:
        text_key: the column with the recognised text; null counts as empty.
        lang_key: the column with the language; records may lack it.
        duration_key: the column with the duration in seconds; without it there is no rate.
        speech_key: the column with the seconds of speech, as `voice_activity` writes it.
        max_ngram_share: the largest share of the words that one repeated n-gram may take up; 0.1 more for single words.
        max_cycle: the most words in a repeating stretch.
        max_compression: the largest zlib ratio, of Whisper's `compression_ratio` as well.
        min_speech_s: text with less speech than this is a hallucination.
        max_no_speech_prob: the largest `no_speech_prob`; it counts only where `avg_logprob` is null or below -0.5.
        min_avg_logprob: the least `avg_logprob`.
    """

    text_key: str = "pred_text"
    lang_key: str = "lang"
    duration_key: str = "duration"
    speech_key: str = "speech_s"
    max_ngram_share: float = 0.5
    max_cycle: int = 9
    max_compression: float = 2.4
    min_speech_s: float = 0.3
    max_no_speech_prob: float = 0.6
    min_avg_logprob: float = -1.0

    def check(self) -> None:
        if not 0 < self.max_ngram_share <= 1:
            raise PlanError(f"max_ngram_share={self.max_ngram_share!r:.80}: must be above 0 and at most 1")

    def reads(self) -> tuple[str, ...]:
        return (self.text_key,)

    def writes(self) -> tuple[str, ...]:
        return (
            *(f"hallucination_{column}" for column in _COLUMNS),
            "hallucination_reasons",
        )

    def process_record(self, record: Record) -> Record:
        if self.text_key not in record:
            raise RecordError("missing_column", f"the record has no {self.text_key!r} to score")
        text = record[self.text_key]
        if text is not None and not isinstance(text, str):
            raise RecordError("bad_value", f"{self.text_key} = {text!r:.80} is not a string")
        duration_s, speech_s = (_number(record, key) for key in (self.duration_key, self.speech_key))
        scores = score_hallucination(text or "", language_code(record.get(self.lang_key)), speech_s or duration_s)
        no_speech = None if speech_s is None else scores.units > 0 and speech_s < self.min_speech_s
        reasons = list(self._reasons(record, scores, no_speech)) if scores.units else []
        rate = None if scores.chars_per_s is None else round(scores.chars_per_s, 3)
        values = (
            round(scores.ngram_share, 4),
            scores.cycle,
            round(scores.compression, 3),
            rate,
            scores.phrase,
            no_speech,
            reasons,
        )
        record.update(zip(self.writes(), values, strict=True))
        return record

    def _reasons(self, record: Record, scores: HallucinationScores, no_speech: bool | None) -> Iterator[str]:
        if scores.ngram_share >= self.max_ngram_share and (
            scores.ngram_share > scores.single_share or scores.single_share >= self.max_ngram_share + 0.1
        ):
            yield "repetition"
        if scores.cycle > self.max_cycle * (2 if scores.unspaced else 1):
            yield "cycle"
        if scores.compression > self.max_compression:
            yield "compression"
        lowest, highest = rate_limits(scores.script)
        rate = scores.chars_per_s
        if rate is not None and rate < lowest:
            yield "rate_low"
        if rate is not None and rate > highest:
            yield "rate_high"
        if no_speech:
            yield "no_speech"
        whisper = list(self._whisper_reasons(record))
        yield from whisper
        if scores.phrase and (no_speech or whisper or (rate is not None and rate < 4 * lowest)):
            yield "phrase"

    def _whisper_reasons(self, record: Record) -> Iterator[str]:
        names = ("no_speech_prob", "avg_logprob", "compression_ratio")
        no_speech_prob, avg_logprob, ratio = (_number(record, name) for name in names)
        unsure = avg_logprob is None or avg_logprob < -0.5
        if no_speech_prob is not None and no_speech_prob > self.max_no_speech_prob and unsure:
            yield "whisper_no_speech"
        if avg_logprob is not None and avg_logprob < self.min_avg_logprob:
            yield "whisper_logprob"
        if ratio is not None and ratio > self.max_compression:
            yield "whisper_compression"


def _number(record: Record, key: str) -> float | None:
    value = record.get(key)
    return float(value) if value is not None and is_finite_number(value) else None
