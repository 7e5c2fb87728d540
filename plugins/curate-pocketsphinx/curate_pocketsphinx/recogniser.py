"""The PocketSphinx recogniser: the transcript of a clip depends on that clip alone.

PocketSphinx was made for one speaker at one microphone, and adapts during recognition. Three kinds of state survive an
utterance:

- the noise estimate and the cepstral mean of the front end, which `reinit_feat()` resets;
- the best Gaussians of the last frame, from which the acoustic model (`ptm_mgau.c`) starts its search in the next
  frame, so that ties are decided by earlier audio, across utterances too. No call resets them, except loading all
  models again. A fixed stretch of noise, recognised before each clip, overwrites them: every codebook is searched in
  every frame of it, and after a few frames no older state is left;
- an utterance that was begun and not ended: `end_utt()` is always called.
"""

from __future__ import annotations

import difflib
import re
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.asr import Transcript, Word, transcript_columns
from curate.errors import InfrastructureError, PlanError, RecordError
from curate.models import AudioModel, Clip, Rows

Waveform = NDArray[np.float32]

_OURS = ("lm", "dict", "hmm", "lw", "fwdflatlw", "bestpathlw", "wip", "beam", "wbeam", "pbeam", "maxhmmpf")
_FORBIDDEN = ("loglevel", "logfn", "seed", "input_endian")
_GRAMMARS = ("jsgf", "fsg", "keyphrase", "kws", "allphone", "lmctl")
_VARIANT = re.compile(r"\(\d+\)$")
_CONFIDENCE_DIGITS = 4
_PRIMER_S = 0.15


class PocketSphinxRecogniser(AudioModel):
    """A recogniser that runs PocketSphinx, by default with the US English model of its wheel.

    The words are those of the dictionary, in lower case for English, without punctuation; fillers such as silence and
    noise are omitted. Digital silence, and audio too short for a single word (about 0.1 s), give an empty transcript.

    The language weights are one below those of PocketSphinx (6.5, 8.5, 9.5), which favours the acoustic model, as suits
    read speech of good quality. On the 16 clips they were tried on (169 words), errors fell from 44 to 34, and rose in
    no set.

    Args:
        lm: path of an n-gram language model (ARPA or binary). None: US English.
        dict: path of a pronunciation dictionary. None: CMUdict.
        hmm: path of a folder with an acoustic model; also brings the feature options (`feat.params`). None: US English.
        lw: weight of the language model in the first pass; a lower one favours the acoustic model, and is slower.
        fwdflatlw: the same in the second pass.
        bestpathlw: the same in the search through the lattice.
        wip: word insertion penalty, above 0 and at most 1; lower gives fewer words.
        beam: relative probability below which paths are pruned, above 0 and at most 1; smaller is wider and slower.
        wbeam: the same where words end.
        pbeam: the same where phones change.
        maxhmmpf: the maximum number of HMMs per frame; -1 for no bound.
        timestamps: whether transcripts contain the start and end of each word.
        confidence: whether transcripts, and words if there are any, contain the word's posterior probability in the
            lattice; for the whole utterance the mean over its words. Poorly calibrated: compare it within one model.
        options: any other parameter of PocketSphinx, by its name (`{"topn": 8}`, `{"jsgf": "digits.gram"}`).

    Raises:
        PlanError: an option that PocketSphinx does not have, or a value that it cannot take.
    """

    def __init__(
        self,
        lm: str | Path | None = None,
        dict: str | Path | None = None,
        hmm: str | Path | None = None,
        *,
        lw: float = 5.5,
        fwdflatlw: float = 7.5,
        bestpathlw: float = 8.5,
        wip: float = 0.65,
        beam: float = 1e-48,
        wbeam: float = 7e-29,
        pbeam: float = 1e-48,
        maxhmmpf: int = 30_000,
        timestamps: bool = False,
        confidence: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value in {"lw": lw, "fwdflatlw": fwdflatlw, "bestpathlw": bestpathlw}.items():
            _require(value > 0, name, value, "above 0")
        for name, value in {"wip": wip, "beam": beam, "wbeam": wbeam, "pbeam": pbeam}.items():
            _require(0 < value <= 1, name, value, "above 0 and at most 1")
        _require(maxhmmpf == -1 or maxhmmpf > 0, "maxhmmpf", maxhmmpf, "above 0, or -1 for no bound")
        self.writes = transcript_columns(timestamps=timestamps, confidence=confidence)
        self.timestamps = timestamps
        self.confidence = confidence
        self.settings: Mapping[str, Any] = {
            "lw": lw,
            "fwdflatlw": fwdflatlw,
            "bestpathlw": bestpathlw,
            "wip": wip,
            "beam": beam,
            "wbeam": wbeam,
            "pbeam": pbeam,
            "maxhmmpf": maxhmmpf,
            **{name: str(path) for name, path in {"lm": lm, "dict": dict, "hmm": hmm}.items() if path is not None},
            **(_checked(options) if options else {}),
        }
        self._decoder: Any = None
        self._primer = b""

    def setup(self) -> None:
        """Load the models; a second call does nothing. Takes 0.15 to 0.5 s.

        Raises:
            InfrastructureError: a model is missing or broken, or PocketSphinx is not installed.
        """
        if self._decoder is not None:
            return
        for name in ("lm", "dict", "hmm", *_GRAMMARS):
            path = self.settings.get(name)
            if path is not None and name != "keyphrase" and not Path(path).exists():
                raise InfrastructureError(f"pocketsphinx: {name} does not exist on this machine: {path}")
        decoder = _load(self.settings)
        self.rate_hz = int(decoder.config["samprate"])
        noise = np.random.default_rng(0).normal(0.0, 0.05, int(_PRIMER_S * self.rate_hz))
        self._primer = _pcm(noise.astype(np.float32))
        self._decoder = decoder

    def infer(self, clips: Sequence[Clip]) -> Rows:
        """Recognise `clips`, one after the other; errors are those of `transcribe`."""
        transcripts = self.transcribe([clip.samples for clip in clips])
        return [one.row(timestamps=self.timestamps, confidence=self.confidence) for one in transcripts]

    def transcribe(self, waveforms: Sequence[Waveform]) -> list[Transcript]:
        """Recognise `waveforms`, one after the other, outside of a pipeline.

        Args:
            waveforms: arrays of shape (samples,): float32, mono, at `rate_hz`, full scale at ±1. Samples beyond are
                clipped: PocketSphinx takes 16-bit samples.

        Returns:
            One transcript per waveform, in the same order.

        Raises:
            RecordError: a waveform that is not one channel of finite samples.
            InfrastructureError: `setup` has not been called.
        """
        if self._decoder is None:
            raise InfrastructureError("pocketsphinx: transcribe() needs setup() first")
        return [self._recognise(waveform) for waveform in waveforms]

    def close(self) -> None:
        """Release the models; `setup` may be called again."""
        self._decoder = None

    def _recognise(self, waveform: Waveform) -> Transcript:
        samples = np.asarray(waveform)
        if samples.ndim != 1:
            raise RecordError("unsupported_channels", f"a waveform of shape {samples.shape} is not mono")
        if not np.isfinite(samples).all():
            raise RecordError("non_finite", "the waveform holds NaN or infinite samples")
        pcm = _pcm(samples)
        if not samples.size or pcm == pcm[:2] * samples.size:
            # No sound: the clip is empty, or all samples are equal. PocketSphinx refuses the former and invents words
            # for the latter, where all its Gaussians are equally good.
            return self._transcript([], 0.0)
        try:
            self._decoder.reinit_feat()
            self._decode(self._primer)
            self._decoder.reinit_feat()
            self._decode(pcm)
        except RuntimeError:
            # A decoder that has failed once may return wrong words from then on; the next clip gets a new one.
            self._decoder = _load(self.settings)
            raise
        return self._transcript(self._segments(), samples.size / self.rate_hz)

    def _decode(self, pcm: bytes) -> None:
        self._decoder.start_utt()
        try:
            self._decoder.process_raw(pcm, full_utt=True)
        finally:
            self._decoder.end_utt()

    def _segments(self) -> list[Any]:
        # Without a hypothesis, seg() returns None.
        return [segment for segment in self._decoder.seg() or () if not segment.word.startswith(("<", "[", "+"))]

    def _transcript(self, segments: list[Any], duration_s: float) -> Transcript:
        texts = [_VARIANT.sub("", segment.word) for segment in segments]
        posteriors = [min(1.0, max(0.0, float(segment.prob))) for segment in segments]
        frame_s = 1.0 / self._decoder.config["frate"]
        words = (
            Word(
                text,
                start_s=min(round(segment.start_frame * frame_s, 3), duration_s),
                end_s=min(round((segment.end_frame + 1) * frame_s, 3), duration_s),
                confidence=round(posterior, _CONFIDENCE_DIGITS) if self.confidence else None,
            )
            for text, segment, posterior in zip(texts, segments, posteriors, strict=True)
        )
        mean = round(sum(posteriors) / len(posteriors), _CONFIDENCE_DIGITS) if posteriors else None
        return Transcript(
            " ".join(texts),
            confidence=mean if self.confidence else None,
            words=tuple(words) if self.timestamps else None,
        )


def _pcm(samples: Waveform) -> bytes:
    """Return `samples` (full scale ±1) as little-endian 16-bit PCM."""
    return np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()


def _load(settings: Mapping[str, Any]) -> Any:
    """Return a silent decoder, or raise `InfrastructureError` with PocketSphinx's reason.

    PocketSphinx writes its reasons only to its log, which belongs to the whole process; its exceptions have none. So
    the log is silenced, and after a failure the models are loaded once more with the log in a file.
    """
    try:
        pocketsphinx: Any = import_module("pocketsphinx")
    except ImportError as error:
        raise InfrastructureError(f"pocketsphinx cannot be imported ({error}): pip install pocketsphinx") from error
    # The seed only matters where dither is switched on; by default it is drawn from the clock.
    settings = {**settings, "input_endian": "little", "seed": 0}
    try:
        return pocketsphinx.Decoder(**settings, loglevel="FATAL")
    except (RuntimeError, ValueError) as error:
        reason = _reason(pocketsphinx, settings) or str(error)
        raise InfrastructureError(f"pocketsphinx cannot load its models: {reason}") from error


def _reason(pocketsphinx: Any, settings: Mapping[str, Any]) -> str:
    """Return the errors that loading with `settings` logs, joined to one line."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        try:
            pocketsphinx.Decoder(**settings, loglevel="ERROR", logfn=str(log))
        except (RuntimeError, ValueError):
            pass
        finally:
            pocketsphinx.set_loglevel("FATAL")
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "; ".join(line.partition(": ")[2].partition(": ")[2] or line for line in lines if line.strip())


def _checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `options` if PocketSphinx has them all and their values have the right types; loads no model."""
    try:
        config: Any = import_module("pocketsphinx").Config()
    except ImportError:
        return options  # `setup`, on the worker's machine, reports it
    for name, value in options.items():
        if name in _OURS:
            raise PlanError(f"pocketsphinx: {name} is an argument of the recogniser, not one of its options")
        if name in _FORBIDDEN:
            raise PlanError(f"pocketsphinx: {name} cannot be set: results and logs depend on it")
        try:
            config[name] = value
        except KeyError as error:
            known = difflib.get_close_matches(name, [argument.name for argument in config.describe()], cutoff=0.0)
            raise PlanError(f"pocketsphinx has no option {name!r}; nearest: {', '.join(known)}") from error
        except (TypeError, ValueError) as error:
            raise PlanError(f"pocketsphinx: {name} cannot be {value!r}: {error}") from error
    return options


def _require(holds: bool, name: str, value: float, expected: str) -> None:
    if not holds:
        raise PlanError(f"pocketsphinx: {name} must be {expected}, not {value}")
