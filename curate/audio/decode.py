"""Decoding of audio files: `probe` reads the properties, `load` the samples, `load_record` the samples of a record.

A header is a claim, not a fact: nothing is allocated from it, and the decoded length is compared with it. The file is
read in blocks, so memory grows with the samples that are really there, up to `max_duration_s`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from curate.audio.files import Roots, printable
from curate.audio.recording import MAX_RATE_HZ, Recording, open_recording
from curate.audio.sndfile import Resampler, resampled_frames
from curate.errors import RecordError

if TYPE_CHECKING:
    from curate.audio.sndfile import Samples

DEFAULT_RATE_HZ = 16_000
"""The sampling rate that speech recognisers expect."""

DEFAULT_MAX_DURATION_S = 3600.0
"""An hour: 230 MB of float32 at 16 kHz. Longer recordings are read as segments."""

SEGMENT_TOLERANCE_S = 0.05
"""How far a segment may reach past the end of its file, as rounded durations do; it is then cut at the end."""

_ENDLESS_S = 1e12  # 30,000 years


@attrs.frozen
class AudioInfo:
    """The properties of an audio file, without its samples.

    Attributes:
        frames: samples per channel.
        rate_hz: the file's own sampling rate.
        channels: 1 to 64.
        duration_s: `frames / rate_hz`.
        format, subtype: libsndfile's names, such as `"FLAC"`, `"PCM_16"`.
    """

    frames: int
    rate_hz: int
    channels: int
    duration_s: float
    format: str
    subtype: str


def probe(path: str | os.PathLike[str], *, roots: Roots = None) -> AudioInfo:
    """Return the length, rate and format of a file, from the header where that can be trusted.

    The header's length counts when the file's last sample can be reached; a stream without a length, or an MP3 without
    a Xing frame, is decoded to count its frames. Samples are not checked: `load` may still find damage or NaN.

    Raises:
        RecordError: as `load`, save `non_finite`, `too_long` and `bad_segment`.
        InfrastructureError: the disk or the audio root is at fault.
    """
    with open_recording(path, roots) as audio:
        audio.require_whole()
        frames = audio.declared
        if frames is None or not audio.reaches(frames):
            frames = audio.count()
        rate_hz = audio.decoder.rate_hz
        return AudioInfo(
            frames=frames,
            rate_hz=rate_hz,
            channels=audio.decoder.channels,
            duration_s=frames / rate_hz,
            format=audio.decoder.format,
            subtype=audio.decoder.subtype,
        )


def load(
    path: str | os.PathLike[str],
    *,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    rate_hz: int = DEFAULT_RATE_HZ,
    channel: int | None = None,
    roots: Roots = None,
    max_duration_s: float = DEFAULT_MAX_DURATION_S,
) -> Samples:
    """Read a file, or a segment of it, as float32 mono of shape `(samples,)` at `rate_hz`.

    Integers are scaled to ±1; floats stay as they are. Channels are averaged, unless `channel` picks one. The rate is
    changed by soxr at quality HQ; `frames * rate_hz / file_rate` samples come out, rounded half up. The same call
    gives the same bits in any thread.

    A segment covers the file's frames from `round(offset_s * rate)` to `round((offset_s + duration_s) * rate)`, so that
    neighbouring segments neither overlap nor leave a gap. It is resampled and checked on its own: it may be good
    although the file is truncated further on. In MP3 and Ogg it may differ from the same cut of the whole file in the
    last bits.

    Args:
        path: checked as in `curate.audio.files.open_file`.
        offset_s: the start of the segment.
        duration_s: the length of the segment; None means up to the end.
        rate_hz: the rate of the result, 1 to 768,000.
        channel: the channel to read, counted from 0; None averages all.
        roots: folders that the resolved path must lie under; None allows any path.
        max_duration_s: the longest result; one hour by default.

    Raises:
        RecordError: `bad_path`, `outside_root`, `missing_file`, `unreadable_file`, `not_a_regular_file`, `empty_file`,
            `not_audio`, `decode_error`, `truncated`, `zero_samples`, `non_finite`, `unsupported_rate`,
            `unsupported_channels`, `too_long`, `bad_segment`, `bad_value`.
        InfrastructureError: the disk or the audio root is at fault.
        ValueError: `rate_hz` or `max_duration_s` is out of range.
    """
    _require_options(rate_hz, max_duration_s)
    offset_s = _seconds(offset_s, "offset")
    end_s = None if duration_s is None else offset_s + _seconds(duration_s, "duration")
    with open_recording(path, roots) as audio:
        return _read_mono(audio, offset_s, end_s, rate_hz, channel, max_duration_s)


def load_record(
    record: Mapping[str, Any],
    *,
    filepath_key: str = "audio_filepath",
    rate_hz: int = DEFAULT_RATE_HZ,
    roots: Roots = None,
    max_duration_s: float = DEFAULT_MAX_DURATION_S,
) -> Samples:
    """Read the audio of a record, as `load` does.

    With `offset` (seconds) the record is a segment of length `duration`, or up to the end of the file without it.
    Without `offset` the whole file is read and `duration` is ignored. A null `offset` or `duration` counts as absent.

    Raises:
        RecordError: as `load`; and `missing_column` without a path, `bad_value` when a column has the wrong type.
        InfrastructureError, ValueError: as `load`.
    """
    path = record.get(filepath_key)
    if path is None:
        raise RecordError("missing_column", f"the record has no {filepath_key!r}")
    if not isinstance(path, str):
        raise RecordError("bad_path", f"{filepath_key!r} must be a string, not {type(path).__name__}")
    offset_s: Any = record.get("offset")
    duration_s: Any = None if offset_s is None else record.get("duration")
    return load(
        path,
        offset_s=0.0 if offset_s is None else offset_s,
        duration_s=duration_s,
        rate_hz=rate_hz,
        roots=roots,
        max_duration_s=max_duration_s,
    )


def _read_mono(
    audio: Recording, offset_s: float, end_s: float | None, rate_hz: int, channel: int | None, max_duration_s: float
) -> Samples:
    file_rate_hz, declared, name = audio.decoder.rate_hz, audio.declared, audio.file.name
    if channel is not None and not 0 <= channel < audio.decoder.channels:
        raise RecordError(
            "unsupported_channels", f"{name} has {audio.decoder.channels} channels, so there is no channel {channel}"
        )
    start = _frame(offset_s, file_rate_hz)
    stop = None if end_s is None else _frame(end_s, file_rate_hz)
    if stop is None:
        audio.require_whole()
    if declared is not None:
        stop = _stop_within(audio, start, stop, declared)
    if stop == start:
        raise RecordError("zero_samples", f"the segment at {offset_s} s of {name} has no samples")

    longest = None if math.isinf(max_duration_s) else math.floor(max_duration_s * file_rate_hz)
    too_long = f"{name} is longer than {max_duration_s} s: cut it into segments, or raise the bound"
    # A wrong length in the header must not make a short file "too long"; a right one saves decoding an hour in vain.
    if longest is not None and stop is not None and stop - start > longest and audio.reaches(stop):
        raise RecordError("too_long", too_long)

    resampler = None if file_rate_hz == rate_hz else Resampler(file_rate_hz, rate_hz)
    parts: list[Samples] = []
    end = start
    for block in _cut(audio, start, stop):
        end += len(block)
        if longest is not None and end - start > longest:
            raise RecordError("too_long", too_long)
        mono = _mono(block, channel)
        _require_finite(mono, name, (end - len(block)) / file_rate_hz, file_rate_hz)
        parts.append(mono if resampler is None else resampler.push(mono))
    _require_end(audio, start, stop, end)
    if resampler is not None:
        parts.append(resampler.finish())
    return _joined(parts, resampled_frames(end - start, file_rate_hz, rate_hz), name)


def _stop_within(audio: Recording, start: int, stop: int | None, declared: int) -> int:
    """Return the frame to stop at in a file of `declared` frames; raise when the segment does not lie within them."""
    rate_hz, name = audio.decoder.rate_hz, audio.file.name
    length = f"{name} has {declared / rate_hz:.3f} s"
    if start >= declared:
        code = "truncated" if audio.declaration.missing_bytes else "bad_segment"
        raise RecordError(code, f"{length}, and the segment begins at {start / rate_hz:.3f} s")
    if stop is None:
        return declared
    if stop > declared + _frame(SEGMENT_TOLERANCE_S, rate_hz):
        raise RecordError("truncated", f"{length}, and the segment ends at {stop / rate_hz:.3f} s")
    return min(stop, declared)


def _cut(audio: Recording, start: int, stop: int | None) -> Iterator[Samples]:
    """Yield the file's frames from `start` up to `stop`, or up to the end."""
    position = audio.start_at(start)
    for block in audio.blocks(position, stop):
        wanted = block[max(0, start - position) :]
        position += len(block)
        if len(wanted):
            yield wanted


def _require_end(audio: Recording, start: int, stop: int | None, end: int) -> None:
    """Raise when decoding ended before the end that the header declares or the segment asks for."""
    rate_hz, name = audio.decoder.rate_hz, audio.file.name
    if end == start and start > 0 and (stop is None or audio.declared is None):
        audio.file.require_readable()
        raise RecordError("bad_segment", f"the segment begins at {start / rate_hz:.3f} s, past the end of {name}")
    if stop is None:
        audio.require_frames(end)
        return
    # Without a declared length, `stop` is the record's own rounded figure.
    slack = audio.slack if audio.declared is not None else _frame(SEGMENT_TOLERANCE_S, rate_hz)
    if end < stop - slack or end == start:
        audio.file.require_readable()
        raise RecordError("truncated", f"{name} ends at {end / rate_hz:.3f} s, before {stop / rate_hz:.3f} s")


def _mono(block: Samples, channel: int | None) -> Samples:
    """Return one channel of a block, or the average of all, summed channel by channel so that the order is fixed."""
    import numpy as np

    if channel is not None:
        return np.ascontiguousarray(block[:, channel])
    channels = block.shape[1]
    if channels == 1:
        return block[:, 0]
    mono = block[:, 0].copy()
    for other in range(1, channels):
        mono += block[:, other]
    mono /= np.float32(channels)
    return mono


def _require_finite(mono: Samples, name: str, begin_s: float, rate_hz: int) -> None:
    import numpy as np

    finite = np.isfinite(mono)
    if not finite.all():
        at_s = begin_s + int(np.argmin(finite)) / rate_hz
        raise RecordError("non_finite", f"{name} holds NaN or infinite samples, the first at {at_s:.3f} s")


def _joined(parts: list[Samples], length: int, name: str) -> Samples:
    import numpy as np

    if length == 0:
        raise RecordError("zero_samples", f"{name} is shorter than one sample of the result")
    samples = parts[0] if len(parts) == 1 else np.concatenate(parts)
    # libsoxr's own rounding may differ by a sample; `length` decides.
    samples = samples[:length] if len(samples) >= length else np.pad(samples, (0, length - len(samples)))
    if not np.isfinite(samples).all():  # samples near the largest float overflow in the filter
        raise RecordError("non_finite", f"{name} holds samples too large to resample")
    return samples


def _seconds(value: object, column: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecordError("bad_value", f"{column!r} must be a number of seconds, not {printable(value)}")
    if not 0 <= value < _ENDLESS_S:  # NaN fails too, and an integer of many digits can neither be a float nor printed
        given = printable(value) if isinstance(value, float) or abs(value) < _ENDLESS_S else "a huge number"
        raise RecordError("bad_segment", f"{column!r} must be a length in seconds, 0 or more, not {given}")
    return float(value)


def _frame(seconds: float, rate_hz: int) -> int:
    return math.floor(seconds * rate_hz + 0.5)


def _require_options(rate_hz: int, max_duration_s: float) -> None:
    if isinstance(rate_hz, bool) or not 1 <= rate_hz <= MAX_RATE_HZ:
        raise ValueError(f"rate_hz must be 1 to {MAX_RATE_HZ}, not {rate_hz!r}")
    if not max_duration_s > 0:
        raise ValueError(f"max_duration_s must be positive (math.inf for no bound), not {max_duration_s!r}")
