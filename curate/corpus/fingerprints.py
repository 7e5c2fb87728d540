"""Acoustic fingerprints of recordings, after Haitsma and Kalker (2002): 32 bits for each frame, from 33 bands.

A bit says whether the difference in energy of two neighbouring bands has grown from one frame to the next. It does not
change with the level, and hardly with coding; it does with the voice. Frames of 0.256 s overlap by 15/16, so that a
recording that begins 0.2 s later falls on nearly the same frames.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE_HZ = 8_000
FRAME = 2048
HOP = 128
BITS = 32
LOWEST_HZ, HIGHEST_HZ = 200.0, 3_600.0

MAX_ERROR_RATE = 0.12
"""The share of differing bits up to which two fingerprints match. Measured on speech: at most 0.08 for MP3 at 64
kbit/s, half the level and shifts; from 0.15 on for one sentence in two voices of a synthesiser."""

INDEX_WORDS = 128
"""The number of words of a fingerprint, those with the least hashes, by which others that may match are found."""

_MOST_SHIFT = 32
_LENGTH_RATIO = 0.02
"""Recordings that match differ in length by at most 32 frames (0.5 s), or 2 %."""

_FEWEST_WORDS = 16
_OFFSETS = 4


def fingerprint(blocks: Iterable[NDArray[np.float32]]) -> NDArray[np.uint32]:
    """Return one word of 32 bits for each frame but the first, of shape (frames − 1,); 62.5 a second.

    Args:
        blocks: mono samples at 8 kHz, in blocks of any size.
    """
    rest = np.zeros(0, np.float32)
    before: NDArray[Any] | None = None
    words: list[NDArray[np.uint32]] = []
    for block in blocks:
        rest = np.concatenate((rest, block))
        frames = max(0, (len(rest) - FRAME) // HOP + 1)
        for first in range(0, frames, 256):
            some = min(256, frames - first)
            windows = np.lib.stride_tricks.sliding_window_view(rest[first * HOP :], FRAME)[: some * HOP : HOP]
            differences = np.diff(_band_energies(windows), axis=1)
            joined = differences if before is None else np.concatenate((before, differences))
            words.append(_packed(np.diff(joined, axis=0) > 0))
            before = differences[-1:]
        rest = rest[frames * HOP :]
    return np.concatenate(words) if words else np.zeros(0, np.uint32)


def _band_energies(windows: NDArray[Any]) -> NDArray[Any]:
    spectra = np.fft.rfft(windows * _window(), axis=1)
    power = np.square(spectra.real) + np.square(spectra.imag)
    return np.add.reduceat(power, _edges(), axis=1)[:, :-1]


@functools.cache
def _window() -> NDArray[np.float32]:
    return np.hanning(FRAME).astype(np.float32)


@functools.cache
def _edges() -> NDArray[np.int64]:
    hertz = np.geomspace(LOWEST_HZ, HIGHEST_HZ, BITS + 2)
    return np.round(hertz * FRAME / RATE_HZ).astype(np.int64)


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(np.packbits(bits, axis=1, bitorder="little")).view("<u4").ravel()


def index_words(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the words of a fingerprint with the least hashes, each once, without zero, the word of digital silence."""
    distinct = np.unique(words[words != 0])
    if len(distinct) <= INDEX_WORDS:
        return distinct
    hashes = distinct * np.uint32(0x9E3779B1)
    hashes ^= hashes >> np.uint32(15)
    return distinct[np.argsort(hashes * np.uint32(0x85EBCA77), kind="stable")[:INDEX_WORDS]]


def similar_lengths(one: Any, other: Any) -> Any:
    """Return whether the lengths of two recordings, in frames, allow a match; also for arrays."""
    return np.abs(one - other) <= np.maximum(_MOST_SHIFT, _LENGTH_RATIO * np.maximum(one, other))


def is_same_recording(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> bool:
    """Return whether two fingerprints are of the same recording: in another coding, at another level, or shifted."""
    for offset in _likely_offsets(one, other):
        first, second = (one[offset:], other) if offset >= 0 else (one, other[-offset:])
        size = min(len(first), len(second))
        first, second = first[:size], second[:size]
        compared = (first != 0) & (second != 0)
        words = int(compared.sum())
        if words < _FEWEST_WORDS or 2 * words < size:
            continue
        if _bits((first ^ second)[compared]) <= MAX_ERROR_RATE * BITS * words:
            return True
    return False


def _likely_offsets(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> list[int]:
    """Return the shifts, in frames, at which most words are equal."""
    order = np.argsort(other, kind="stable")
    found = np.searchsorted(other[order], one)
    found[found == len(other)] = 0
    equal = (other[order[found]] == one) & (one != 0)
    shifts, counts = np.unique(np.flatnonzero(equal) - order[found[equal]], return_counts=True)
    best = np.lexsort((shifts, -counts))[:_OFFSETS]
    return [int(shift) for shift in shifts[best] if abs(shift) <= _MOST_SHIFT]


def _bits(words: NDArray[np.uint32]) -> int:
    return int(np.unpackbits(words.view(np.uint8)).sum())
