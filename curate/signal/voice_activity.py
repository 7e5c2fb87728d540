"""Voice activity: from the probability of speech in each frame to segments with speech.

A detector computes the probabilities, once for a recording; `find_segments` is a pure function of them, so any other
setting costs no second detection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import attrs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Probabilities = npt.NDArray[np.float32]
    Places: TypeAlias = npt.NDArray[np.intp]

Segment: TypeAlias = "tuple[float, float]"
"""Start and end in seconds."""


@runtime_checkable
class VoiceDetector(Protocol):
    """Estimates for each frame of a recording how probable speech is. A plugin announces a class of this shape.

    The class is called with the stage's `options` as keyword arguments, in the driver (to check them) and in every
    worker. `setup` is called before the first recording, in workers only.

    Attributes:
        rate_hz: the rate of the samples that it takes; the stage resamples.
        frame_s: the time between two probabilities; the first frame begins at 0.
        threshold: the probability from which a frame is speech, unless the user sets another.
    """

    rate_hz: int
    frame_s: float
    threshold: float

    def check(self) -> None:
        """Check, without loading anything, that what it needs is installed.

        Raises:
            PlanError: what is missing, and how to install it.
        """
        ...

    def fingerprint(self) -> Mapping[str, Any]:
        """Return values that determine the probabilities in addition to the options, such as a model's sha256."""
        ...

    def setup(self) -> None:
        """Load what it needs."""
        ...

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        """Yield the probabilities of one recording in pieces, in order, in bounded memory.

        Args:
            blocks: mono samples at `rate_hz`, in pieces of any length. The result must not depend on their borders.
        """
        ...


def _check_seconds(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if isinstance(value, bool) or not 0 <= value < float("inf"):
        raise ValueError(f"{attribute.name}={value!r} must be a number of seconds, 0 or more")


def _check_probability(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if isinstance(value, bool) or not 0 < value < 1:
        raise ValueError(f"{attribute.name}={value!r} must be a probability between 0 and 1")


@attrs.frozen
class SegmentSettings:
    """How probabilities become segments.

    Args:
        threshold: speech begins with a frame of this probability.
        end_threshold: speech ends before a frame below this probability.
        min_silence_s: a shorter pause does not end a segment.
        min_speech_s: a shorter segment is reported as short.
        pad_s: each segment is extended by this much on either side; half of the pause where it is too short for both.
    """

    threshold: float = attrs.field(default=0.5, validator=_check_probability)
    end_threshold: float = attrs.field(default=0.2, validator=_check_probability)
    min_silence_s: float = attrs.field(default=0.3, validator=_check_seconds)
    min_speech_s: float = attrs.field(default=0.1, validator=_check_seconds)
    pad_s: float = attrs.field(default=0.2, validator=_check_seconds)

    def __attrs_post_init__(self) -> None:
        if self.end_threshold > self.threshold:
            raise ValueError(f"end_threshold={self.end_threshold} must not be above threshold={self.threshold}")


@attrs.frozen
class VoiceSegments:
    """The segments of a recording in seconds, rounded to milliseconds, in order and apart.

    Attributes:
        speech: segments with speech, padded.
        short: segments below `min_speech_s`, not padded; they may be clicks, or the shortest of words.
    """

    speech: list[Segment]
    short: list[Segment]


def find_segments(
    probabilities: Probabilities, frame_s: float, duration_s: float, settings: SegmentSettings
) -> VoiceSegments:
    """Return the segments with speech.

    Args:
        probabilities: of the frames, in order.
        frame_s: the time between two frames; the first one begins at 0.
        duration_s: the length of the recording, where the last segment ends at the latest.
        settings: thresholds and lengths.
    """
    import numpy as np

    starts, stops = _speech_runs(probabilities, settings.threshold, settings.end_threshold)
    edges = np.stack([starts, stops], axis=1) * frame_s
    edges = np.minimum(edges, duration_s)
    edges = _merged(edges[edges[:, 1] > edges[:, 0]], settings.min_silence_s)
    # A frame is 10 to 32 ms: half of one decides nothing.
    is_short = edges[:, 1] - edges[:, 0] < settings.min_speech_s - frame_s / 2
    return VoiceSegments(
        _as_segments(_padded(edges[~is_short], settings.pad_s, duration_s)), _as_segments(edges[is_short])
    )


def _speech_runs(probabilities: Probabilities, threshold: float, end_threshold: float) -> tuple[Places, Places]:
    """Return where runs of speech begin and end: hysteresis between two thresholds.

    A run of frames at or above the lower threshold is speech from its first frame at or above the higher one.
    """
    import numpy as np

    held = np.concatenate([[False], probabilities >= end_threshold, [False]])
    edges = np.flatnonzero(held[1:] != held[:-1])
    begins, stops = edges[::2], edges[1::2]
    onsets = np.flatnonzero(probabilities >= threshold)
    place = np.searchsorted(onsets, begins)
    found = place < len(onsets)
    begins, stops, place = begins[found], stops[found], place[found]
    starts = onsets[place]
    inside = starts < stops
    return starts[inside], stops[inside]


def _merged(edges: npt.NDArray[np.float64], min_silence_s: float) -> npt.NDArray[np.float64]:
    """Return the segments with those joined that lie nearer than a pause."""
    import numpy as np

    if len(edges) < 2:
        return edges
    apart = edges[1:, 0] - edges[:-1, 1] >= min_silence_s - 1e-9
    starts = edges[np.concatenate([[True], apart]), 0]
    ends = edges[np.concatenate([apart, [True]]), 1]
    return np.stack([starts, ends], axis=1)


def _padded(edges: npt.NDArray[np.float64], pad_s: float, duration_s: float) -> npt.NDArray[np.float64]:
    import numpy as np

    if not len(edges):
        return edges
    pauses = np.concatenate([[2 * edges[0, 0]], edges[1:, 0] - edges[:-1, 1], [2 * (duration_s - edges[-1, 1])]])
    pads = np.minimum(pad_s, pauses / 2)
    return np.stack([edges[:, 0] - pads[:-1], edges[:, 1] + pads[1:]], axis=1)


def _as_segments(edges: npt.NDArray[np.float64]) -> list[Segment]:
    return [(round(float(start), 3) + 0.0, round(float(end), 3)) for start, end in edges]
