"""The stage that measures how fast a transcript is spoken, and whether its tokens fit a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from curate.errors import PlanError, RecordError
from curate.io.rows import is_finite_number
from curate.plugin import resolved_setting
from curate.records import Record
from curate.resolution import PluginLookup, Resolved
from curate.stage import RecordStage
from curate.stages.text.normalise import text_of
from curate.text.languages import language_code
from curate.text.script_rules import apply_script_rules
from curate.text.scripts import is_unspaced
from curate.text.tokenizers import Encode, TokenizerFile, count_repeats, load_tokenizer


@dataclass
class TextRates(RecordStage):
    """Writes `chars_per_s` and `words_per_s` of a transcript, to find transcripts of other audio and wrong durations.

    Letters, digits and marks are counted, without blanks, punctuation and noise tags. `words_per_s` is null in scripts
    that separate words by no blank; all columns are null for a null text.

    With `tokenizer`, also `tokens` and `tokens_per_s`, of the text as it is, without special tokens; and, where the
    length of a frame or `max_tokens` is known, `label_fit`: how many more tokens fit. For CTC these are the output
    frames − tokens − tokens equal to the one before (a blank frame divides them). A record below 0 cannot be trained
    on: filter with `label_fit >= 0`.

    Args:
        text_key: the column with the text.
        duration_key: the column with the duration in seconds.
        lang_key: the column with the language; records may lack it.
        tokenizer: a SentencePiece `.model`, a `tokenizer.json` of Hugging Face, or a `.nemo`; empty: none. It is read
            when the pipeline is planned.
        frame_s: the seconds of audio behind each output frame of the model, 0.08 for FastConformer, 0.04 for Conformer;
            None: as the `.nemo` says.
        max_tokens: the most tokens that the model takes, special tokens included: 448 for Whisper; None: no limit.
    """

    text_key: str = "text"
    duration_key: str = "duration"
    lang_key: str = "lang"
    tokenizer: str = ""
    frame_s: float | None = None
    max_tokens: int | None = None

    def resolve(self, host: PluginLookup) -> Self:
        if not self.tokenizer:
            return self
        return self.with_resolved(tokenizer=Resolved(load_tokenizer(Path(self.tokenizer).expanduser())))

    def check(self) -> None:
        for name, value in (("frame_s", self.frame_s), ("max_tokens", self.max_tokens)):
            if value is not None and not self.tokenizer:
                raise PlanError(f"{name}={value!r:.80} counts tokens: set tokenizer as well")
            if value is not None and not (is_finite_number(value) and value > 0):
                raise PlanError(f"{name}={value!r:.80}: must be above 0")
        if self.tokenizer.endswith(".nemo") and self.frame_s is None and self._file().frame_s is None:
            raise PlanError(
                f"tokenizer={self.tokenizer!r} does not say how long its output frames are: set frame_s, in seconds"
            )

    def fingerprint(self) -> Mapping[str, Any]:
        return {"tokenizer_sha256": self._file().sha256} if self.tokenizer else {}

    def reads(self) -> tuple[str, ...]:
        return (self.text_key, self.duration_key)

    def writes(self) -> tuple[str, ...]:
        fits = self.frame_s is not None or self.max_tokens is not None or self.tokenizer.endswith(".nemo")
        tokens = ("tokens", "tokens_per_s", *(("label_fit",) if fits else ()))
        return ("chars_per_s", "words_per_s", *(tokens if self.tokenizer else ()))

    def setup(self) -> None:
        self._encode: Encode | None = None
        if self.tokenizer:
            file = self._file()
            self._encode = file.encoder()
            self._frame_s = self.frame_s or file.frame_s
            self._most_tokens = None if self.max_tokens is None else self.max_tokens - file.special_tokens()

    def _file(self) -> TokenizerFile:
        return resolved_setting(self, "tokenizer").value

    def process_record(self, record: Record) -> Record:
        text = text_of(record, self.text_key)
        if text is None:
            record.update(dict.fromkeys(self.writes()))
            return record
        seconds = record.get(self.duration_key)
        if seconds is None:
            raise RecordError("missing_column", f"the record has no {self.duration_key!r}; use audio_duration before")
        if not is_finite_number(seconds) or seconds <= 0:
            raise RecordError("bad_value", f"{self.duration_key} = {seconds!r:.80} is not a number of seconds above 0")
        normalised = apply_script_rules(text, language_code(record.get(self.lang_key)))
        words = normalised.split()
        record["chars_per_s"] = round(sum(map(len, words)) / seconds, 3)
        record["words_per_s"] = None if is_unspaced(normalised) else round(len(words) / seconds, 3)
        if self._encode is not None:
            self._write_tokens(record, self._encode(text), seconds)
        return record

    def _write_tokens(self, record: Record, tokens: Any, seconds: float) -> None:
        record["tokens"] = len(tokens)
        record["tokens_per_s"] = round(len(tokens) / seconds, 3)
        room: list[int] = []
        if self._frame_s is not None:
            # 0.3 s are 3.9999… frames of 0.075 s; a frame that has begun is not counted.
            room.append(math.floor(seconds / self._frame_s + 1e-6) - len(tokens) - count_repeats(tokens))
        if self._most_tokens is not None:
            room.append(self._most_tokens - len(tokens))
        if room:
            record["label_fit"] = min(room)
