"""Whisper through CTranslate2: the weights and the tokenizer of faster-whisper, with batches of our own.

`WhisperModel.transcribe` of faster-whisper works on one file after the other, and what it gives for a part of a file
depends on the parts before it. Here every clip is one window of 30 s, padded with silence as in training, and all clips
of a batch are encoded and decoded together. Finished ones leave the batch, so no clip waits for the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.errors import InfrastructureError, PlanError
from curate.models import Clip, ModelCapabilities
from curate_whisper import settings
from curate_whisper.model_files import DISTILLED, SIZES, check_name, local_path, missing
from curate_whisper.windowed import DecodedClip, StagedClips, WindowedRecogniser

NAME = "whisper"
COMPUTE_TYPES = ("auto", "int8", "int8_float16", "int8_bfloat16", "float16", "bfloat16", "float32")

_BY_DTYPE = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_SAMPLES = int(settings.RATE_HZ * settings.WINDOW_S)
_FRAMES = 3000
_MEDIAN = 7


class WhisperRecogniser(WindowedRecogniser):
    """A Whisper model in CTranslate2's format.

    A clip is at most 30 s long; the stage cuts longer records, see `long_form`. Clips of digital silence get an empty
    text without being shown to the model, which invents words for them. No VAD is applied: that is the work of the
    stage `voice_activity`.

    Args:
        model: a folder with `model.bin`, as `ct2-transformers-converter` writes it, or a name in the local cache of the
            Hugging Face hub: `tiny.en`, `large-v3`, `Systran/faster-whisper-base`.
        language: the language of all records, in any spelling; None: the record's, or else the one that is detected.
        lang_key: the column with a record's language; with None or "" in it, the language is detected.
        beam_size: paths of the beam search; 1: greedy.
        compute_type: the number format: `int8`, `float16`, `float32` and so on; `auto`: as `dtype` of the resources
            says, or else int8 on the CPU and float16 on a GPU. With `float32` on the CPU, transcripts are the same in
            any batch. CTranslate2 quantises activations while it computes, so that with `int8`, and in half precision,
            the last bits can decide a word: a transcript may change with the batch around its clip, the number of
            threads and the processor, and so with order and resume.
        temperature: 0, or an ascending list such as [0, 0.2, 0.4]: a transcript that loops (`compression_ratio` above
            2.4) or that the model is unsure of (`avg_logprob` below -1) is sampled anew at the next temperature.
            CTranslate2 cannot seed one clip, so with more than 0 the text is not reproducible, as the plan notes.
        condition_on_previous_text: false; windows do not depend on each other.
        max_new_tokens: the most tokens of a window.
        timestamps: whether rows contain the words with their times.
        confidence: whether rows, and words, contain the mean probability of the tokens; rounded.
        scores: whether rows contain `no_speech_prob`, `avg_logprob` and `compression_ratio`; rounded.
        report_language: whether rows contain `pred_lang`, Whisper's code of the language.
        download: whether a model that is not in the cache may be downloaded.

    Raises:
        PlanError: a value that cannot be.
    """

    recogniser_name = NAME
    weights_file = "model.bin"

    def __init__(
        self,
        model: str | Path,
        *,
        language: str | None = None,
        lang_key: str = "lang",
        beam_size: int = 5,
        compute_type: str = "auto",
        temperature: float | Sequence[float] = 0.0,
        condition_on_previous_text: bool = False,
        max_new_tokens: int = 224,
        timestamps: bool = False,
        confidence: bool = False,
        scores: bool = False,
        report_language: bool = False,
        download: bool = False,
    ) -> None:
        check_name(NAME, model, (*SIZES, *DISTILLED), hub=True)
        super().__init__(
            model,
            language=language,
            lang_key=lang_key,
            beam_size=beam_size,
            temperature=temperature,
            condition_on_previous_text=condition_on_previous_text,
            max_new_tokens=max_new_tokens,
            timestamps=timestamps,
            confidence=confidence,
            scores=scores,
            report_language=report_language,
            download=download,
        )
        if compute_type not in COMPUTE_TYPES:
            raise PlanError(f"{NAME}: compute_type must be one of {', '.join(COMPUTE_TYPES)}, not {compute_type!r}")
        self.compute_type = compute_type

    def notes(self) -> Sequence[str]:
        """Return that sampled texts are not reproducible, where they are allowed."""
        if self.temperatures[-1] == 0:
            return ()
        return ("temperature above 0 samples texts: two runs may differ; temperature: 0 makes them reproducible",)

    def load(self) -> _Loaded:
        loaded = _Loaded(self)
        loaded.check_language(self.language)
        return loaded

    def capabilities(self) -> ModelCapabilities:
        """Return that spectrograms are computed ahead, in another thread."""
        return ModelCapabilities(stage=self.staged, runtime_info=self.loaded().runtime_info)


class _Loaded:
    """A model in memory."""

    def __init__(self, recogniser: WhisperRecogniser) -> None:
        faster_whisper: Any = import_module("faster_whisper")
        transcribe: Any = import_module("faster_whisper.transcribe")
        self._tokenizers: Any = import_module("faster_whisper.tokenizer")
        resources = recogniser.resources
        try:
            path = local_path(recogniser.model) or self._cached(recogniser)
            self._model: Any = faster_whisper.WhisperModel(
                str(path),
                device=resources.device,
                compute_type=_compute_type(recogniser),
                cpu_threads=resources.threads or 0,
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise InfrastructureError(f"{NAME}: cannot load {recogniser.model}: {error}") from error
        self._generator: Any = self._model.model
        bins = int(self._generator.n_mels)
        self._extract: Any = faster_whisper.feature_extractor.FeatureExtractor(feature_size=bins)
        self.languages: tuple[str, ...] = tuple(self._model.supported_languages)
        self._by_language: dict[str, Any] = {}
        some = self._tokenizer(self.languages[0] if len(self.languages) == 1 else "en")
        self._suppressed = list(transcribe.get_suppressed_tokens(some, [-1]))
        self._end = int(some.eot)
        self.spell: Callable[[list[int]], str] = some.decode

    def runtime_info(self) -> dict[str, Any]:
        return {
            "device": self._generator.device,
            "dtype": self._generator.compute_type,
            "engine": "ctranslate2",
        }

    def check_language(self, language: str | None) -> None:
        if language is not None and language not in self.languages:
            raise InfrastructureError(
                f"{NAME}: language={language!r}: this model transcribes {', '.join(self.languages)} only"
            )

    def features(self, clips: Sequence[Clip]) -> NDArray[np.float32] | None:
        """Return the spectrograms, (clips, mel bins, 3000), padded with silence to the window of training."""
        if not clips:
            return None
        return np.stack([self._spectrogram(clip.samples) for clip in clips])

    def _spectrogram(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        padded = np.zeros(_SAMPLES, np.float32)
        padded[: min(len(samples), _SAMPLES)] = samples[:_SAMPLES]
        return np.asarray(self._extract(padded, padding=0)[:, :_FRAMES], dtype=np.float32)

    def decode(self, recogniser: WhisperRecogniser, staged: StagedClips) -> list[DecodedClip]:
        encoded = self._model.encode(staged.features)
        languages = self._languages(encoded, staged.languages)
        durations_s = [staged[index].duration_s for index in staged.audible]
        decoded = self._generate(recogniser, encoded, languages, recogniser.temperatures[0])
        for temperature in recogniser.temperatures[1:]:
            doubtful = [index for index, one in enumerate(decoded) if self._is_doubtful(one)]
            if not doubtful:
                break
            again = self._model.encode(staged.features[doubtful])
            tried = self._generate(recogniser, again, [languages[index] for index in doubtful], temperature)
            for index, one in zip(doubtful, tried, strict=True):
                decoded[index] = one
        if recogniser.timestamps:
            self._align(staged, encoded, decoded, durations_s)
        return decoded

    def _generate(
        self, recogniser: WhisperRecogniser, encoded: Any, languages: list[str], temperature: float
    ) -> list[DecodedClip]:
        prompts = [[*self._tokenizer(one).sot_sequence, self._tokenizer(one).no_timestamps] for one in languages]
        search = {"beam_size": recogniser.beam_size} if temperature == 0 else {"beam_size": 1, "sampling_topk": 0}
        results = self._generator.generate(
            encoded,
            prompts,
            **search,
            sampling_temperature=temperature if temperature > 0 else 1.0,
            max_length=len(prompts[0]) + recogniser.max_new_tokens,
            suppress_blank=True,
            suppress_tokens=self._suppressed,
            return_scores=True,
            return_no_speech_prob=True,
        )
        return [self._decoded(result, language) for result, language in zip(results, languages, strict=True)]

    def _decoded(self, result: Any, language: str) -> DecodedClip:
        tokens = [token for token in result.sequences_ids[0] if token < self._end]
        count = len(result.sequences_ids[0])
        return DecodedClip(
            tokens,
            language,
            avg_logprob=float(result.scores[0]) * count / (count + 1),  # its score is the mean without the end token
            no_speech_prob=float(result.no_speech_prob),
        )

    def _languages(self, encoded: Any, given: Sequence[str | None]) -> list[str]:
        if len(self.languages) == 1:
            return [self.languages[0]] * len(given)
        if all(given):
            return [one for one in given if one]
        detected = self._generator.detect_language(encoded)
        return [one or found[0][0][2:-2] for one, found in zip(given, detected, strict=True)]

    def language_probabilities(self, clip: Clip) -> dict[str, float]:
        """Return the probability of each language, by Whisper's code of it."""
        [found] = self._generator.detect_language(self._model.encode(self.features([clip])))
        return {token[2:-2]: float(probability) for token, probability in found}

    def _align(
        self, staged: StagedClips, encoded: Any, decoded: list[DecodedClip], durations_s: Sequence[float]
    ) -> None:
        """Find when the decoder attends to each token; one call for each language of the batch."""
        for language in dict.fromkeys(one.language for one in decoded):
            chosen = [index for index, one in enumerate(decoded) if one.language == language and one.tokens]
            if not chosen:
                continue
            part = encoded if len(chosen) == len(decoded) else self._model.encode(staged.features[chosen])
            frames = [max(2, min(_FRAMES, round(100 * durations_s[index]))) for index in chosen]
            found = self._generator.align(
                part,
                self._tokenizer(language).sot_sequence,
                [decoded[index].tokens for index in chosen],
                frames,
                median_filter_width=_MEDIAN,
            )
            for index, alignment in zip(chosen, found, strict=True):
                decoded[index].jumps = _jumps(alignment.alignments, len(decoded[index].tokens))
                decoded[index].probabilities = list(alignment.text_token_probs)

    def _is_doubtful(self, decoded: DecodedClip) -> bool:
        return settings.is_doubtful(self.spell(decoded.tokens).strip(), decoded.avg_logprob)

    def _tokenizer(self, language: str) -> Any:
        if language not in self._by_language:
            self._by_language[language] = self._tokenizers.Tokenizer(
                self._model.hf_tokenizer, self._generator.is_multilingual, task="transcribe", language=language
            )
        return self._by_language[language]

    @staticmethod
    def _cached(recogniser: WhisperRecogniser) -> str:
        download: Any = import_module("faster_whisper.utils").download_model
        try:
            return download(str(recogniser.model), local_files_only=not recogniser.download)
        except (OSError, ValueError) as error:  # the hub's errors are of these classes
            raise missing(NAME, recogniser.model, error) from error


def _jumps(alignments: Sequence[tuple[int, int]], tokens: int) -> list[int]:
    """Return the frame at which each token begins, and that at which the last one ends."""
    begins: list[int] = []
    for token, frame in alignments:
        if token == len(begins):
            begins.append(frame)
    last = alignments[-1][1] if alignments else 0
    begins += [last] * (tokens + 1 - len(begins))
    return begins[: tokens + 1]


def _compute_type(recogniser: WhisperRecogniser) -> str:
    if recogniser.compute_type != "auto":
        return recogniser.compute_type
    resources = recogniser.resources
    return _BY_DTYPE.get(resources.dtype, "float16" if resources.on_gpu else "int8")
