"""A model that measures windows of its clips, so that a recording of hours costs minutes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import attrs

from curate.models.capabilities import ModelCapabilities
from curate.models.clip import Clip, Waveform
from curate.models.model import AudioModel, Row, Rows

Vector: TypeAlias = Any
"""A float64 array of shape `(values,)`."""

Summary: TypeAlias = Callable[[Sequence[Sequence[Row]]], Row]
"""Makes the row of a clip from the rows of its windows, part by part; a part without windows is too short or silent."""


@attrs.frozen
class Windows:
    """Which windows of a clip are measured: as many as cover it, or fewer that are spread evenly over it.

    Args:
        window_s: the length of a window; a shorter clip is one window.
        most: the largest number of windows of a clip.
        least_s: shorter clips, and digital silence, are not measured.
    """

    window_s: float = attrs.field(validator=attrs.validators.gt(0))
    most: int = attrs.field(validator=attrs.validators.ge(1))
    least_s: float = attrs.field(default=0.5, validator=attrs.validators.ge(0))

    def of(self, length_s: float) -> list[tuple[float, float]]:
        """Return the windows, (start, end) in seconds, of a clip of a length."""
        if length_s <= self.window_s:
            return [(0.0, length_s)]
        count = min(self.most, math.ceil(length_s / self.window_s))
        if count == 1:
            start_s = (length_s - self.window_s) / 2
            return [(start_s, start_s + self.window_s)]
        step_s = (length_s - self.window_s) / (count - 1)
        return [(place * step_s, place * step_s + self.window_s) for place in range(count)]

    def cut(self, samples: Waveform, rate_hz: int) -> list[Waveform]:
        """Return the samples of the windows; none where there is too little to measure."""
        if len(samples) < max(1.0, self.least_s * rate_hz) or not samples.any():
            return []
        spans = self.of(len(samples) / rate_hz)
        windows = [samples[round(start * rate_hz) : round(end * rate_hz)] for start, end in spans]
        return [window for window in windows if window.any()]


class WindowedModel(AudioModel):
    """Runs another model on windows of each clip, and makes one row of theirs.

    Args:
        engine: the model that measures the windows, not yet set up.
        windows: which windows of a clip, or of each part of it, are measured.
        writes: the columns of a row.
        summarise: makes the row of a clip.
        parts: the number of parts of equal length into which a clip is divided first.
    """

    def __init__(
        self, engine: AudioModel, windows: Windows, writes: Sequence[str], summarise: Summary, parts: int = 1
    ) -> None:
        self.writes = tuple(writes)
        self._engine = engine
        self._windows = windows
        self._summarise = summarise
        self._parts = parts

    def setup(self) -> None:
        """Load the engine, with the resources of this model."""
        self._engine.resources = self.resources
        self._engine.setup()
        self.rate_hz = self._engine.rate_hz

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()

    def capabilities(self) -> ModelCapabilities:
        """Return those of the engine that hold for clips of any length."""
        return attrs.evolve(self._engine.capabilities(), stage=None, reserve=None)

    def excerpts(self, duration_s: float) -> Sequence[tuple[float, float]] | None:
        """Return the windows of a recording that has more of them than are measured; None: all of it is loaded."""
        part_s = duration_s / self._parts
        if part_s <= self._windows.window_s * self._windows.most:
            return None
        spans = self._windows.of(part_s)
        return [(part * part_s + start, part * part_s + end) for part in range(self._parts) for start, end in spans]

    def infer(self, clips: Sequence[Clip]) -> Rows:
        """Measure the windows of all clips together."""
        windows: list[Clip] = []
        places: list[list[range]] = []
        for clip in clips:
            places.append([])
            size = len(clip.samples) / self._parts
            for part in range(self._parts):
                samples = clip.samples[round(part * size) : round((part + 1) * size)]
                found = [Clip(window, clip.rate_hz, clip.record) for window in self._windows.cut(samples, clip.rate_hz)]
                places[-1].append(range(len(windows), len(windows) + len(found)))
                windows += found
        found = self._engine.infer(windows) if windows else ()
        measured = found() if callable(found) else found
        return [self._summarise([[measured[index] for index in part] for part in parts]) for parts in places]
