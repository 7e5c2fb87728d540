"""A voice detector that needs no library: sound that lies above the noise of its surroundings.

It takes any sound for speech, so it is for clean recordings, and never chosen in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Probabilities = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]

_HOP = 160
_AROUND = 3  # frames of 10 ms on each side over which a level is smoothed
_FLOOR_FRAMES = 1000
_FLOOR_QUANTILE = 0.1
_LEAST_DBFS = -75.0
_RANGE_DB = 45.0
_SLOPE_DB = 2.0


class EnergyDetector:
    """Compares the level of each 10 ms with the noise floor of the 30 s around it.

    Args:
        margin_db: how far above the floor a frame has the probability 0.5.
    """

    rate_hz = 16_000
    frame_s = 0.01
    threshold = 0.5

    def __init__(self, margin_db: float = 6.0) -> None:
        if isinstance(margin_db, bool) or not 0 < margin_db < 100:
            raise ValueError(f"margin_db={margin_db!r} must be between 0 and 100")
        self._margin_db = margin_db

    def check(self) -> None:
        """There is nothing to install."""

    def fingerprint(self) -> Mapping[str, Any]:
        """Return nothing: the options determine it."""
        return {}

    def setup(self) -> None:
        """There is nothing to load."""

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        """Yield the probabilities in one piece: the floor is known at the end. 4 bytes a frame are held."""
        import numpy as np

        levels = np.concatenate([np.zeros(0), *_levels(blocks)])
        if not len(levels):
            return
        levels_db = 10 * np.log10(np.maximum(_smoothed(levels), 1e-12))
        least_db = max(_LEAST_DBFS, float(np.quantile(levels_db, 0.99)) - _RANGE_DB)
        above_db = levels_db - np.maximum(_floor_db(levels_db) + self._margin_db, least_db)
        yield (1 / (1 + np.exp(-np.clip(above_db / _SLOPE_DB, -30, 30)))).astype(np.float32)


def _levels(blocks: Iterable[Samples]) -> Iterator[Floats]:
    """Yield the mean square of each 10 ms, of the differences of samples, which leave out slow hum."""
    import numpy as np

    rest = np.zeros(0, np.float32)
    before = np.float32(0)
    for block in blocks:
        if not len(block):
            continue
        differences = np.diff(block, prepend=before)
        before = block[-1]
        joined = np.concatenate([rest, differences])
        whole = len(joined) // _HOP * _HOP
        yield np.square(joined[:whole].astype(np.float64)).reshape(-1, _HOP).mean(axis=1)
        rest = joined[whole:]
    if len(rest):
        yield np.array([np.square(rest.astype(np.float64)).mean()])


def _smoothed(levels: Floats) -> Floats:
    import numpy as np

    width = 2 * _AROUND + 1
    padded = np.pad(levels, _AROUND, mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")


def _floor_db(levels_db: Floats) -> Floats:
    """Return the noise floor at each frame: the lower tenth of 10 s and of its neighbours, whichever is lowest."""
    import numpy as np

    pieces = [levels_db[at : at + _FLOOR_FRAMES] for at in range(0, len(levels_db), _FLOOR_FRAMES)]
    if len(pieces) > 1 and len(pieces[-1]) < _FLOOR_FRAMES // 2:
        last = pieces.pop()
        pieces[-1] = np.concatenate([pieces[-1], last])
    sound = [piece[piece > _LEAST_DBFS] for piece in pieces]  # digital silence is not a floor
    floors = np.array([np.quantile(each, _FLOOR_QUANTILE) if len(each) else np.inf for each in sound])
    around = np.minimum(np.minimum(floors, np.append(floors[1:], np.inf)), np.insert(floors[:-1], 0, np.inf))
    around[~np.isfinite(around)] = _LEAST_DBFS
    return np.concatenate([np.full(len(piece), floor) for piece, floor in zip(pieces, around, strict=True)])
