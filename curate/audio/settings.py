"""The settings of decoding: a pipeline's `audio:` block, the same for every stage and part of the fingerprint."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import attrs

ChannelSetting: TypeAlias = "Literal['mean', 'loudest', 'record'] | int"

_CHANNEL_NAMES = ("mean", "loudest", "record")
_DURATION_MISMATCHES = ("correct", "fail")
_MAX_CHANNEL = 63


def _check_channel(instance: object, attribute: object, value: object) -> None:
    if isinstance(value, str) and value in _CHANNEL_NAMES:
        return
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_CHANNEL:
        return
    raise ValueError(
        f"audio.channel={value!r} must be one of {', '.join(_CHANNEL_NAMES)}, or a channel counted from 0 "
        f"(0 to {_MAX_CHANNEL})"
    )


def _check_tolerance(instance: object, attribute: object, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"audio.end_tolerance_s={value!r} must be a number of seconds, 0 or more")


def _check_mismatch(instance: object, attribute: object, value: object) -> None:
    if value not in _DURATION_MISMATCHES:
        raise ValueError(f"audio.duration_mismatch={value!r} must be one of {', '.join(_DURATION_MISMATCHES)}")


@attrs.frozen
class AudioSettings:
    """How every stage of a pipeline receives a recording.

    Args:
        channel: the signal for a stage that asks for no particular channel. `"record"`: what the record names in its
            column `channel` (or NeMo's `channel_selector`), and the mean for a record that names none. `"mean"`: the
            mean of all channels, whatever the record says. `"loudest"`: the channel of the highest level. A number:
            this channel, counted from 0. A mean that loses more than 20 dB against its loudest channel, as
            the mean of a signal and its inverse does, is replaced by the loudest channel.
        end_tolerance_s: how far a segment may reach behind the end of its recording, as rounded durations do; it is
            then cut at the end. A segment that reaches further is `truncated`.
        duration_mismatch: what becomes of a record whose `duration` differs from the decoded length by more than
            0.1 s and 1 %: `"correct"` replaces it, `"fail"` quarantines the record.
    """

    channel: ChannelSetting = attrs.field(default="record", validator=_check_channel)
    end_tolerance_s: float = attrs.field(default=0.05, validator=_check_tolerance)
    duration_mismatch: Literal["correct", "fail"] = attrs.field(default="correct", validator=_check_mismatch)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, for the fingerprint and for messages."""
        return attrs.asdict(self)


DEFAULT_AUDIO_SETTINGS = AudioSettings()
