"""Decoding of audio files: `probe` reads the properties, `load` the samples, `load_record` the samples of a record.

A header is a claim, not a fact: nothing is allocated from it, and the decoded length is compared with it. The file is
read in blocks, so memory grows with the samples that are really there, up to `max_duration_s`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import attrs

from curate.audio.audio import (
    DEFAULT_HELD_BYTES,
    DEFAULT_MAX_DURATION_S,
    DEFAULT_RATE_HZ,
    Audio,
)
from curate.audio.files import Roots
from curate.audio.reader import FrameReader
from curate.audio.segment import require_rate, seconds, segment_of
from curate.audio.settings import DEFAULT_AUDIO_SETTINGS, AudioSettings

if TYPE_CHECKING:
    from curate.audio.sndfile import Samples


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
    reader = FrameReader(path, roots)
    with closing(reader):
        frames = reader.end()
        decoder = reader.recording.decoder
        return AudioInfo(
            frames=frames,
            rate_hz=decoder.rate_hz,
            channels=decoder.channels,
            duration_s=frames / decoder.rate_hz,
            format=decoder.format,
            subtype=decoder.subtype,
        )


def load(
    path: str | os.PathLike[str],
    *,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    rate_hz: int = DEFAULT_RATE_HZ,
    channel: int | None = None,
    roots: Roots = None,
    settings: AudioSettings = DEFAULT_AUDIO_SETTINGS,
    max_duration_s: float = DEFAULT_MAX_DURATION_S,
) -> Samples:
    """Read a file, or a segment of it, as float32 mono of shape `(samples,)` at `rate_hz`.

    Integers are scaled to ±1; floats stay as they are. Channels are averaged, unless `channel` or the settings pick
    one. The rate is changed by soxr at quality HQ; `frames * rate_hz / file_rate` samples come out, rounded half up.
    The same call gives the same bits in any thread.

    A segment covers the file's frames from `round(offset_s * rate)` to `round((offset_s + duration_s) * rate)`, so that
    neighbouring segments neither overlap nor leave a gap. It is resampled on its own, and judged on its own: it may be
    good although the file is torn further on. In MP3, AAC, Vorbis and Opus everything before the segment is decoded as
    well: for several segments of a recording, use a `RecordingCache`.

    Args:
        path: checked as in `curate.audio.files.open_file`.
        offset_s: the start of the segment.
        duration_s: the length of the segment; None means up to the end.
        rate_hz: the rate of the result, 1 to 768,000.
        channel: the channel to read, counted from 0; None is what `settings` say.
        roots: folders that the resolved path must lie under; None allows any place.
        settings: the pipeline's `audio:` settings.
        max_duration_s: the longest result; one hour by default.

    Raises:
        RecordError: `bad_path`, `outside_root`, `missing_file`, `unreadable_file`, `not_a_regular_file`, `empty_file`,
            `not_audio`, `decode_error`, `truncated`, `zero_samples`, `non_finite`, `unsupported_scale`,
            `unsupported_rate`, `unsupported_channels`, `too_long`, `bad_segment`, `bad_value`.
        InfrastructureError: the disk or the audio root is at fault.
        ValueError: `rate_hz` or `max_duration_s` is out of range.
    """
    if not max_duration_s > 0:
        raise ValueError(f"max_duration_s must be positive (math.inf for no bound), not {max_duration_s!r}")
    offset_s = seconds(offset_s, "offset")
    end_s = None if duration_s is None else offset_s + seconds(duration_s, "duration")
    return _load(path, offset_s, end_s, rate_hz, channel, roots, settings, {}, max_duration_s)


def load_record(
    record: Mapping[str, Any],
    *,
    filepath_key: str = "audio_filepath",
    rate_hz: int = DEFAULT_RATE_HZ,
    roots: Roots = None,
    settings: AudioSettings = DEFAULT_AUDIO_SETTINGS,
    max_duration_s: float = DEFAULT_MAX_DURATION_S,
) -> Samples:
    """Read the audio of a record, as `load` does.

    With `offset` (seconds) the record is a segment, and `duration` is its length; without it, up to the end.
    Without `offset` the whole file is read, whatever `duration` says. A null `offset` or `duration` counts as absent.
    The record's `channel` or `channel_selector` is obeyed unless the settings say otherwise.

    Raises:
        RecordError: as `load`; and `missing_column` without a path, `bad_value` when a column has the wrong type.
        InfrastructureError, ValueError: as `load`.
    """
    path, offset_s, end_s = segment_of(record, filepath_key)
    return _load(path, offset_s, end_s, rate_hz, None, roots, settings, record, max_duration_s)


def _load(
    path: str | os.PathLike[str],
    offset_s: float,
    end_s: float | None,
    rate_hz: int,
    channel: int | None,
    roots: Roots,
    settings: AudioSettings,
    record: Mapping[str, Any],
    max_duration_s: float,
) -> Samples:
    require_rate(rate_hz)
    with closing(FrameReader(path, roots)) as reader:
        # Several channels are looked at before they are mixed: keep them, or they would be decoded twice.
        held_bytes = DEFAULT_HELD_BYTES if channel is None and reader.channels > 1 else 0
        audio = Audio(
            reader,
            offset_s,
            end_s,
            settings=settings,
            record=record,
            max_duration_s=max_duration_s,
            held_bytes=held_bytes,
        )
        return audio.take_samples(rate_hz, channel)
