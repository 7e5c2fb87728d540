"""The stage that makes one record for each channel of a recording, such as the two sides of a telephone call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.records import DEFAULT_FILEPATH_KEY, Record

SAME_CORRELATION = 0.99
"""Two channels of a higher correlation hold the same signal; so do a signal and its inverse."""

_SELECTOR = "channel_selector"


@dataclass
class SplitChannels(AudioStage):
    """Splits a recording into its channels: one child for each, whose `channel` all later stages obey.

    Two channels that hold the same signal (a correlation above 0.99, or below -0.99 for an inverted copy) are *dual
    mono*: the second one would double the speech. The first channel stands for both, `dual_mono` is true in its child,
    and the recording counts in the stage's `performance` in `summary.json`. Channels are compared block by block, so a
    recording may be of any length. A silent channel is a child like any other: `value_filter` or a measure of the level
    removes it.

    A record that names a channel, or a list of channels, is split into these. `part` counts the children from 0, and
    `parts` is their number. NeMo's `channel_selector` is set to the same channel where a record has it.

    Args:
        filepath_key: the column that holds the path of the audio.
        keep_copies: make a child of every channel, also of one that holds the same signal as another.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    keep_copies: bool = False

    cardinality = "splits"

    def __post_init__(self) -> None:
        self._counts: dict[str, int] = {}

    def writes(self) -> tuple[str, ...]:
        return ("channel", "part", "parts", "dual_mono")

    def process_audio(self, record: Record, audio: Audio) -> list[Record]:
        named = audio.named_channels
        copies = _copies(audio, named)
        kept = named if self.keep_copies else [channel for channel in named if channel not in copies]
        children: list[Record] = []
        for part, channel in enumerate(kept):
            child = {**record, "channel": channel, "part": part, "parts": len(kept)}
            if _SELECTOR in record:
                child[_SELECTOR] = channel
            child["dual_mono"] = channel in copies or channel in copies.values()
            children.append(child)
        counts = {"recordings": 1, "channels": len(named), "dual_mono": int(bool(copies))}
        self._counts = {name: self._counts.get(name, 0) + count for name, count in counts.items()}
        return children

    def take_measures(self) -> Mapping[str, Any]:
        taken, self._counts = self._counts, {}
        return taken


def _copies(audio: Audio, channels: Sequence[int]) -> dict[int, int]:
    """Return each channel that holds the same signal as an earlier one, with the first such channel."""
    copies: dict[int, int] = {}
    originals: list[int] = []
    for channel in channels:
        same = (each for each in originals if abs(audio.channel_correlation(each, channel)) > SAME_CORRELATION)
        original = next(same, None)
        if original is None:
            originals.append(channel)
        else:
            copies[channel] = original
    return copies
