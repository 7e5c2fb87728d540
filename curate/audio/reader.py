"""The frames of one recording by position: opened, decoded and kept when they are asked for."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from curate.audio.files import Roots
from curate.audio.recording import BLOCK_FRAMES, Recording, open_recording
from curate.errors import RecordError

if TYPE_CHECKING:
    from curate.audio.sndfile import Samples

BYTES_PER_SAMPLE = 4


def _ignore_block(frames: int, rate_hz: int) -> None:
    """Where nothing counts what is decoded."""


class FrameReader:
    """One recording, whose frames are read from memory, from a spool file, or from a decoder.

    All three hold the same frames: those of a decoder that began at the start of the stream. May be used by several
    threads; each block is read under a lock, so that two readers at different places share one decoder.

    Args:
        path, roots: as `open_file`.
        whole_bytes: the most that the whole recording may take in memory; 0 holds nothing.
        on_decode: called whenever decoding begins at the start of a stream, or at a segment of it.
        on_block: called after every block decoded, with its frames and rate.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        roots: Roots = None,
        *,
        whole_bytes: int = 0,
        on_decode: Callable[[], None] = lambda: None,
        on_block: Callable[[int, int], None] = _ignore_block,
    ) -> None:
        self._path = path
        self._roots = roots
        self._whole_bytes = whole_bytes
        self._on_decode = on_decode
        self._on_block = on_block
        self._lock = threading.RLock()
        self._stack = ExitStack()
        self._recording: Recording | None = None
        self._whole: Samples | None = None
        self._failure: RecordError | None = None
        self._end: int | None = None
        self._next = -1

    @property
    def recording(self) -> Recording:
        """The open file; opens it."""
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
        """What the whole recording takes in memory now."""
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
                    self._end = sum(len(block) for block in self.blocks(0, None))
            return self._end

    def blocks(self, start: int, stop: int | None, tolerance_s: float = 0.0) -> Iterator[Samples]:
        """Yield the frames `[start, stop)` as blocks `(frames, channels)`; raise at the end when some are lacking.

        Nothing behind `stop` is asked for: damage there is not this segment's.
        """
        position = start
        while stop is None or position < stop:
            block = self._block(position, BLOCK_FRAMES if stop is None else min(BLOCK_FRAMES, stop - position))
            if not len(block):
                break
            position += len(block)
            yield block
        with self._lock:
            self.recording.require_end(start, stop, position, tolerance_s)
            if stop is None and start == 0:
                self._end = position

    def reaches(self, frames: int) -> bool:
        """Whether the recording really has so many frames, without decoding them where it can be sought."""
        with self._lock:
            self._next = -1
            return self.recording.reaches(frames)

    def hold(self, whole: Samples) -> bool:
        """Keep the decoded recording in memory, for every segment of it, if it fits."""
        if whole.nbytes > self._whole_bytes:
            return False
        with self._lock:
            self._whole = whole
            self._end = len(whole)
        return True

    def held(self, start: int, stop: int | None, tolerance_s: float) -> Samples | None:
        """Return a view of a segment of what is in memory; None when the recording is not."""
        with self._lock:
            whole = self._whole
            if whole is None:
                return None
            part = whole[start:stop]
            self.recording.require_end(start, stop, start + len(part), tolerance_s)
            return part

    def forget(self) -> None:
        """Drop what is in memory, and close the file. The next use opens and decodes again."""
        with self._lock:
            self._whole = None
            self.close()

    def close(self) -> None:
        with self._lock:
            self._recording = None
            self._stack.close()

    def _block(self, position: int, frames: int) -> Samples:
        with self._lock:
            if self._whole is not None:
                return self._whole[position : position + frames]
            if position != self._next:
                self._on_decode()
            block = self.recording.read(position, frames)
            self._next = position + len(block)
            self._on_block(len(block), self.rate_hz)
            return block


def frame_at(seconds: float, rate_hz: int) -> int:
    """Return the frame at a time, rounded half up.

    Times that were added and subtracted are off in their last bits, and times in milliseconds often fall between two
    frames (0.01 s at 22,050 Hz): what is within 1e-4 of the middle counts as the middle.
    """
    return math.floor(round(seconds * rate_hz, 4) + 0.5)
