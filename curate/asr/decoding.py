"""Sets up NeMo's decoding once, and reads transcripts from what it returns.

A NeMo model carries a decoding configuration from its training. We keep it, except for what decides speed, memory and
the kind of output: greedy decoding over the whole batch, label looping for transducers (the same tokens as frame
looping, several times faster), no alignments (they would keep every frame's logits), no timestamps of NeMo's (see
`curate.asr.word_timestamps.fold_ctc`), and confidence of CTC computed on the model's device, where NeMo would copy
every frame's scores to the CPU first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from attrs import frozen
from loguru import logger

from curate.asr.captured_decoding import MAX_ROWS, CapturedLoop, TrimmedComputer
from curate.asr.recogniser import Transcript
from curate.asr.word_timestamps import Token, fold_ctc, overall_confidence, place_words
from curate.errors import InfrastructureError

STRATEGIES = ("greedy_batch", "greedy")


@frozen
class DecodingOptions:
    """How to decode.

    Args:
        strategy: `greedy_batch`, or `greedy`: one utterance after the other, slow, the same tokens; to compare with.
        label_looping: for transducers in batches: loop over labels; False loops over frames.
        cuda_graphs: whether to capture the loop over labels as CUDA graphs; without effect on the CPU.
        timestamps: whether to place words in time.
        confidence: whether transcripts carry confidence scores.
        graph_rows: the maximum number of utterances that are decoded together in CUDA graphs; a larger batch is decoded
            in slices.
    """

    strategy: str = "greedy_batch"
    label_looping: bool = True
    cuda_graphs: bool = True
    timestamps: bool = False
    confidence: bool = False
    graph_rows: int = MAX_ROWS


class Decoding:
    """Decodes encoder outputs with one of a model's decoders, the way that was decided when it was made.

    Args:
        model: a restored NeMo model; its decoding configuration is replaced.
        decoder: `ctc` or `rnnt`, one that the model has.
        options: how to decode.
        on_gpu: whether the model runs on CUDA.
        max_graph_bytes: the most memory that the buffers of CUDA graphs may take; None: no limit.

    Raises:
        InfrastructureError: this model cannot be decoded that way.
    """

    def __init__(
        self, model: Any, decoder: str, options: DecodingOptions, *, on_gpu: bool, max_graph_bytes: float | None = None
    ) -> None:
        self._options = options
        self._is_ctc = decoder == "ctc"
        is_hybrid = hasattr(model, "ctc_decoder")
        trained_with = model.cfg.aux_ctc.decoding if is_hybrid and self._is_ctc else model.cfg.decoding
        omegaconf: Any = import_module("omegaconf")
        config = omegaconf.OmegaConf.to_container(trained_with, resolve=True)
        if config.get("strategy", options.strategy) not in STRATEGIES:
            logger.warning("the model's own decoding is {!r}; {!r} is used", config["strategy"], options.strategy)
        nemo_confidence = options.confidence and not self._is_ctc
        config = omegaconf.OmegaConf.create(_overridden(config, options, on_gpu=on_gpu, confidence=nemo_confidence))
        if is_hybrid:
            model.change_decoding_strategy(config, decoder_type=decoder, verbose=False)
        else:
            model.change_decoding_strategy(config, verbose=False)
        self._ctc_head = model.ctc_decoder if is_hybrid else model.decoder if self._is_ctc else None
        self._nemo: Any = model.ctc_decoding if is_hybrid and self._is_ctc else model.decoding
        self._refuse_the_impossible(type(model).__name__)
        self._loop: CapturedLoop | None = None
        computer = getattr(self._nemo.decoding, "decoding_computer", None)
        if computer is not None:
            self._loop = CapturedLoop(computer, max_rows=options.graph_rows, max_bytes=max_graph_bytes)
            self._nemo.decoding.decoding_computer = TrimmedComputer(computer)
        self._blank: int = self._nemo.blank_id
        self._spell: Callable[[list[int]], str] = self._nemo.decode_ids_to_str
        self._frame_s: float = frame_s_of(model) if options.timestamps else 0.0

    def __call__(self, encoded: Any, lengths: Any, durations_s: Sequence[float]) -> Callable[[], list[Transcript]]:
        """Find the tokens of a batch, and return the function that spells them out.

        Spelling needs the CPU alone, and may be done in another thread while the model has the next batch.

        Args:
            encoded: (B, D, T) the encoder's output.
            lengths: (B,) the valid frames of each.
            durations_s: the length of each waveform in seconds.
        """
        # the two halves of NeMo's `…_decoder_predictions_tensor`, for greedy decoding without NeMo's own timestamps
        if self._is_ctc:
            hypotheses = self._search_ctc(encoded, lengths)
        elif self._loop is not None:
            hypotheses = self._loop.decode(self._search_transducer, encoded, lengths)
        else:
            hypotheses = self._search_transducer(encoded, lengths)
        for hypothesis in hypotheses:
            hypothesis.dec_state = None  # it would keep GPU memory in use for as long as the text waits
        return partial(self._spelt, hypotheses, durations_s)

    @property
    def graph_mode(self) -> str | None:
        """`full_graph`, `no_while_loops` (slower), or None: nothing is decoded in CUDA graphs."""
        return self._loop.mode if self._loop is not None else None

    @property
    def is_sound(self) -> bool:
        """Whether the decoder's buffers and its CUDA graphs belong together."""
        return self._loop is None or self._loop.is_sound()

    def prepare(self, items: int, frames: int, like: Any) -> bool:
        """Capture CUDA graphs for batches of up to `items` rows and `frames` frames; see `CapturedLoop.prepare`."""
        return self._loop is not None and self._loop.prepare(self._search_transducer, items, frames, like)

    def ctc_log_probs(self, encoded: Any) -> Any:
        """Return the log-probabilities of the CTC head, (B, T, V) in fp32.

        Args:
            encoded: (B, D, T) the encoder's output.

        Raises:
            InfrastructureError: the model has no CTC head.
        """
        if self._ctc_head is None:
            raise InfrastructureError("this model has no CTC decoder, so it gives no log-probabilities")
        # a view: the tensor itself is marked by NeMo with a type that its own search does not take
        return self._ctc_head(encoder_output=encoded).float()[:]

    def _search_ctc(self, encoded: Any, lengths: Any) -> list[Any]:
        log_probs = self.ctc_log_probs(encoded)
        search = self._nemo.decoding
        hypotheses = search(decoder_output=log_probs, decoder_lengths=lengths)[0]
        if self._options.confidence:
            frames = search._get_confidence_tensor(log_probs).cpu()
            for hypothesis, sure in zip(hypotheses, frames, strict=True):
                hypothesis.frame_confidence = sure[: len(hypothesis.y_sequence)].tolist()
        return hypotheses

    def _search_transducer(self, encoded: Any, lengths: Any) -> list[Any]:
        return self._nemo.decoding(encoder_output=encoded, encoded_lengths=lengths, partial_hypotheses=None)[0]

    def _spelt(self, hypotheses: list[Any], durations_s: Sequence[float]) -> list[Transcript]:
        spelt: list[Any] = self._nemo.decode_hypothesis(hypotheses, *([True] if self._is_ctc else []))
        if not (self._options.timestamps or self._options.confidence):
            return [Transcript(hypothesis.text) for hypothesis in spelt]
        return [self._read(hypothesis, seconds) for hypothesis, seconds in zip(spelt, durations_s, strict=True)]

    def _read(self, hypothesis: Any, duration_s: float) -> Transcript:
        text: str = hypothesis.text
        tokens = self._ctc_tokens(hypothesis) if self._is_ctc else self._transducer_tokens(hypothesis)
        return Transcript(
            text,
            confidence=overall_confidence(tokens),
            words=place_words(text, tokens, self._spell, self._frame_s, duration_s)
            if self._options.timestamps
            else None,
        )

    def _ctc_tokens(self, hypothesis: Any) -> list[Token]:
        confidences = hypothesis.frame_confidence if self._options.confidence else None
        return fold_ctc(_plain(hypothesis.y_sequence), self._blank, confidences)

    def _transducer_tokens(self, hypothesis: Any) -> list[Token]:
        ids = _plain(hypothesis.y_sequence)
        starts = _plain(hypothesis.timestamp)
        durations = _plain(hypothesis.token_duration) if self._is_tdt else [1] * len(ids)
        confidences: Sequence[float | None] = (
            hypothesis.non_blank_frame_confidence if self._options.confidence else [None] * len(ids)
        )
        return [
            Token(token, start, start + max(1, duration), sure)
            for token, start, duration, sure in zip(ids, starts, durations, confidences, strict=True)
        ]

    @property
    def _is_tdt(self) -> bool:
        return bool(self._nemo.durations)

    def _refuse_the_impossible(self, name: str) -> None:
        if self._is_ctc:
            return
        if self._nemo.big_blank_durations and (self._options.timestamps or self._options.confidence):
            raise InfrastructureError(f"this {name} has several blanks: it gives neither timestamps nor confidence")
        if self._is_tdt and self._options.strategy == "greedy_batch" and not self._options.label_looping:
            raise InfrastructureError(f"this {name} predicts durations (TDT): it has no frame looping in batches")


def _overridden(config: dict[str, Any], options: DecodingOptions, *, on_gpu: bool, confidence: bool) -> dict[str, Any]:
    # NeMo has graphs of its loop over frames too, which nothing here watches over: that loop is for comparison only.
    graphs = options.cuda_graphs and options.label_looping and on_gpu
    confidence_cfg = {
        "preserve_frame_confidence": confidence,
        "preserve_token_confidence": False,
        "preserve_word_confidence": False,
        "exclude_blank": True,
        "aggregation": "mean",
    }
    greedy = {
        "loop_labels": options.label_looping,
        "use_cuda_graph_decoder": graphs,
        "allow_cuda_graphs": graphs,
        "preserve_alignments": False,
        "preserve_frame_confidence": confidence,
        "compute_timestamps": False,
    }
    return config | {
        "strategy": options.strategy,
        "preserve_alignments": False,
        "compute_timestamps": False,
        "tdt_include_token_duration": options.timestamps or options.confidence,
        "confidence_cfg": confidence_cfg,
        "greedy": dict(config.get("greedy") or {}) | greedy,
    }


def frame_s_of(model: Any) -> float:
    """Return the length of one encoder frame in seconds.

    Raises:
        InfrastructureError: the model's settings do not have it.
    """
    subsampling = getattr(model.encoder, "subsampling_factor", None)
    stride_s = model.cfg.preprocessor.get("window_stride")
    if subsampling is None or stride_s is None:
        raise InfrastructureError(
            f"the encoder {type(model.encoder).__name__} does not say how long its frames are: no timestamps"
        )
    return float(subsampling) * float(stride_s)


def _plain(values: Any) -> list[int]:
    return values.tolist() if hasattr(values, "tolist") else [int(value) for value in values]
