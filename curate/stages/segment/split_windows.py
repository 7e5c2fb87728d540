"""The stage that cuts recordings into windows of one length, whatever is in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.errors import PlanError
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.stages.segment.children import OF_THE_WHOLE, PARENT_SPAN, child_of, inherited, numbered


@dataclass
class SplitWindows(AudioStage):
    """Splits a recording into windows of one length, for what needs no regard for words: language, events, speakers.

    `part` and `parts` number the windows. The last one may be shorter, as nothing is left out; with `even`, all have
    one length, at most `window_s`. The windows do not inherit the columns that describe the whole recording.

    Args:
        filepath_key: the column that holds the path of the audio.
        window_s: the length of a window.
        overlap_s: how much of a window the next one repeats.
        even: make windows of one length, so that the last one is not a splinter.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    window_s: float = 30.0
    overlap_s: float = 0.0
    even: bool = False

    cardinality = "splits"

    def check(self) -> None:
        if not 0.01 <= self.window_s < float("inf"):
            raise PlanError(f"split_windows: window_s={self.window_s!r}: must be at least 0.01 s", self.name)
        if not 0 <= self.overlap_s <= 0.95 * self.window_s:
            raise PlanError(
                f"split_windows: overlap_s={self.overlap_s!r}: must be 0 to 95 % of window_s={self.window_s!r}",
                self.name,
            )

    def writes(self) -> tuple[str, ...]:
        return ("offset", "duration", "part", "parts", PARENT_SPAN)

    def drops(self) -> frozenset[str]:
        return OF_THE_WHOLE - {"claimed_duration"}

    def process_audio(self, record: Record, audio: Audio) -> Sequence[Record]:
        duration_s = round(audio.duration_s, 6)
        window_s, step_s = self.window_s, self.window_s - self.overlap_s
        windows = max(1, math.ceil(round((duration_s - self.overlap_s) / step_s, 9)))
        if self.even:
            window_s = (duration_s + (windows - 1) * self.overlap_s) / windows
            step_s = window_s - self.overlap_s
        inherits = inherited(record)
        edges = [(round(n * step_s, 3), min(round(n * step_s + window_s, 3), duration_s)) for n in range(windows)]
        edges[-1] = (edges[-1][0], duration_s)
        return numbered([child_of(record, inherits, start_s, end_s) for start_s, end_s in edges])
