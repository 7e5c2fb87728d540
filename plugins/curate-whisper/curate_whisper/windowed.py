"""What both recognisers share: their settings, the staging of a batch, and its rows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import attrs

from curate.asr import Transcript
from curate.errors import InfrastructureError, PlanError
from curate.models import AudioModel, Clip, Row, Rows
from curate_whisper import settings
from curate_whisper.languages import has_blanks, language_of, whisper_code
from curate_whisper.model_files import local_path, model_sha256
from curate_whisper.word_times import words_of


@attrs.define
class DecodedClip:
    """The tokens of one clip, its language, and when the decoder attended to each token.

    Args:
        jumps: the frame at which each token begins, and that at which the last one ends; empty without times.
    """

    tokens: list[int]
    language: str
    avg_logprob: float
    no_speech_prob: float
    jumps: list[int] = attrs.field(factory=list[int])
    probabilities: list[float] = attrs.field(factory=list[float])


class StagedClips(list[Clip]):
    """Clips with the spectrograms of those that are not silent.

    Args:
        audible: the places of these.
        languages: of these, where they are known.
        features: one spectrogram for each of them; None where there are none.
    """

    def __init__(self, clips: Sequence[Clip], audible: list[int], languages: list[str | None], features: Any) -> None:
        super().__init__(clips)
        self.audible = audible
        self.languages = languages
        self.features = features


class LoadedModel(Protocol):
    """A model in memory."""

    languages: tuple[str, ...]
    spell: Callable[[list[int]], str]

    def features(self, clips: Sequence[Clip]) -> Any:
        """Return the spectrograms of clips, padded with silence to the window; None for no clips."""
        ...

    def decode(self, recogniser: Any, staged: StagedClips) -> list[DecodedClip]:
        """Return the transcripts of the audible clips of a batch."""
        ...


class WindowedRecogniser(AudioModel):
    """The base class of recognisers that take windows of 30 s.

    Its arguments are those that both have; a subclass documents them.
    """

    recogniser_name: ClassVar[str]
    weights_file: ClassVar[str]
    """The name of the file of weights in a model's folder."""

    window_s = settings.WINDOW_S

    def __init__(
        self,
        model: str | Path,
        *,
        language: str | None,
        lang_key: str,
        beam_size: int,
        temperature: float | Sequence[float],
        condition_on_previous_text: bool,
        max_new_tokens: int,
        timestamps: bool,
        confidence: bool,
        scores: bool,
        report_language: bool,
        download: bool,
    ) -> None:
        name = self.recogniser_name
        settings.check_common(
            name,
            beam_size=beam_size,
            condition_on_previous_text=condition_on_previous_text,
            max_new_tokens=max_new_tokens,
        )
        if language is not None and whisper_code(language) is None:
            raise PlanError(f"{name}: language={language!r} is not the tag of a language, such as en or de-DE")
        self.writes = settings.columns(
            timestamps=timestamps, confidence=confidence, scores=scores, report_language=report_language
        )
        self.model = model
        self.language = whisper_code(language)
        self.lang_key = lang_key
        self.beam_size = beam_size
        self.temperatures = settings.temperatures(name, temperature)
        self.max_new_tokens = max_new_tokens
        self.timestamps = timestamps
        self.confidence = confidence
        self.scores = scores
        self.report_language = report_language
        self.download = download
        self._loaded: Any = None

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the checksum of the model's file."""
        sha256 = model_sha256(local_path(self.model), self.weights_file)
        return {} if sha256 is None else {"model_sha256": sha256}

    @abstractmethod
    def load(self) -> LoadedModel:
        """Return the model in memory.

        Raises:
            InfrastructureError: it is missing, broken, does not run on the device, or lacks the language.
        """

    def setup(self) -> None:
        """Load the model; a second call does nothing.

        Raises:
            InfrastructureError: the model is missing, broken, or does not run on the device.
        """
        if self._loaded is None:
            self._loaded = self.load()

    def close(self) -> None:
        """Release the model."""
        self._loaded = None

    def infer(self, clips: Sequence[Clip]) -> Callable[[], Rows]:
        """Recognise clips as one batch, and return the function that spells out the tokens.

        Raises:
            RecordError: a clip is longer than 30 s, not finite, or in a language that the model does not have.
        """
        staged = clips if isinstance(clips, StagedClips) else self.staged(clips)
        decoded: list[DecodedClip] = self.loaded().decode(self, staged) if staged.audible else []

        def rows() -> list[Row]:
            found = dict(zip(staged.audible, decoded, strict=True))
            return [self._row(found.get(index), clip) for index, clip in enumerate(staged)]

        return rows

    def staged(self, clips: Sequence[Clip]) -> StagedClips:
        """Return clips with the spectrograms of those that are not silent."""
        loaded = self.loaded()
        audible = [index for index, clip in enumerate(clips) if settings.is_audible(clip)]
        languages = [
            self.language or language_of(clips[index].record, self.lang_key, loaded.languages) for index in audible
        ]
        return StagedClips(clips, audible, languages, loaded.features([clips[index] for index in audible]))

    def loaded(self) -> Any:
        """Return the model in memory.

        Raises:
            InfrastructureError: `setup` was not called.
        """
        if self._loaded is None:
            raise InfrastructureError(f"{self.recogniser_name}: infer() was called before setup()")
        return self._loaded

    def _row(self, decoded: DecodedClip | None, clip: Clip) -> Row:
        transcript, scores, language = Transcript(""), settings.NO_SCORES, None
        if decoded is not None:
            text = self.loaded().spell(decoded.tokens).strip()
            transcript = self._transcript(text, decoded, clip.duration_s)
            scores = settings.score_row(decoded.no_speech_prob, decoded.avg_logprob, text)
            language = decoded.language
        return {
            **transcript.row(timestamps=self.timestamps, confidence=self.confidence),
            **(scores if self.scores else {}),
            **({settings.LANGUAGE: language} if self.report_language else {}),
        }

    def _transcript(self, text: str, decoded: DecodedClip, duration_s: float) -> Transcript:
        words = None
        if self.timestamps:
            words = words_of(
                text,
                decoded.tokens,
                decoded.jumps,
                decoded.probabilities if self.confidence else None,
                self.loaded().spell,
                duration_s,
                has_blanks=has_blanks(decoded.language),
            )
        confidence = settings.mean_probability(decoded.avg_logprob) if self.confidence and text else None
        return Transcript(text, confidence, words)
