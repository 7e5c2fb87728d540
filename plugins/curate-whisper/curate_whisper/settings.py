"""The settings that both recognisers have, and what they have in common: columns, silence, rounding."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from curate.asr import transcript_columns
from curate.errors import PlanError, RecordError
from curate.models import Clip

RATE_HZ = 16_000
WINDOW_S = 30.0
SCORES = ("no_speech_prob", "avg_logprob", "compression_ratio")
LANGUAGE = "pred_lang"

_TOO_LONG_S = 0.01
_SILENCE = 2.0**-48
_DIGITS = 3
_SMALLEST = 400
"""Samples of one frame of the spectrogram; a shorter clip has no word in it."""


def columns(*, timestamps: bool, confidence: bool, scores: bool, report_language: bool) -> tuple[str, ...]:
    """Return the columns of a row."""
    known = transcript_columns(timestamps=timestamps, confidence=confidence)
    return (*known, *(SCORES if scores else ()), *((LANGUAGE,) if report_language else ()))


def check_common(name: str, *, beam_size: int, condition_on_previous_text: bool, max_new_tokens: int) -> None:
    """Check settings that both recognisers have.

    Raises:
        PlanError: a value that cannot be.
    """
    if beam_size < 1:
        raise PlanError(f"{name}: beam_size must be at least 1, not {beam_size}")
    if not 1 <= max_new_tokens <= 444:
        raise PlanError(f"{name}: max_new_tokens must be 1 to 444, not {max_new_tokens}")
    if condition_on_previous_text:
        raise PlanError(
            f"{name}: condition_on_previous_text must be false: windows are transcribed in batches, each for itself, "
            "so that one wrong text does not spread over a recording and a run can be resumed anywhere"
        )


def temperatures(name: str, given: float | Sequence[float]) -> tuple[float, ...]:
    """Return the temperatures to try in turn.

    Raises:
        PlanError: they are not numbers from 0 to 1 in ascending order.
    """
    values = (given,) if isinstance(given, int | float) else tuple(given)
    if not values or any(not 0 <= value <= 1 for value in values) or list(values) != sorted(set(values)):
        raise PlanError(f"{name}: temperature must be 0 to 1, or an ascending list of such numbers, not {given!r:.80}")
    return tuple(map(float, values))


def is_audible(clip: Clip) -> bool:
    """Return whether a clip can hold speech: it is long enough, and not silent.

    Raises:
        RecordError: it is not mono, not finite, or longer than a window.
    """
    samples = clip.samples
    if samples.ndim != 1:
        raise RecordError("unsupported_channels", f"a clip of shape {samples.shape} is not mono")
    if clip.duration_s > WINDOW_S + _TOO_LONG_S:
        raise RecordError(
            "too_long", f"a clip of {clip.duration_s:.1f} s is longer than Whisper's window of 30 s; use long_form"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        energy = float(np.einsum("i,i->", samples, samples))
    if not math.isfinite(energy) and not np.isfinite(samples).all():
        raise RecordError("non_finite", "the clip holds NaN or infinite samples")
    return samples.size >= _SMALLEST and energy > _SILENCE * samples.size


def compression_ratio(text: str) -> float:
    """Return how much smaller zlib makes the text: above 2.4, Whisper takes it for a loop."""
    written = text.encode()
    return len(written) / len(zlib.compress(written)) if written else 0.0


def mean_probability(avg_logprob: float) -> float:
    """Return the mean probability of the tokens, rounded."""
    return round(min(1.0, math.exp(avg_logprob)), _DIGITS)


def is_doubtful(text: str, avg_logprob: float) -> bool:
    """Return whether a transcript loops, or the model is unsure of it, by Whisper's own limits."""
    return compression_ratio(text) > 2.4 or avg_logprob < -1.0


def score_row(no_speech_prob: float, avg_logprob: float, text: str) -> dict[str, Any]:
    """Return the columns of `SCORES`, rounded, because their last bits depend on batch and threads."""
    values = (no_speech_prob, avg_logprob, compression_ratio(text))
    return {name: round(float(value), _DIGITS) for name, value in zip(SCORES, values, strict=True)}


NO_SCORES: dict[str, Any] = dict.fromkeys(SCORES)
"""The scores of a clip that the model is not shown."""
