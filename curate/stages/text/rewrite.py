"""The stages that write a transcript in another form by an engine: inverse normalisation, and punctuation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from curate.errors import PlanError, RecordError
from curate.plugin import resolved_setting
from curate.records import AudioBatch, Record
from curate.resolution import PluginLookup
from curate.stage import ProcessingStage
from curate.stages.text.error_rates import resolve_rewriter
from curate.stages.text.normalise import text_of
from curate.text.languages import language_code
from curate.text.rewriting import Guard, check_rewriter, describe_rewriter, rewrite_texts

_TEXTS_OF_A_CALL = 32


@dataclass
class _RewritingStage(ProcessingStage):
    """The base class of the stages that rewrite transcripts."""

    text_key: str = "text"
    lang_key: str = "lang"
    lang: str = ""
    engine: str = ""
    model: str = ""
    max_cer: float = 0.1
    max_upper_share: float = 0.6

    compares_numbers: ClassVar[bool] = True
    batch_size = _TEXTS_OF_A_CALL

    def _output_key(self) -> str:
        raise NotImplementedError

    def resolve(self, host: PluginLookup) -> Self:
        return self.with_resolved(engine=resolve_rewriter(self.engine, host))

    def check(self) -> None:
        for name, value in (("max_cer", self.max_cer), ("max_upper_share", self.max_upper_share)):
            if not 0 <= value <= 1:
                raise PlanError(f"{name}={value!r:.80}: must be between 0 and 1")
        if self.lang and language_code(self.lang) is None:
            raise PlanError(f"lang={self.lang!r:.80} is not the tag of a language; use BCP-47")
        check_rewriter(resolved_setting(self, "engine").value, self.model)

    def fingerprint(self) -> Mapping[str, Any]:
        found = resolved_setting(self, "engine")
        return {"engine": describe_rewriter(found.value, self.model), "engine_version": found.version}

    def reads(self) -> tuple[str, ...]:
        return (self.text_key,)

    def writes(self) -> tuple[str, ...]:
        return (self._output_key(), f"{self._output_key()}_fallback")

    def setup(self) -> None:
        self._rewrite = resolved_setting(self, "engine").value
        self._guard = Guard(self.max_cer, self.max_upper_share, numbers=not self.compares_numbers)

    def process(self, batch: AudioBatch) -> AudioBatch:
        done = batch.with_data([])
        for start in range(0, len(batch.data), self.batch_size):
            given: list[tuple[Record, str, str | None]] = []
            for record in batch.data[start : start + self.batch_size]:
                try:
                    text = text_of(record, self.text_key)
                except RecordError as error:
                    done.fail(record, error)
                    continue
                done.data.append(record)
                lang = language_code(record.get(self.lang_key)) or language_code(self.lang)
                if text is None:
                    record.update(dict.fromkeys(self.writes()))
                else:
                    given.append((record, text, lang))
            self._write(given)
        return done

    def _write(self, given: list[tuple[Record, str, str | None]]) -> None:
        if not given:
            return
        texts, langs = [text for _, text, _ in given], [lang for _, _, lang in given]
        for (record, text, lang), rewritten in zip(
            given, rewrite_texts(self._rewrite, texts, langs, self.model), strict=True
        ):
            reason = "language" if rewritten is None else self._guard.reason(text, rewritten, lang)
            values = (text if reason is not None else rewritten, reason)
            record.update(zip(self.writes(), values, strict=True))


@dataclass
class InverseNormalise(_RewritingStage):
    """Writes a transcript with digits and signs for what is spoken out: "twenty one dollars" becomes "$21".

    Columns: `text_itn`, and `text_itn_fallback`, null where the engine's text is used. Otherwise `text_itn` is the text
    as it was, and this is the reason: `language` (the engine does not know it), `changed` (other words than those of
    numbers have changed by more than `max_cer`), `upper_case`, or `empty`.

    Args:
        text_key: the column with the text; null stays null.
        lang_key: the column with the language; records may lack it.
        lang: the language of records that lack it; empty: unknown.
        engine: `text2num` (numbers in de en es fr it nl pt), `wetext` (numbers, dates, times and money in en ja zh),
            one that a plugin announces as a normaliser, or `package.module:function`. See `curate.text.rewriting`.
        model: for engines that take one.
        max_cer: the most character errors in the words that are not numbers, as a share of the text's letters.
        max_upper_share: the largest share of capitals, unless the text has as many.
        output_key: the column that is written; `text` overwrites the text.
    """

    engine: str = "text2num"
    output_key: str = "text_itn"

    compares_numbers: ClassVar[bool] = False

    def _output_key(self) -> str:
        return self.output_key


@dataclass
class Punctuate(_RewritingStage):
    """Writes a transcript with punctuation and capitals restored.

    Columns: `text_pnc`, and `text_pnc_fallback`, null where the engine's text is used. Otherwise `text_pnc` is the text
    as it was, and this is the reason: `language`, `changed` (letters differ by more than `max_cer`), `upper_case`, or
    `empty`.

    Args:
        text_key: the column with the text; null stays null.
        lang_key: the column with the language; records may lack it.
        lang: the language of records that lack it; empty: unknown.
        engine: `transformers` (a token classifier of Hugging Face, which labels words with the mark behind them), one
            that a plugin announces as a normaliser, or `package.module:function`. See `curate.text.rewriting`.
        model: the folder of the model, for `transformers`. curate ships none, and downloads none.
        max_cer: the most character errors between the letters of both texts, without case and punctuation.
        max_upper_share: the largest share of capitals, unless the text has as many.
        output_key: the column that is written; `text` overwrites the text.
    """

    engine: str = "transformers"
    output_key: str = "text_pnc"

    def _output_key(self) -> str:
        return self.output_key
