"""The frames of one recording by position: opened, decoded and kept when they are asked for."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from curate.audio.buffer import Block, BlockBuffer
from curate.audio.files import Roots
from curate.audio.recording import Recording, block_frames, open_recording
from curate.audio.spool import Spool, SpooledFrames, SpoolFormat
from curate.errors import RecordError

if TYPE_CHECKING:
    from curate.audio.sndfile import Integers, Samples

BYTES_PER_SAMPLE = 4
"""Of the float32 samples that decoders give."""

_SMALL_S = 120.0
"""What each process decodes for itself although it has a spool: two minutes take less than finding a file."""

_MOST_COMPRESSION = 24
"""Bytes of float32 samples to a byte of a compressed file whose length is not known: 64 kbit/s of mono at 48 kHz."""

_RAW_SUBTYPES = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"})
_INT16_SUBTYPES = frozenset({"PCM_16", "ALAC_16"})


def _ignore_block(frames: int, rate_hz: int) -> None:
    """Where nothing counts what is decoded."""


def _ignore() -> None:
    """Where nothing counts how often decoding begins, or waits for a sign of progress."""


class FrameReader:
    """One recording, whose frames are read from memory, from a spool file, or from a decoder.

    All three hold the same frames: those of a decoder that began at the start of the stream. May be used by several
    threads; each block is read under a lock, so that two readers at different places share one decoder.

    A format in which a segment can be found (PCM, FLAC, ALAC) is decoded where it is asked for. Another one is decoded
    once, as soon as a segment of it is asked for: into memory when it is short or there is no spool, else into the
    spool. What fits in neither is decoded again from its beginning for each segment that is not behind the last one.

    Args:
        path, roots: as `open_file`.
        whole_bytes: the maximum size of the whole recording in memory; 0 holds nothing.
        spool: where long recordings are decoded to; None when they are not.
        on_decode: called whenever decoding begins at the start of a stream, or at a segment of it.
        on_block: called after every block decoded, with its frames and rate.
        on_wait: called while another process makes progress with decoding this recording.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        roots: Roots = None,
        *,
        whole_bytes: int = 0,
        spool: Spool | None = None,
        on_decode: Callable[[], None] = _ignore,
        on_block: Callable[[int, int], None] = _ignore_block,
        on_wait: Callable[[], None] = _ignore,
    ) -> None:
        self._path = path
        self._roots = roots
        self._whole_bytes = whole_bytes
        self._spool = spool
        self._on_decode = on_decode
        self._on_block = on_block
        self._on_wait = on_wait
        self._lock = threading.RLock()
        self._stack = ExitStack()
        self._recording: Recording | None = None
        self._whole: Samples | None = None
        self._spooled: SpooledFrames | None = None
        self._failure: RecordError | None = None
        self._end: int | None = None
        self._next = -1
        self._is_prepared = False

    @property
    def recording(self) -> Recording:
        """The open file; opens it."""
        recording = self._recording  # without the lock, because it is asked for several times for every block
        if recording is not None:
            return recording
        with self._lock:
            if self._recording is None:
                self._recording = self._stack.enter_context(open_recording(self._path, self._roots))
                self._next = -1
            return self._recording

    @property
    def name(self) -> str:
        return self.recording.file.name

    @property
    def rate_hz(self) -> int:
        return self.recording.decoder.rate_hz

    @property
    def channels(self) -> int:
        return self.recording.decoder.channels

    @property
    def held_bytes(self) -> int:
        """The size of the whole recording in memory; 0 when it is not there."""
        whole = self._whole
        return 0 if whole is None else whole.nbytes

    def locate(self, offset_s: float, end_s: float | None, tolerance_s: float) -> tuple[int, int | None]:
        """Return a segment's first frame and the one behind its last; None for the end of a stream of unknown length.

        Raises:
            RecordError: `bad_segment`, `truncated`, when the header shows that the segment does not lie in the file.
        """
        with self._lock:
            recording = self.recording
            start = frame_at(offset_s, self.rate_hz)
            stop = None if end_s is None else frame_at(end_s, self.rate_hz)
            if stop is None:
                recording.require_whole()
            if recording.declared is not None:
                stop = recording.stop_within(start, stop, recording.declared, tolerance_s)
            if stop == start:
                raise RecordError("zero_samples", f"the segment at {offset_s} s of {self.name} has no samples")
            return start, stop

    def end(self) -> int:
        """Return how many frames the recording has: by its header where that can be trusted, else by decoding it."""
        with self._lock:
            if self._end is None:
                recording = self.recording
                recording.require_whole()
                declared = recording.declared
                if declared is not None and recording.reaches(declared):
                    self._end = declared
                else:
                    self._end = self._counted()
            return self._end

    def _counted(self) -> int:
        """How many frames decoding gives; they are kept when they fit, since they are likely to be asked for."""
        kept: BlockBuffer[Samples] | None = BlockBuffer(None)
        frames = 0
        for block in self.blocks(0, None):
            frames += len(block)
            kept = kept if kept is not None and self._fits(frames) else None
            if kept is not None:
                kept.append(block)
        whole = None if kept is None or self._whole is not None or self._spooled is not None else kept.joined()
        if whole is not None:
            self.hold(whole)
        return frames

    def blocks(self, start: int, stop: int | None, tolerance_s: float = 0.0) -> Iterator[Samples]:
        """Yield the frames `[start, stop)` as blocks `(frames, channels)`; raise at the end when some are lacking.

        Nothing behind `stop` is asked for: damage there is not this segment's.
        """
        self.prepare(start, stop)
        position, most = start, block_frames(self.channels)
        while stop is None or position < stop:
            block = self._block(position, most if stop is None else min(most, stop - position))
            if not len(block):
                break
            position += len(block)
            yield block
        with self._lock:
            self.recording.require_end(start, stop, position, tolerance_s)
            if stop is None and start == 0:
                self._end = position

    def integers(self, start: int, stop: int, tolerance_s: float) -> Integers | None:
        """Return the frames `[start, stop)` of a recording of 16-bit integers as they are; raise when some are lacking.

        None: it holds others, or is decoded elsewhere already.
        """
        with self._lock:
            recording = self.recording
            if self._whole is not None or self._spooled is not None or not recording.holds_integers:
                return None
            joined: BlockBuffer[Integers] = BlockBuffer(stop - start)
            position, most = start, block_frames(self.channels)
            while position < stop:
                block = self._decoded(position, min(most, stop - position), recording.read_integers)
                if not len(block):
                    break
                joined.append(block)
                position += len(block)
            recording.require_end(start, stop, position, tolerance_s)
            return joined.joined()

    def reaches(self, frames: int) -> bool:
        """Whether the recording really has this number of frames, without decoding them where it can be sought."""
        with self._lock:
            self._next = -1
            return self.recording.reaches(frames)

    def hold(self, whole: Samples) -> bool:
        """Keep the decoded recording in memory, for every segment of it, if it fits."""
        if whole.nbytes > self._whole_bytes:
            return False
        whole.flags.writeable = False
        with self._lock:
            self._whole = whole
            self._end = len(whole)
        return True

    def held(self, start: int, stop: int | None, tolerance_s: float) -> Samples | None:
        """Return a view of a segment of what is in memory; None when the recording is not."""
        with self._lock:
            self.prepare(start, stop)
            whole = self._whole
            if whole is None:
                return None
            part = whole[start:stop]
            self._require_good(start + len(part), stop)
            self.recording.require_end(start, stop, start + len(part), tolerance_s)
            return part

    def forget(self, *, blocking: bool = True) -> bool:
        """Drop what is in memory, and close the files; the next use opens and decodes again.

        Args:
            blocking: wait for a thread that decodes; otherwise return False when there is one.
        """
        if not self._lock.acquire(blocking=blocking):
            return False
        try:
            self._whole = None
            self._failure = None
            self._is_prepared = False
            self.close()
        finally:
            self._lock.release()
        return True

    def close(self) -> None:
        """Close the files; what is in memory stays."""
        with self._lock:
            self._recording = None
            self._stack.close()
            if self._spooled is not None:
                self._spooled.close()
                self._spooled = None
                self._is_prepared = False

    # ------------------------------------------------------------------ where the frames come from

    def _block(self, position: int, frames: int) -> Samples:
        with self._lock:
            stored = self._whole
            if stored is not None:
                block = stored[position : position + frames]
            elif self._spooled is not None:
                block = self._spooled.read(position, frames)
            else:
                return self._decoded(position, frames, self.recording.read)
            self._require_good(position + len(block), position + frames)
            return block

    def _require_good(self, end: int, wanted: int | None) -> None:
        """Raise what decoding was ended by, for a segment that reaches behind it."""
        failure = self._failure if self._spooled is None else self._spooled.failure
        if failure is not None and (wanted is None or end < wanted):
            raise RecordError(failure.code, failure.message)

    def _decoded(self, position: int, frames: int, read: Callable[[int, int], Block]) -> Block:
        if position != self._next:
            self._on_decode()
        block = read(position, frames)
        self._next = position + len(block)
        self._on_block(len(block), self.rate_hz)
        return block

    def prepare(self, start: int, stop: int | None) -> None:
        """Decode the recording into memory or the spool, when its segments cannot be read where they are."""
        with self._lock:
            if self._is_prepared or self._whole is not None or not (self._whole_bytes or self._spool):
                return
            recording = self.recording
            is_segment = start > 0 or stop not in (None, recording.declared)
            if recording.decoder.subtype in _RAW_SUBTYPES and recording.decoder.format != "FLAC":
                return
            if recording.seeks_exactly and is_segment:
                return
            frames = self._estimated_frames()
            if not is_segment and self._fits(frames):
                return  # its reader keeps it
            self._is_prepared = True
            is_small = self._spool is None or frames <= _SMALL_S * self.rate_hz
            if self._fits(frames) and is_small and self._decode_into_memory():
                return
            if self._spool is not None:
                self._spooled = self._spool.open(
                    recording.file.identity,
                    SpoolFormat(self.channels, recording.decoder.subtype in _INT16_SUBTYPES),
                    self._all_blocks,
                    self._on_wait,
                )

    def _decode_into_memory(self) -> bool:
        import numpy as np

        kept: BlockBuffer[Samples] = BlockBuffer(self.recording.declared)
        frames = 0
        try:
            for block in self._all_blocks():
                frames += len(block)
                if not self._fits(frames):
                    return False
                kept.append(block)
        except RecordError as error:
            self._failure = error
        joined = kept.joined()
        whole = np.zeros((0, self.channels), np.float32) if joined is None else joined
        whole.flags.writeable = False
        self._whole = whole
        return True

    def _all_blocks(self) -> Iterator[Samples]:
        """Every frame that can be decoded; whether that is all there should be is for the segments to find."""
        position, most = 0, block_frames(self.channels)
        while len(block := self._decoded(position, most, self.recording.read)):
            position += len(block)
            yield block

    def _estimated_frames(self) -> int:
        recording = self.recording
        known = recording.declared or recording.decoder.expected_frames
        if known is not None:
            return known
        return recording.file.size * _MOST_COMPRESSION // (BYTES_PER_SAMPLE * self.channels)

    def _fits(self, frames: int) -> bool:
        return frames * self.channels * BYTES_PER_SAMPLE <= self._whole_bytes


def frame_at(seconds: float, rate_hz: int) -> int:
    """Return the frame at a time, rounded half up.

    Times that were added and subtracted are off in their last bits, and times in milliseconds often fall between two
    frames (0.01 s at 22,050 Hz): what is within 1e-4 of the middle counts as the middle.
    """
    return math.floor(round(seconds * rate_hz, 4) + 0.5)
