"""OpenAI's Whisper through torch, with a batched encoder and a batched decoder.

The spectrogram has as many mel bins as the model's dimensions say, 80 or 128. The encoder takes exactly 30 s, so every
clip is padded with silence to that length; what a batch saves is the launching of kernels, and weights that are read
once for all clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs

from curate.errors import InfrastructureError
from curate.models import Clip, ModelCapabilities
from curate_whisper import settings
from curate_whisper.batched_decoding import BatchedDecoding, DecodedTokens, DecodingSteps
from curate_whisper.model_files import SIZES, check_name, local_path, missing
from curate_whisper.windowed import DecodedClip, StagedClips, WindowedRecogniser
from curate_whisper.word_times import FRAME_S

NAME = "openai_whisper"
_SAMPLES = int(settings.RATE_HZ * settings.WINDOW_S)


class OpenAIWhisperRecogniser(WindowedRecogniser):
    """A Whisper model in OpenAI's format, run by torch.

    A clip is at most 30 s long; the stage cuts longer records, see `long_form`. Clips of digital silence get an empty
    text without being shown to the model. The search is greedy; a beam search is in the recogniser `whisper`.

    Args:
        model: a `.pt` file, or the name of a model in `~/.cache/whisper`, such as `tiny.en` or `large-v3-turbo`.
        language: the language of all records, in any spelling; None: the record's, or else the one that is detected.
        lang_key: the column with a record's language; with None or "" in it, the language is detected.
        temperature: 0, or an ascending list such as [0, 0.2, 0.4]: a transcript that loops (`compression_ratio` above
            2.4) or that the model is unsure of (`avg_logprob` below -1) is sampled anew at the next temperature. The
            draws are seeded from the record's id, so that a run can be repeated on the same kind of device.
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
    weights_file = "model.pt"

    def __init__(
        self,
        model: str | Path,
        *,
        language: str | None = None,
        lang_key: str = "lang",
        temperature: float | Sequence[float] = 0.0,
        condition_on_previous_text: bool = False,
        max_new_tokens: int = 224,
        timestamps: bool = False,
        confidence: bool = False,
        scores: bool = False,
        report_language: bool = False,
        download: bool = False,
    ) -> None:
        check_name(NAME, model, SIZES, hub=False)
        super().__init__(
            model,
            language=language,
            lang_key=lang_key,
            beam_size=1,
            temperature=temperature,
            condition_on_previous_text=condition_on_previous_text,
            max_new_tokens=max_new_tokens,
            timestamps=timestamps,
            confidence=confidence,
            scores=scores,
            report_language=report_language,
            download=download,
        )

    def load(self) -> _Loaded:
        loaded = _Loaded(self)
        if self.language is not None and self.language not in loaded.languages:
            raise InfrastructureError(f"{NAME}: language={self.language!r}: this model does not transcribe it")
        return loaded

    def capabilities(self) -> ModelCapabilities:
        """Return those of torch's device, and that spectrograms are computed ahead, in another thread."""
        return attrs.evolve(super().capabilities(), stage=self.staged, runtime_info=self.loaded().runtime_info)

    @property
    def counted(self) -> DecodingSteps:
        """How many steps the decoder has made since `setup`."""
        return self.loaded().decoding.counted

    def tokens(self, clips: Sequence[Clip]) -> list[list[int]]:
        """Return the tokens of a batch of clips, none of them silent."""
        return [one.tokens for one in self.loaded().decode(self, self.staged(clips))]


class _Loaded:
    """A model in memory."""

    def __init__(self, recogniser: OpenAIWhisperRecogniser) -> None:
        torch: Any = import_module("torch")
        self._whisper: Any = import_module("whisper")
        self._timing: Any = import_module("whisper.timing")
        self._tokenizers: Any = import_module("whisper.tokenizer")
        self._torch = torch
        resources = recogniser.resources
        path = local_path(recogniser.model) or _cached(self._whisper, recogniser)
        try:
            saved: Any = torch.load(path / "model.pt" if path.is_dir() else path, "cpu", weights_only=True)
            dims: Any = self._whisper.model.ModelDimensions(**saved["dims"])
            model: Any = self._whisper.model.Whisper(dims)
            model.load_state_dict(saved["model_state_dict"])
        except Exception as error:
            raise InfrastructureError(f"{NAME}: cannot load {path}: {type(error).__name__}: {error}") from error
        self._dtype: Any = resources.torch_dtype()
        self._device: Any = torch.device(resources.device)
        self.model: Any = model.to(self._device).eval()
        layers = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Embedding)
        for module in self.model.modules():  # once, and not at each call
            if isinstance(module, layers):
                module.to(self._dtype)
        self.is_multilingual = bool(model.is_multilingual)
        self.languages: tuple[str, ...] = (
            tuple(self._tokenizers.LANGUAGES)[: int(model.num_languages)] if self.is_multilingual else ("en",)
        )
        self._by_language: dict[str, Any] = {}
        some = self._tokenizer("en")
        self.spell: Callable[[list[int]], str] = some.decode
        self.decoding = BatchedDecoding(
            torch,
            self.model,
            end=int(some.eot),
            no_speech=int(some.no_speech),
            suppressed=_suppressed(some),
            suppressed_first=[*some.encode(" "), int(some.eot)],
            max_new_tokens=recogniser.max_new_tokens,
        )

    def runtime_info(self) -> dict[str, Any]:
        return {"device": str(self._device), "dtype": str(self._dtype).removeprefix("torch."), "engine": "torch"}

    def features(self, clips: Sequence[Clip]) -> Any:
        """Return the spectrograms, (clips, mel bins, 3000), padded with silence to the window."""
        if not clips:
            return None
        torch, audio = self._torch, self._whisper.audio
        bins = int(self.model.dims.n_mels)
        padded = torch.zeros((len(clips), _SAMPLES), dtype=torch.float32)
        for place, clip in enumerate(clips):
            samples = torch.tensor(clip.samples[:_SAMPLES])
            padded[place, : len(samples)] = samples
        # One at a time: the spectrogram's range is relative to the loudest frame of all that it is given.
        return torch.stack([audio.log_mel_spectrogram(one, bins) for one in padded])

    def decode(self, recogniser: OpenAIWhisperRecogniser, staged: StagedClips) -> list[DecodedClip]:
        torch = self._torch
        with torch.inference_mode():
            features = staged.features.to(self._device, self._dtype)
            encoded = self.model.encoder(features)
            languages = self._languages(encoded, staged.languages)
            prompts = [self._prompt(language) for language in languages]
            decoded: list[DecodedTokens | None] = [None] * len(prompts)
            if recogniser.temperatures[0] == 0:
                decoded[:] = self.decoding.decode(encoded, prompts)
            for temperature in (one for one in recogniser.temperatures if one > 0):
                for place, one in enumerate(decoded):
                    if one is None or self._is_doubtful(one):
                        generator = self._generator(staged[staged.audible[place]], temperature)
                        [decoded[place]] = self.decoding.decode(
                            encoded[place : place + 1],
                            prompts[place : place + 1],
                            temperature=temperature,
                            generator=generator,
                        )
            found = [
                DecodedClip(one.tokens, language, _average(one), one.no_speech_prob)
                for one, language in zip(decoded, languages, strict=True)
                if one
            ]
        if recogniser.timestamps:
            for one, mel, index in zip(found, features, staged.audible, strict=True):
                self._align(one, mel, staged[index].duration_s)
        return found

    def _languages(self, encoded: Any, given: Sequence[str | None]) -> list[str]:
        if not self.is_multilingual:
            return ["en"] * len(given)
        if all(given):
            return [one for one in given if one]
        _, probabilities = self.model.detect_language(encoded, self._tokenizer("en"))
        return [one or max(found, key=found.get) for one, found in zip(given, probabilities, strict=True)]

    def _prompt(self, language: str) -> tuple[int, ...]:
        tokens: tuple[int, ...] = self._tokenizer(language).sot_sequence_including_notimestamps
        return tokens

    def _is_doubtful(self, decoded: DecodedTokens) -> bool:
        return settings.is_doubtful(self.spell(decoded.tokens), _average(decoded))

    def _generator(self, clip: Clip, temperature: float) -> Any:
        """Return the source of a clip's draws, seeded by its record, so that its neighbours make no difference."""
        identity = str(clip.record.get("_id", "")) or hashlib.sha256(clip.samples.tobytes()).hexdigest()
        digest = hashlib.sha256(f"{identity} {temperature}".encode()).digest()
        generator: Any = self._torch.Generator(device=self._device)
        generator.manual_seed(int.from_bytes(digest[:7], "big"))
        return generator

    def _align(self, found: DecodedClip, mel: Any, duration_s: float) -> None:
        if not found.tokens:
            return
        frames = max(2, min(3000, round(100 * duration_s)))
        timings: Any = self._timing.find_alignment(
            self.model, self._tokenizer(found.language), found.tokens, mel, frames
        )
        for timing in timings:
            found.jumps += [round(timing.start / FRAME_S)] * len(timing.tokens)
            found.probabilities += [float(timing.probability)] * len(timing.tokens)
        found.jumps.append(round(timings[-1].end / FRAME_S) if timings else 0)
        lacking = len(found.tokens) + 1 - len(found.jumps)
        found.jumps += [found.jumps[-1]] * lacking
        found.probabilities += [0.0] * (len(found.tokens) - len(found.probabilities))

    def _tokenizer(self, language: str) -> Any:
        if language not in self._by_language:
            self._by_language[language] = self._tokenizers.get_tokenizer(
                self.is_multilingual,
                num_languages=int(self.model.num_languages),
                language=language,
                task="transcribe",
            )
        return self._by_language[language]


def _average(decoded: DecodedTokens) -> float:
    """Return the mean logarithm of the tokens' probabilities, that of the end included."""
    return decoded.log_prob / (len(decoded.tokens) + 1)


def _suppressed(tokenizer: Any) -> list[int]:
    """Return the tokens that are never part of a transcript without times."""
    special = (
        *(tokenizer.transcribe, tokenizer.translate, tokenizer.sot, tokenizer.sot_prev, tokenizer.sot_lm),
        *(tokenizer.no_speech, tokenizer.no_timestamps),
    )
    times = range(tokenizer.timestamp_begin, tokenizer.timestamp_begin + 1501)
    return sorted({*tokenizer.non_speech_tokens, *special, *times, *tokenizer.all_language_tokens})


def _cached(whisper: Any, recogniser: OpenAIWhisperRecogniser) -> Path:
    """Return the file of a name in the cache."""
    url: str = whisper._MODELS[str(recogniser.model)]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    folder = Path.home() / ".cache" / "whisper"
    file = folder / url.rpartition("/")[2]
    if not file.exists():
        if not recogniser.download:
            raise missing(NAME, recogniser.model, f"{file} does not exist")
        whisper.load_model(str(recogniser.model), device="cpu", download_root=str(folder))
    return file
