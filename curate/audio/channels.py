"""The mix of a recording's channels to the one signal that stages receive."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import attrs

from curate.audio.files import printable
from curate.audio.settings import ChannelSetting
from curate.errors import RecordError

if TYPE_CHECKING:
    from curate.audio.sndfile import Samples

ChannelChoice: TypeAlias = "Literal['mean', 'loudest'] | int | tuple[int, ...]"
"""The signal made of a segment: the mean of all channels, the loudest, one of them, or the mean of some."""

MixedChannels: TypeAlias = "Literal['mean'] | int | tuple[int, ...]"
"""A choice that no longer depends on the levels: the mean of all channels, one of them, or the mean of some."""

ANTIPHASE_LOSS = 100.0
"""Power of the loudest channel over the power of the mean: 20 dB."""

ACTIVE_POWER = 1e-6
"""Mean square of a channel that counts as active, at least: -60 dBFS."""

ACTIVE_LOSS = 1000.0
"""Power of the loudest channel over that of an active channel, at most: 30 dB."""

LOW_CORRELATION = 0.3
"""Two active channels below it are likely to hold different signals, such as the two sides of a call."""

CHANNEL_COLUMNS = ("channel", "channel_selector")


def channel_of(record: Mapping[str, Any], setting: ChannelSetting, channels: int, name: str) -> ChannelChoice:
    """Return the channel of a record that the settings choose.

    With `"record"`, `channel` counts before NeMo's `channel_selector`: a number, a list of numbers, `"average"` or
    `"mean"`, `"loudest"`; null counts as absent. Of a mono recording any other value is disregarded: there is nothing
    to choose.

    Raises:
        RecordError: `bad_value` when the column names no channel; `unsupported_channels` when the recording lacks it.
    """
    if setting != "record":
        return setting
    for column in CHANNEL_COLUMNS:
        value = record.get(column)
        if value is not None:
            return _choice(value, column, channels, name)
    return "mean"


def _choice(value: object, column: str, channels: int, name: str) -> ChannelChoice:
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("mean", "average"):
            return "mean"
        if word == "loudest":
            return "loudest"
        if word.isascii() and word.isdigit() and len(word) <= 4:
            value = int(word)
    if isinstance(value, float) and value.is_integer():  # a nullable column of numbers, as data frames write it
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return require_channel(value, channels, name)
    if isinstance(value, list | tuple) and value:
        listed = cast("list[object]", list(value))  # pyright: ignore[reportUnknownArgumentType]
        if all(isinstance(each, int) and not isinstance(each, bool) for each in listed):
            chosen = tuple(require_channel(cast("int", each), channels, name) for each in listed)
            return chosen[0] if len(chosen) == 1 else chosen
    if channels == 1:
        return "mean"
    raise RecordError(
        "bad_value", f"{column!r} must name channels of {name}, counted from 0, not {printable(cast('object', value))}"
    )


def require_channel(channel: int, channels: int, name: str) -> int:
    """Return the channel; raise when the recording has no such channel."""
    if not 0 <= channel < channels:
        shown = channel if abs(channel) < 10**9 else "of a huge number"
        raise RecordError("unsupported_channels", f"{name} has {channels} channels, so there is no channel {shown}")
    return channel


@attrs.frozen
class ChannelLevels:
    """How loud each channel of a segment and their mean are.

    Attributes:
        powers: mean square of each channel, without its constant part.
        mean_power: the same of the mean of all channels.
        covariances: of every two channels.
    """

    powers: tuple[float, ...]
    mean_power: float
    covariances: tuple[tuple[float, ...], ...]

    @property
    def loudest(self) -> int:
        """The channel of the highest power, the first of equals."""
        return max(range(len(self.powers)), key=lambda channel: (self.powers[channel], -channel))

    @property
    def mean_is_lost(self) -> bool:
        """Whether the channels cancel each other: the mean is more than 20 dB below the loudest channel."""
        return self.mean_power * ANTIPHASE_LOSS < self.powers[self.loudest]

    @property
    def are_unlike(self) -> bool:
        """Whether two active channels are hardly correlated, so that their mean mixes different signals."""
        least = max(ACTIVE_POWER, self.powers[self.loudest] / ACTIVE_LOSS)
        active = [channel for channel, power in enumerate(self.powers) if power >= least]
        return any(abs(self.correlation(one, other)) < LOW_CORRELATION for one in active for other in active)

    def correlation(self, one: int, other: int) -> float:
        """Return the correlation of two channels, -1 to 1: 1 of two constant channels, 0 of a constant and another."""
        powers = self.powers[one], self.powers[other]
        if not all(powers):
            return 0.0 if any(powers) else 1.0
        return max(-1.0, min(1.0, self.covariances[one][other] / math.sqrt(powers[0] * powers[1])))


def measure_levels(blocks: Iterable[Samples]) -> ChannelLevels | None:
    """Measure the levels of a segment from its native blocks; None when there are none.

    The blocks of a segment always have the same borders, so the same segment always has the same levels.
    """
    import numpy as np

    frames = 0
    first: Any = None  # subtracted, so that the power of a constant is 0 and not the rounding of its square
    sums: Any = 0.0
    squares: Any = 0.0
    products: Any = 0.0
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are refused where they are read
        for block in blocks:
            wide = np.column_stack([block, mixed(block, "mean")]).astype(np.float64)
            first = wide[0] if first is None and len(wide) else first
            wide -= first
            frames += len(wide)
            sums = sums + wide.sum(axis=0)
            squares = squares + np.square(wide).sum(axis=0)
            own = wide[:, :-1]
            products = products + np.einsum("ij,ik->jk", own, own)  # not `@`, whose last bits depend on the threads
        if not frames:
            return None
        powers = np.maximum(squares / frames - np.square(sums / frames), 0.0)
        means = sums[:-1] / frames
        covariances = products / frames - np.outer(means, means)
    return ChannelLevels(
        powers=tuple(float(power) for power in powers[:-1]),
        mean_power=float(powers[-1]),
        covariances=tuple(tuple(float(each) for each in row) for row in covariances),
    )


def mixed(block: Samples, choice: MixedChannels) -> Samples:
    """Return one channel of a block, or the mean of several. Channel by channel, so that the sum's order is fixed."""
    import numpy as np

    if isinstance(choice, int):
        return np.ascontiguousarray(block[:, choice])
    chosen = range(block.shape[1]) if choice == "mean" else choice
    if len(chosen) == 1:
        return np.ascontiguousarray(block[:, chosen[0]])
    mono = block[:, chosen[0]].copy()
    for other in chosen[1:]:
        mono += block[:, other]
    mono /= np.float32(len(chosen))
    return mono
