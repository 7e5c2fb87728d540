"""The audio of a record: a read-only view of a recording or of a segment of it, decoded when it is first used."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import attrs

from curate.audio.buffer import BlockBuffer
from curate.audio.channels import (
    ChannelLevels,
    MixedChannels,
    channel_of,
    measure_levels,
    require_channel,
)
from curate.audio.files import AudioFile, Roots
from curate.audio.reader import BYTES_PER_SAMPLE, FrameReader
from curate.audio.recording import block_frames
from curate.audio.resampling import cut_to, require_finite, resample_blocks
from curate.audio.segment import ENDLESS_S, require_rate, seconds, segment_of
from curate.audio.settings import DEFAULT_AUDIO_SETTINGS, AudioSettings
from curate.audio.sndfile import resampled_frames
from curate.errors import RecordError

if TYPE_CHECKING:
    from curate.audio.sndfile import Integers, Samples

DEFAULT_RATE_HZ = 16_000
"""The sampling rate that speech recognisers expect."""

DEFAULT_MAX_DURATION_S = 3600.0
"""An hour: 230 MB of float32 at 16 kHz. Longer recordings are read as segments, or block by block."""

DEFAULT_HELD_BYTES = 256 * 2**20
"""The maximum size of one recording in memory, as it was decoded: 23 minutes at 48 kHz in mono."""

_MISMATCH_S, _MISMATCH_RATIO = 0.1, 0.01


def _ignore_mean() -> None:
    """Where nothing counts the means that were replaced, or that mix unlike channels."""


def _ignore_cut(part: Audio) -> None:
    """Where nothing accounts for what the segments of a segment hold."""


@attrs.frozen
class AudioLength:
    """The length of a record's audio.

    Attributes:
        duration_s: as decoded, in seconds.
        claimed_duration_s: see `Audio.claimed_duration_s`.
    """

    duration_s: float
    claimed_duration_s: float | None = None

    @classmethod
    def of(cls, audio: Audio) -> AudioLength:
        """Return the length of audio; it is decoded if its header cannot be trusted."""
        return cls(audio.duration_s, audio.claimed_duration_s)


class Audio:
    """A recording or a segment of it, decoded when it is first used and remembered until it is closed.

    A segment's samples are the recording's native frames from `round(offset * rate)` to `round(end * rate)`, as a
    decoder gives them that began at the start of the stream; they are mixed to one channel, and resampled on their
    own. So they are the same bits in every run, worker and stage, whatever else of the recording is read.

    An `Audio` is made by the engine for each record, or by `Audio.of(record)`. It may be used by several threads.
    Whatever is wrong with the recording is raised as a `RecordError` by the first method that meets it.
    """

    def __init__(
        self,
        reader: FrameReader,
        offset_s: float = 0.0,
        end_s: float | None = None,
        *,
        settings: AudioSettings = DEFAULT_AUDIO_SETTINGS,
        record: Mapping[str, Any] | None = None,
        max_duration_s: float = DEFAULT_MAX_DURATION_S,
        held_bytes: int = DEFAULT_HELD_BYTES,
        on_mean_replaced: Callable[[], None] = _ignore_mean,
        on_unlike_channels: Callable[[], None] = _ignore_mean,
        on_cut: Callable[[Audio], None] = _ignore_cut,
    ) -> None:
        self._reader = reader
        self._offset_s = offset_s
        self._end_s = end_s
        self._settings = settings
        self._record: Mapping[str, Any] = {} if record is None else record
        self._max_duration_s = max_duration_s
        self._held_bytes = held_bytes
        self._on_mean_replaced = on_mean_replaced
        self._on_unlike_channels = on_unlike_channels
        self._on_cut = on_cut
        self._lock = threading.RLock()
        self._place: tuple[int, int | None] | None = None
        self._span: tuple[int, int] | None = None
        self._native: Samples | None = None
        self._levels: ChannelLevels | None = None
        self._mixes: dict[tuple[int, MixedChannels], Samples] = {}
        self._mean_replaced = False
        self._mixes_unlike = False
        self._owns_reader = False

    @classmethod
    def of(
        cls,
        record: Mapping[str, Any],
        *,
        filepath_key: str = "audio_filepath",
        roots: Roots = None,
        settings: AudioSettings = DEFAULT_AUDIO_SETTINGS,
    ) -> Audio:
        """Return the audio of a record: the whole file, or with `offset` the segment of `duration` seconds.

        Raises:
            RecordError: `missing_column`, `bad_path`, `bad_value`, `bad_segment`. The file is opened at the first use.
        """
        path, offset_s, end_s = segment_of(record, filepath_key)
        reader = FrameReader(path, roots, whole_bytes=DEFAULT_HELD_BYTES)
        audio = cls(reader, offset_s, end_s, settings=settings, record=record)
        audio._owns_reader = True
        return audio

    @property
    def file(self) -> AudioFile:
        """The open file of the recording, as it is decoded from."""
        return self._reader.recording.file

    @property
    def rate_hz(self) -> int:
        """The recording's own sampling rate."""
        return self._reader.rate_hz

    @property
    def channels(self) -> int:
        """How many channels the recording has, 1 to 64."""
        return self._reader.channels

    @property
    def named_channels(self) -> tuple[int, ...]:
        """The channels that the record names by number; all of them for a record that names none."""
        choice = channel_of(self._record, "record", self.channels, self._reader.name)
        if isinstance(choice, int):
            return (require_channel(choice, self.channels, self._reader.name),)
        return choice if isinstance(choice, tuple) else tuple(range(self.channels))

    @property
    def duration_s(self) -> float:
        """The length of the segment, as it is in the file and not as a record claims it."""
        start, stop = self._frames()
        return (stop - start) / self.rate_hz

    @property
    def claimed_duration_s(self) -> float | None:
        """The `duration` of a record without `offset` that differs from the true length by more than 0.1 s and 1 %."""
        claimed: object = self._record.get("duration")
        if self._end_s is not None or self._record.get("offset") is not None:
            return None
        if isinstance(claimed, bool) or not isinstance(claimed, int | float) or not 0 <= claimed < ENDLESS_S:
            return None
        true_s = self.duration_s
        return float(claimed) if abs(claimed - true_s) > max(_MISMATCH_S, _MISMATCH_RATIO * true_s) else None

    @property
    def mean_replaced(self) -> bool:
        """Whether the loudest channel was used, because the channels cancel each other in their mean."""
        return self._mean_replaced

    @property
    def held_bytes(self) -> int:
        """What this audio remembers, without what it shares with others of the same recording."""
        native = self._native  # without the lock, which is held as long as another thread decodes
        own = 0 if native is None or native.base is not None else native.nbytes
        return own + sum(samples.nbytes for samples in list(self._mixes.values()))

    def samples(self, rate_hz: int = DEFAULT_RATE_HZ, channel: int | None = None) -> Samples:
        """Return the segment as float32 mono `(samples,)` at a rate: read-only, made once per rate and channel.

        Args:
            rate_hz: the rate of the result, 1 to 768,000.
            channel: one channel, counted from 0; None is what the settings and the record say.

        Raises:
            RecordError: what is wrong with the recording or the segment; `too_long` above one hour: use `blocks`.
            ValueError: `rate_hz` is out of range.
        """
        require_rate(rate_hz)
        with self._lock:
            choice = self._choice(channel)
            samples = self._mixes.get((rate_hz, choice))
            if samples is None:
                samples = self._joined(rate_hz, choice)
                samples.flags.writeable = False
                self._mixes[(rate_hz, choice)] = samples
            return samples

    def take_samples(self, rate_hz: int = DEFAULT_RATE_HZ, channel: int | None = None) -> Samples:
        """Return the same samples as `samples`, in an array of the caller's own that is not remembered."""
        require_rate(rate_hz)
        with self._lock:
            samples = self._joined(rate_hz, self._choice(channel))
            return samples.copy() if self._native is not None and self.channels == 1 else samples

    def native(self) -> Samples:
        """Return the segment as the decoder gives it, float32 `(frames, channels)` at the file's own rate; read-only.

        What resampling and mixing change is measured here: clipping, bandwidth, the balance of the channels.

        Raises:
            RecordError: as `samples`.
        """
        with self._lock:
            self._require_length()
            for _ in self._bounded(self._finite_blocks(sys.maxsize)):
                pass
            native = self._native
            assert native is not None, "kept, whatever its size"
            if native.nbytes > self._held_bytes:
                self._native = None
            return native

    def integers(self) -> Integers | None:
        """Return the segment `(frames, channels)` as the 16-bit integers that its recording holds; not remembered.

        None where the recording holds other samples, has no length of its own, or is in memory as floats.

        Raises:
            RecordError: as `samples`.
        """
        with self._lock:
            self._require_length()
            if self.channels == 1:
                self._choice(None)  # as `samples`, it refuses a channel that the recording lacks
            start, stop = self._located()
            if stop is None or self._native is not None:
                return None
            found = self._reader.integers(start, stop, self._tolerance_s)
            if found is not None:
                self._span = (start, start + len(found))
            return found

    def native_blocks(self, seconds: float) -> Iterator[Samples]:
        """Yield `native()` in pieces of `seconds` each, the last one shorter, without holding the whole.

        Raises:
            RecordError: as `blocks`.
            ValueError: `seconds` is out of range.
        """
        size = round(seconds * self.rate_hz) if 0 < seconds < ENDLESS_S else 0
        if size < 1:
            raise ValueError(f"blocks of {seconds!r} s hold no frame at {self.rate_hz} Hz")
        return cut_to(self._finite_blocks(), size)

    def cut(self, start_s: float, end_s: float) -> Audio:
        """Return a segment of this one, in seconds from its start; it shares what is decoded.

        Raises:
            RecordError: `bad_value`, `bad_segment`: the times are not finite, or the end is before the start.
        """
        start_s, end_s = seconds(start_s, "start_s"), seconds(end_s, "end_s")
        if end_s < start_s:
            raise RecordError("bad_segment", f"the segment ends at {end_s} s, before its start at {start_s} s")
        offset_s = self._offset_s + start_s
        part = Audio(
            self._reader,
            offset_s,
            offset_s + (end_s - start_s),  # as a record's `offset` and `duration` are added
            settings=self._settings,
            record={name: self._record.get(name) for name in ("channel", "channel_selector")},
            max_duration_s=self._max_duration_s,
            held_bytes=self._held_bytes,
            on_mean_replaced=self._on_mean_replaced,
            on_unlike_channels=self._on_unlike_channels,
            on_cut=self._on_cut,
        )
        self._on_cut(part)
        with self._lock:
            if self._native is not None and self._span is not None:
                part._borrow(self._native, self._span)
        return part

    def channel_correlation(self, one: int, other: int) -> float:
        """Return the correlation of two channels of the segment, -1 to 1, measured without holding the whole.

        Two constant channels have the correlation 1; a constant channel and another one have 0.

        Raises:
            RecordError: what is wrong with the recording; `unsupported_channels` if it lacks such a channel.
        """
        with self._lock:
            for channel in (one, other):
                require_channel(channel, self.channels, self._reader.name)
            levels = self._measured()
            return 1.0 if levels is None else levels.correlation(one, other)

    def blocks(self, seconds: float, rate_hz: int = DEFAULT_RATE_HZ) -> Iterator[Samples]:
        """Yield `samples(rate_hz)` in pieces of `seconds` each, the last one shorter, without holding the whole.

        Joined, the pieces are `samples()` bit for bit.

        Raises:
            RecordError: what is wrong with the recording, at the place where it is met.
            ValueError: `rate_hz` or `seconds` is out of range.
        """
        require_rate(rate_hz)
        size = round(seconds * rate_hz) if 0 < seconds < ENDLESS_S else 0
        if size < 1:
            raise ValueError(f"blocks of {seconds!r} s hold no sample at {rate_hz} Hz")
        return self._cut_to(size, rate_hz)

    def decode(self) -> None:
        """Decode now what the first use would decode, so that a thread can do it ahead.

        What is too long to be kept is not decoded, or only into the spool where a segment cannot be decoded alone.
        """
        with self._lock:
            start, stop = self._located()
            if stop is not None and not self._can_keep(stop - start, self._held_bytes):
                if not self._reader.recording.seeks_exactly:
                    self._reader.prepare(start, stop if self._end_s is not None else None)
                return
            decoded = 0
            for block in self._native_blocks():
                decoded += len(block)
                if self._native is None and not self._can_keep(decoded, self._held_bytes):
                    return

    def forget(self, *, blocking: bool = True) -> bool:
        """Drop what is remembered; the next use decodes again.

        Args:
            blocking: wait for a thread that decodes; otherwise return False when there is one.
        """
        if not self._lock.acquire(blocking=blocking):
            return False
        try:
            self._native = None
            self._mixes.clear()
        finally:
            self._lock.release()
        return True

    def close(self) -> None:
        """Drop what is remembered; the file of a recording that is used by itself is closed."""
        self.forget()
        if self._owns_reader:
            self._reader.forget()

    def __enter__(self) -> Audio:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ where the segment lies

    def _located(self) -> tuple[int, int | None]:
        if self._span is not None:
            return self._span
        if self._place is None:
            self._place = self._reader.locate(self._offset_s, self._end_s, self._settings.end_tolerance_s)
        return self._place

    def _frames(self) -> tuple[int, int]:
        """The first frame of the segment and the one behind its last, once it is known that they are there."""
        with self._lock:
            if self._span is None:
                start, stop = self._located()
                if stop is None or self._reader.recording.declared is None:
                    end = self._reader.end()
                    self._reader.recording.require_end(
                        start, stop, max(start, end if stop is None else min(stop, end)), self._tolerance_s
                    )
                    stop = end if stop is None else min(stop, end)
                elif self._end_s is None:
                    stop = min(stop, self._reader.end())
                self._span = (start, stop)
            return self._span

    @property
    def _tolerance_s(self) -> float:
        return self._settings.end_tolerance_s

    def _require_length(self) -> None:
        """Raise when the segment is too long for one array, where that is known without decoding it."""
        longest = self._longest()
        start, stop = self._located()
        if longest is None or stop is None or stop - start <= longest:
            return
        # A forged length does not make a short file too long; a true one saves the decoding of an hour.
        if self._reader.reaches(stop):
            raise self._too_long()

    def _longest(self) -> int | None:
        return None if math.isinf(self._max_duration_s) else math.floor(self._max_duration_s * self.rate_hz)

    def _too_long(self) -> RecordError:
        return RecordError(
            "too_long",
            f"{self._reader.name} is longer than {self._max_duration_s} s: cut it into segments, read "
            "it in blocks, or raise the bound",
        )

    # ------------------------------------------------------------------ native frames

    def _native_blocks(self, keep_bytes: int | None = None) -> Iterator[Samples]:
        """The segment's frames in blocks of the same borders every time; kept when they fit."""
        keep_bytes = self._held_bytes if keep_bytes is None else keep_bytes
        start, stop = self._located()
        if self._native is None and self._held_bytes:
            self._native = self._reader.held(start, stop, self._tolerance_s)
        native = self._native
        if native is not None:
            self._span = (start, start + len(native))
            frames = block_frames(native.shape[1])
            for at in range(0, len(native), frames):
                yield native[at : at + frames]
            return
        is_kept = self._can_keep(0 if stop is None else stop - start, keep_bytes)
        kept: BlockBuffer[Samples] | None = BlockBuffer(None if stop is None else stop - start) if is_kept else None
        position = start
        for block in self._reader.blocks(start, stop, self._tolerance_s):
            position += len(block)
            if not self._can_keep(position - start, keep_bytes):
                kept = None
            if kept is not None:
                kept.append(block)
            yield block
        self._span = (start, position)
        native = None if kept is None else kept.joined()
        if native is not None:
            self._keep(start, native)

    def _finite_blocks(self, keep_bytes: int | None = None) -> Iterator[Samples]:
        """The segment's frames, of which the first that is not finite raises."""
        frames = 0
        for block in self._native_blocks(keep_bytes):
            require_finite(block, self._reader.name, self._located()[0] + frames, self.rate_hz)
            frames += len(block)
            yield block

    def _is_whole(self, stop: int) -> bool:
        """Whether a segment from the start of the recording is all of it."""
        return self._end_s is None or stop == self._reader.recording.declared

    def _can_keep(self, frames: int, keep_bytes: int) -> bool:
        """Whether this number of native frames may be remembered."""
        return 0 < keep_bytes >= frames * self.channels * BYTES_PER_SAMPLE

    def _keep(self, start: int, native: Samples) -> None:
        native.flags.writeable = False
        if start == 0 and self._is_whole(len(native)) and self._reader.hold(native):
            native = native[:]  # a view: the recording owns it
        self._native = native

    def _bounded(self, blocks: Iterator[Samples]) -> Iterator[Samples]:
        """The blocks, until they are longer than one array may be."""
        longest = self._longest()
        frames = 0
        for block in blocks:
            frames += len(block)
            if longest is not None and frames > longest:
                raise self._too_long()
            yield block

    def _borrow(self, native: Samples, span: tuple[int, int]) -> None:
        """Take the frames from what another segment of the recording has decoded, where it covers this one."""
        start, stop = self._located()
        if stop is not None and span[0] <= start and stop <= span[1]:
            self._span = (start, stop)
            self._native = native[start - span[0] : stop - span[0]]

    # ------------------------------------------------------------------ one channel at another rate

    def _choice(self, channel: int | None) -> MixedChannels:
        if channel is not None:
            return require_channel(channel, self.channels, self._reader.name)
        choice = channel_of(self._record, self._settings.channel, self.channels, self._reader.name)
        if isinstance(choice, int):
            require_channel(choice, self.channels, self._reader.name)
        if self.channels == 1 or choice not in ("mean", "loudest"):
            return choice if isinstance(choice, int | tuple) else 0
        levels = self._measured()
        if levels is None:
            return "mean"
        if choice == "mean" and not levels.mean_is_lost:
            if levels.are_unlike and not self._mixes_unlike:
                self._mixes_unlike = True
                self._on_unlike_channels()
            return "mean"
        if choice == "mean" and not self._mean_replaced:
            self._mean_replaced = True
            self._on_mean_replaced()
        return levels.loudest

    def _measured(self) -> ChannelLevels | None:
        if self._levels is None:
            self._levels = measure_levels(self._native_blocks())
        return self._levels

    def _joined(self, rate_hz: int, choice: MixedChannels) -> Samples:
        self._require_length()
        start, stop = self._located()
        expected = None if stop is None else resampled_frames(stop - start, self.rate_hz, rate_hz)
        pieces: BlockBuffer[Samples] = BlockBuffer(expected)
        for piece in self._resampled(self._bounded(self._native_blocks()), rate_hz, choice):
            pieces.append(piece)
        samples = pieces.joined()
        assert samples is not None, "the last piece always comes"
        return samples

    def _resampled(self, blocks: Iterator[Samples], rate_hz: int, choice: MixedChannels) -> Iterator[Samples]:
        start, _ = self._located()
        return resample_blocks(blocks, choice, self._reader.name, start, self.rate_hz, rate_hz)

    def _cut_to(self, size: int, rate_hz: int) -> Iterator[Samples]:
        yield from cut_to(self._resampled(self._native_blocks(), rate_hz, self._choice(None)), size)
