"""The stage that aligns a known text with its audio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from curate.align import AlignmentModel
from curate.asr.checkpoint import file_sha256
from curate.errors import PlanError
from curate.fingerprint import describe_code
from curate.models import AudioModel, AudioModelStage, CtcModel
from curate.models.stage import build_model
from curate.plugin import resolved_setting
from curate.resolution import PluginLookup
from curate.stages.recognise.asr import resolve_recogniser


@dataclass
class Align(AudioModelStage):
    """Aligns the text of a record with its audio, by the CTC head of a recogniser.

    `words` gets every word of the text, `{word, start, end, score}`, in seconds from the record's start. The score of a
    word, 0 to 1, falls with each label that the model would rather read there; it is null for a word that the labels
    cannot spell, such as `1998`, which gets the sound that is left for it. `align_score` is the mean over the words,
    with missing words, and words' worth of audio that the text does not cover, as 0: about the share of words that are
    right. Text and audio may each have what the other lacks. A passage of the text that the audio does not have is
    listed in `align_missing` (`{text, at, first_word}`), and its words have score 0 and no length; audio that the text
    does not cover is listed in `align_uncovered` (`{start, end, text, words}`), with what the model reads there.

    A recording of up to an hour is aligned with its whole text in one piece; `split_sentences` with `align_prefix`
    makes scored utterances of it.

    Args:
        recogniser: a registered name, of a recogniser that gives CTC log-probabilities.
        options: the recogniser's own settings, such as `model_name`.
        filepath_key: the column with the path of the audio; None: the batch's, `audio_filepath` in a run.
        text_key: the column with the text.
        words_key: the column that gets the words.
        prefix: the beginning of the names of the other columns.
        window_s: the greatest length of audio that the model computes in one piece, in seconds.
        context_s: how much of a window, on either side, is computed again by its neighbours, in seconds.
        batching: as for `asr`; the CPU computes one record after the other in any case.
        max_batch_s: the budget of a batch in seconds of audio, padding included. None: 200 on a GPU, 30 on the CPU.
        memory_share: as for `asr`.
        saturation_s: as for `asr`.
        min_s: shorter records are filtered.
        max_s: longer records are filtered.
        batching_options: further options of the batcher, such as `max_items` or `multiple_of`.
    """

    recogniser: str = "nemo"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    text_key: str = field(default="text", kw_only=True)
    words_key: str = field(default="words", kw_only=True)
    prefix: str = field(default="align", kw_only=True)
    window_s: float = field(default=30.0, kw_only=True)
    context_s: float = field(default=3.0, kw_only=True)

    name = "align"

    def resolve(self, host: PluginLookup) -> Self:
        return self.with_resolved(recogniser=resolve_recogniser(self.recogniser, host))

    def check(self) -> None:
        if not self.context_s >= 0 or not self.window_s >= 2 * self.context_s + 1:
            raise PlanError(
                f"align: window_s={self.window_s!r} must exceed twice context_s={self.context_s!r} by at least 1 s",
                self.name,
            )
        if not self.prefix:
            raise PlanError("align: prefix is empty; it begins the names of the columns, as in align_score", self.name)
        super().check()
        model = self._recogniser()
        if not isinstance(model, CtcModel):
            raise PlanError(
                f"align: the recogniser {self.recogniser!r} gives no CTC log-probabilities; choose one with a CTC "
                "head, such as nemo with a CTC or hybrid model, or transformers with Wav2Vec2",
                self.name,
            )
        model.check_ctc()

    def make_model(self) -> AudioModel:
        return AlignmentModel(
            self._recogniser(),
            text_key=self.text_key,
            words_key=self.words_key,
            prefix=self.prefix,
            window_s=self.window_s,
            context_s=self.context_s,
        )

    def _recogniser(self) -> AudioModel:
        found = resolved_setting(self, "recogniser").value
        return build_model(found, self.options, f"recogniser {self.recogniser!r}")

    def reads(self) -> Sequence[str]:
        return (*super().reads(), self.text_key)

    def fingerprint(self) -> Mapping[str, Any]:
        found = resolved_setting(self, "recogniser")
        files = {
            f"{name}_sha256": file_sha256(Path(value))
            for name, value in self.options.items()
            if isinstance(value, str) and Path(value).is_file()
        }
        return {
            **files,
            **self._recogniser().fingerprint(),
            "recogniser_code": describe_code(found.value),
            "recogniser_version": found.version,
        }
