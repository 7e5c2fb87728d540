"""ASR checkpoints of Hugging Face: CTC models (Wav2Vec2, HuBERT, WavLM) and sequence-to-sequence models (Whisper).

Whether clips of different length may share a batch depends on the model: one whose features are normalised over the
whole clip (`feat_extract_norm: group`, as of wav2vec2-base) has no mask for padding, so its result for a clip would
depend on the longest clip of the batch. Its clips are computed one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from curate.asr import Token, Transcript, Word, fold_ctc, place_words, transcript_columns
from curate.errors import InfrastructureError, PlanError, RecordError
from curate.models import AudioModel, Clip, CtcLabels, Row, Rows

LogProbs: TypeAlias = NDArray[np.float32]
"""The logarithms of the labels' probabilities, (frames, labels)."""

NAME = "transformers"
_WHISPER_S = 30.0
_SILENCE = 2.0**-48
_SMALLEST = 400


class TransformersRecogniser(AudioModel):
    """An ASR checkpoint of Hugging Face, from a folder or from the local cache of the hub.

    Clips of digital silence, and of less than 25 ms, get an empty text without being shown to the model. A CTC model
    serves the stage `align` as well.

    Args:
        model: a folder with `config.json`, or a name in the local cache of the hub, such as
            `facebook/wav2vec2-large-960h-lv60-self`.
        language: for a multilingual sequence-to-sequence model, the language of all records; None: it is detected.
        max_new_tokens: for sequence-to-sequence models, the most tokens of a clip.
        timestamps: whether rows contain the words with their times; for CTC models.
        confidence: whether rows, and words, contain the mean probability of the labels; for CTC models; rounded.
        download: whether a model that is not in the cache may be downloaded.

    Raises:
        PlanError: a value that cannot be.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        language: str | None = None,
        max_new_tokens: int = 224,
        timestamps: bool = False,
        confidence: bool = False,
        download: bool = False,
    ) -> None:
        name = str(model)
        if not name.strip():
            raise PlanError(f"{NAME}: model is empty: give a folder or a name")
        if name.endswith(".nemo") or name.startswith(("nvidia/parakeet", "nvidia/stt_")):
            raise PlanError(f"{NAME}: {name!r} is a NeMo model: use the stage `asr_nemo` with it")
        self.model = model
        self.folder = _folder(model)
        config: Mapping[str, Any] = _read_config(self.folder) if self.folder is not None else dict[str, Any]()
        self._kind = kind = _kind_of(config)
        if kind is None:
            raise PlanError(
                f"{NAME}: {name} holds {', '.join(config.get('architectures') or ['nothing known'])}, which is not an "
                "ASR model: its class ends with ForCTC, ForConditionalGeneration or ForSpeechSeq2Seq"
            )
        if kind == "seq2seq" and (timestamps or confidence):
            raise PlanError(
                f"{NAME}: {name} is a sequence-to-sequence model, which has no times of words or confidence here; for "
                "Whisper, the recognisers `whisper` and `openai_whisper` have both"
            )
        self.window_s = _WHISPER_S if config.get("model_type") == "whisper" else None
        self.writes = transcript_columns(timestamps=timestamps, confidence=confidence)
        self.language = language
        self.max_new_tokens = max_new_tokens
        self.timestamps = timestamps
        self.confidence = confidence
        self.download = download
        self._loaded: _Loaded | None = None

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the sizes and times of the checkpoint's files, which are too large to be read for each plan."""
        if self.folder is None:
            return {}
        files = sorted(path for path in self.folder.iterdir() if path.suffix in (".safetensors", ".bin", ".json"))
        return {"model_files": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]}

    def setup(self) -> None:
        """Load the checkpoint; a second call does nothing.

        Raises:
            InfrastructureError: it is missing or broken.
        """
        if self._loaded is None:
            self._loaded = _Loaded(self)
            self.rate_hz = self._loaded.rate_hz

    def close(self) -> None:
        """Release the model."""
        self._loaded = None

    def infer(self, clips: Sequence[Clip]) -> Callable[[], Rows]:
        """Recognise clips as one batch, or in parts where the model has no mask for padding.

        Raises:
            RecordError: a clip is not mono, not finite, or longer than the model's window.
        """
        loaded = self._loaded
        if loaded is None:
            raise InfrastructureError(f"{NAME}: infer() was called before setup()")
        audible = [index for index, clip in enumerate(clips) if _is_audible(clip, self.window_s)]
        transcripts = loaded.transcribe(self, [clips[index] for index in audible]) if audible else []
        found = dict(zip(audible, transcripts, strict=True))

        def row(index: int) -> Row:
            return found.get(index, Transcript("")).row(timestamps=self.timestamps, confidence=self.confidence)

        return lambda: [row(index) for index in range(len(clips))]

    def check_ctc(self) -> None:
        """Check, without loading the model, that it is a CTC model; see `CtcModel`."""
        if self._kind == "seq2seq":
            raise PlanError(f"{NAME}: {self.model} is a sequence-to-sequence model, which has no CTC head")

    def ctc_labels(self) -> CtcLabels:
        """Return the labels of the CTC model; see `CtcModel`."""
        return self._set_up().ctc_labels()

    def log_probs(self, clips: Sequence[Clip]) -> Sequence[LogProbs]:
        """Return the log-probabilities of the CTC model for each clip; see `CtcModel`.

        A clip that `infer` would not show to the model has no frames.
        """
        loaded = self._set_up()
        audible = [index for index, clip in enumerate(clips) if _is_audible(clip, self.window_s)]
        computed = loaded.log_probs([clips[index] for index in audible]) if audible else []
        found = dict(zip(audible, computed, strict=True))
        nothing = np.empty((0, len(loaded.ctc_labels().texts)), np.float32)
        return [found.get(index, nothing) for index in range(len(clips))]

    def _set_up(self) -> _Loaded:
        if self._loaded is None:
            raise InfrastructureError(f"{NAME}: log_probs() was called before setup()")
        return self._loaded


class _Loaded:
    """A checkpoint in memory."""

    def __init__(self, recogniser: TransformersRecogniser) -> None:
        torch: Any = import_module("torch")
        transformers: Any = import_module("transformers")
        self._torch = torch
        source = str(recogniser.folder or recogniser.model)
        options = {"local_files_only": not recogniser.download}
        resources = recogniser.resources
        try:
            config: Any = transformers.AutoConfig.from_pretrained(source, **options)
            kind = _kind_of(config.to_dict())
            if kind is None:
                raise InfrastructureError(f"{NAME}: {source} is not an ASR model")
            self.is_ctc = kind == "ctc"
            of_kind = transformers.AutoModelForCTC if self.is_ctc else transformers.AutoModelForSpeechSeq2Seq
            self._processor: Any = transformers.AutoProcessor.from_pretrained(source, **options)
            self._dtype: Any = resources.torch_dtype()
            model: Any = of_kind.from_pretrained(source, **options)
        except (OSError, ValueError) as error:
            raise InfrastructureError(
                f"{NAME}: cannot load {source}, and nothing is downloaded unless `download: true` allows it: {error}"
            ) from error
        self._device: Any = torch.device(resources.device)
        self._model: Any = model.to(self._device, self._dtype).eval()
        extractor: Any = self._processor.feature_extractor
        self.rate_hz = int(extractor.sampling_rate)
        self._has_mask = bool(getattr(extractor, "return_attention_mask", False)) or not self.is_ctc
        tokenizer: Any = self._processor.tokenizer
        self._blank = int(tokenizer.pad_token_id) if self.is_ctc else -1
        self._labels: CtcLabels | None = None

    def ctc_labels(self) -> CtcLabels:
        if self._labels is None:
            if not self.is_ctc:
                raise InfrastructureError(f"{NAME}: this model has no CTC head, so nothing can be aligned with it")
            self._labels = self._read_labels()
        return self._labels

    def _read_labels(self) -> CtcLabels:
        tokenizer: Any = self._processor.tokenizer
        samples: Any = getattr(self._model.config, "inputs_to_logits_ratio", None)
        if samples is None:
            raise InfrastructureError(f"{NAME}: the length of a frame of {type(self._model).__name__} is not known")
        texts = [""] * int(self._model.config.vocab_size)
        for text, number in tokenizer.get_vocab().items():
            if number < len(texts):  # a tokenizer may have tokens that the model was not trained with
                texts[number] = str(text)
        delimiter: Any = getattr(tokenizer, "word_delimiter_token", None)
        separator = texts.index(delimiter) if delimiter in texts else None
        pieces = any(len(text) > 1 and text[0] == "▁" for text in texts)
        return CtcLabels(
            tuple(texts),
            self._blank,
            samples / self.rate_hz,
            separator,
            (lambda word: tokenizer.encode(word, add_special_tokens=False)) if pieces else None,
        )

    def log_probs(self, clips: Sequence[Clip]) -> list[LogProbs]:
        groups = [clips] if self._has_mask else [[clip] for clip in clips]
        found: list[LogProbs] = []
        with self._torch.inference_mode():
            for group in groups:
                logits: Any = self._model(**self._inputs(group)).logits.float()
                lengths = self._frames([len(clip.samples) for clip in group])
                rows: Any = logits.log_softmax(-1).cpu().numpy()
                found += [row[:frames].copy() for row, frames in zip(rows, lengths, strict=True)]
        return found

    def transcribe(self, recogniser: TransformersRecogniser, clips: Sequence[Clip]) -> list[Transcript]:
        with self._torch.inference_mode():
            if not self.is_ctc:
                return self._generate(recogniser, clips)
            groups = [clips] if self._has_mask else [[clip] for clip in clips]
            return [one for group in groups for one in self._label(recogniser, group)]

    def _generate(self, recogniser: TransformersRecogniser, clips: Sequence[Clip]) -> list[Transcript]:
        inputs = self._inputs(clips)
        options: dict[str, Any] = {} if recogniser.language is None else {"language": recogniser.language}
        generated: Any = self._model.generate(
            **inputs, do_sample=False, num_beams=1, max_new_tokens=recogniser.max_new_tokens, **options
        )
        texts: list[str] = self._processor.batch_decode(generated, skip_special_tokens=True)
        return [Transcript(text.strip()) for text in texts]

    def _label(self, recogniser: TransformersRecogniser, clips: Sequence[Clip]) -> list[Transcript]:
        logits: Any = self._model(**self._inputs(clips)).logits.float()
        lengths = self._frames([len(clip.samples) for clip in clips])
        probabilities, labels = logits.softmax(-1).max(-1)
        return [
            self._transcript(recogniser, clip, labels[place, :frames].tolist(), probabilities[place, :frames].tolist())
            for place, (clip, frames) in enumerate(zip(clips, lengths, strict=True))
        ]

    def _transcript(
        self, recogniser: TransformersRecogniser, clip: Clip, labels: list[int], probabilities: list[float]
    ) -> Transcript:
        tokens = fold_ctc(labels, self._blank, probabilities if recogniser.confidence else None)
        text = self._spell([token.id for token in tokens])
        words: tuple[Word, ...] | None = None
        if recogniser.timestamps:
            frame_s = clip.duration_s / max(1, len(labels))
            spelling: list[Token] = [token for token in tokens if self._spell([token.id])]
            words = place_words(text, spelling, self._spell, frame_s, clip.duration_s) if text else ()
        sure = [token.confidence for token in tokens if token.confidence is not None]
        mean = round(sum(sure) / len(sure), 3) if sure and text else None
        return Transcript(text, mean, words)

    def _spell(self, ids: list[int]) -> str:
        tokenizer: Any = self._processor.tokenizer
        return str(tokenizer.decode(ids, group_tokens=False, skip_special_tokens=True)).strip()

    def _inputs(self, clips: Sequence[Clip]) -> dict[str, Any]:
        waveforms = [np.asarray(clip.samples) for clip in clips]
        options: dict[str, Any] = {"padding": True} if self.is_ctc else {}
        found: Any = self._processor(
            waveforms, sampling_rate=self.rate_hz, return_tensors="pt", return_attention_mask=self._has_mask, **options
        )
        kept = {name: value.to(self._device) for name, value in found.items()}
        return {name: value.to(self._dtype) if value.is_floating_point() else value for name, value in kept.items()}

    def _frames(self, samples: Sequence[int]) -> list[int]:
        lengths: Any = self._model._get_feat_extract_output_lengths(  # noqa: SLF001 (it has no public name)
            self._torch.tensor(list(samples))
        )
        return [max(0, int(length)) for length in lengths]


def _folder(model: str | Path) -> Path | None:
    """Return the folder of a checkpoint; None for a name in the hub's cache.

    Raises:
        PlanError: it is a path without a checkpoint.
    """
    path = Path(model).expanduser()
    if not isinstance(model, Path) and not str(model).startswith(("/", "./", "../", "~")) and not path.exists():
        return None
    if not (path / "config.json").is_file():
        raise PlanError(f"{NAME}: {path} is not a folder with a checkpoint: it has no config.json")
    return path


def _read_config(folder: Path) -> Mapping[str, Any]:
    try:
        found: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise PlanError(f"{NAME}: {folder / 'config.json'} is not valid JSON: {error}") from error
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def _kind_of(config: Mapping[str, Any]) -> str | None:
    """Return `ctc` or `seq2seq`; `ctc` where nothing is known, because the checkpoint is not on this machine."""
    names = [str(name) for name in config.get("architectures") or ()]
    if not config or any(name.endswith("ForCTC") for name in names):
        return "ctc"
    endings = ("ForConditionalGeneration", "ForSpeechSeq2Seq", "SpeechEncoderDecoderModel")
    return "seq2seq" if any(name.endswith(endings) for name in names) else None


def _is_audible(clip: Clip, window_s: float | None) -> bool:
    samples = clip.samples
    if samples.ndim != 1:
        raise RecordError("unsupported_channels", f"a clip of shape {samples.shape} is not mono")
    if not np.isfinite(samples).all():
        raise RecordError("non_finite", "the clip holds NaN or infinite samples")
    if window_s is not None and clip.duration_s > window_s + 0.01:
        raise RecordError("too_long", f"a clip of {clip.duration_s:.1f} s is longer than the model's {window_s:g} s")
    return samples.size >= _SMALLEST and float(np.einsum("i,i->", samples, samples)) > _SILENCE * samples.size
