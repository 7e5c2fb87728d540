"""Where to cut a segment that is too long: at its quietest places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]

STEP_S = 0.01
PAUSE_S = 0.1
"""The least pause at which speech is cut; also the length over which the quiet is measured."""

_WIDTH = round(PAUSE_S / STEP_S)
_PAUSE_DB = 20.0
_SILENCE = 1e-12


@attrs.frozen
class Cut:
    """A place to cut.

    Attributes:
        at_s: the time from the start of the segment.
        in_speech: whether there is no pause: the sound is less than 20 dB below the segment's loud parts.
    """

    at_s: float
    in_speech: bool


def step_powers(blocks: Iterable[Samples], rate_hz: int) -> Floats:
    """Return the mean square of each 10 ms of mono samples; what is left at the end is left out."""
    import numpy as np

    size = round(STEP_S * rate_hz)
    rest = np.zeros(0, np.float32)
    parts = [np.zeros(0)]
    for block in blocks:
        joined = np.concatenate([rest, block])
        whole = len(joined) // size * size
        parts.append(np.square(joined[:whole].astype(np.float64)).reshape(-1, size).mean(axis=1))
        rest = joined[whole:]
    return np.concatenate(parts)


def find_cuts(powers: Floats, duration_s: float, max_s: float) -> list[Cut]:
    """Return where to cut a segment so that no piece is longer than `max_s`.

    Each piece ends at the quietest 0.1 s in the second half of what it may last, so pieces are long, and pauses are
    preferred to the exact length.

    Args:
        powers: the mean square of each 10 ms.
        duration_s: the length of the segment.
        max_s: the greatest length of a piece, at least 0.5 s.
    """
    import numpy as np

    if duration_s <= max_s:
        return []
    quiet_db = 10 * np.log10(np.maximum(_smoothed(powers), _SILENCE))
    loud_db = float(np.quantile(quiet_db, 0.9)) if len(quiet_db) else 0.0
    cuts: list[Cut] = []
    start_s = 0.0
    while duration_s - start_s > max_s + 1e-9:
        first = int(np.ceil((start_s + max_s / 2) / STEP_S))
        last = int((start_s + max_s) / STEP_S)
        window = quiet_db[first : last + 1]
        if not len(window):
            cuts.append(Cut(round(start_s + max_s, 3), True))
        else:
            place = int(np.argmin(window))
            at_s = min(round((first + place) * STEP_S, 3), start_s + max_s)
            cuts.append(Cut(at_s, bool(window[place] > loud_db - _PAUSE_DB)))
        start_s = cuts[-1].at_s
    return cuts


def _smoothed(powers: Floats) -> Floats:
    """Return the mean power of the 0.1 s around each border of two steps."""
    import numpy as np

    if not len(powers):
        return powers
    padded = np.pad(powers, (_WIDTH // 2, _WIDTH // 2), mode="edge")
    return np.convolve(padded, np.full(_WIDTH, 1 / _WIDTH), mode="valid")[: len(powers)]
