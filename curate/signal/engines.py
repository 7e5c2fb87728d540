"""What the engines of `speech_quality` and `audio_events` must be able to do. Plugins announce classes of these shapes.

A class is called with the stage's `options` as keyword arguments, in the driver (to check them) and in every worker.
`setup` is called before the first recording, in workers only. What gains from batches is an `AudioModel`
instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Probabilities = npt.NDArray[np.float32]


class Engine(Protocol):
    """What every engine can do.

    Attributes:
        rate_hz: the rate of the samples that it takes; the stage resamples.
    """

    rate_hz: int

    def check(self) -> None:
        """Check, without loading anything, that what it needs is installed.

        Raises:
            PlanError: what is missing, and how to install it.
        """
        ...

    def fingerprint(self) -> Mapping[str, Any]:
        """Return values that determine the results in addition to the options, such as a model's sha256."""
        ...

    def setup(self) -> None:
        """Load what it needs."""
        ...


@runtime_checkable
class QualityMeter(Engine, Protocol):
    """Scores the quality of speech in a window of fixed length, as a listener would.

    Attributes:
        window_s: the length of a window.
        columns: the names of the scores.
    """

    window_s: float
    columns: Sequence[str]

    def scores(self, window: Samples) -> Sequence[float]:
        """Return the scores of one window of mono samples, at most 1 in magnitude, in the order of `columns`."""
        ...


@runtime_checkable
class EventDetector(Engine, Protocol):
    """Estimates for each frame of a recording how probable each kind of sound is.

    Attributes:
        frame_s: the time between two frames; the first one begins at 0.
        thresholds: kind of sound → the probability from which a frame counts as one.
    """

    frame_s: float
    thresholds: Mapping[str, float]

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        """Yield the probabilities of one recording in pieces `(frames, kinds)`, in order, in bounded memory.

        Args:
            blocks: mono samples at `rate_hz`, in pieces of any length. The result must not depend on their borders.
        """
        ...


def spread_windows(length_s: float, window_s: float, hop_s: float, most: int) -> list[tuple[float, float]]:
    """Return windows `(start, end)` of a recording: every hop, or fewer that are spread evenly over all of it.

    Args:
        length_s: of the recording; where it is shorter than a window, it is the only one.
        window_s: the length of a window.
        hop_s: the time between the starts of two windows, unless that would make too many.
        most: the largest number of windows.
    """
    if length_s <= window_s:
        return [(0.0, length_s)]
    count = min(most, int((length_s - window_s) / hop_s + 1e-9) + 1)
    if count == 1:
        middle_s = (length_s - window_s) / 2
        return [(round(middle_s, 3), round(middle_s + window_s, 3))]
    step_s = hop_s if count < most else (length_s - window_s) / (count - 1)
    return [(round(place * step_s, 3), round(place * step_s + window_s, 3)) for place in range(count)]
