"""The recordings that a worker has decoded, each once for a record and its children, in bounded memory."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from curate.audio.audio import DEFAULT_HELD_BYTES, DEFAULT_RATE_HZ, Audio, AudioLength
from curate.audio.files import Roots
from curate.audio.reader import FrameReader
from curate.audio.segment import segment_of
from curate.audio.settings import DEFAULT_AUDIO_SETTINGS, AudioSettings
from curate.audio.spool import Spool

if TYPE_CHECKING:
    from curate.audio.sndfile import Samples

DEFAULT_CACHE_BYTES = 256 * 2**20
"""The default size of decoded audio in a worker's memory: 70 minutes of mono at 16 kHz."""

_MAX_OPEN_RECORDINGS = 32


def _ignore_progress() -> None:
    """Where nothing waits for a sign of progress."""


class _Recording:
    """A recording and the segments of it that are in use."""

    def __init__(self, reader: FrameReader) -> None:
        self.reader = reader
        self._audios: set[weakref.ref[Audio]] = set()
        self._lock = threading.Lock()

    def add(self, audio: Audio) -> None:
        with self._lock:
            self._audios.add(weakref.ref(audio, self._audios.discard))

    def held_bytes(self) -> int:
        whole = self.reader.held_bytes
        if not self._audios:  # as of most: every new record looks at all recordings that are open
            return whole
        return whole + sum(audio.held_bytes for audio in self._in_use())

    def forget(self, *, blocking: bool) -> bool:
        """Drop what is held; False when some of it is in use and was left."""
        dropped = [audio.forget(blocking=blocking) for audio in self._in_use()]
        return self.reader.forget(blocking=blocking) and all(dropped)

    def _in_use(self) -> list[Audio]:
        with self._lock:
            return [audio for reference in self._audios.copy() if (audio := reference()) is not None]


class RecordingCache:
    """Gives each record its `Audio`, so that a recording is opened and decoded once for all that need it.

    Recordings that were used least recently are dropped first when what is held exceeds `max_bytes`. An `Audio` of one
    of these decodes again when it is next asked for samples: correct, and slower. May be used by several threads.

    Args:
        max_bytes: the maximum size of decoded audio in memory. One recording may take half of it; of a longer one,
            only its segments are held.
        spool: where recordings go that are too long for memory, or whose segments cannot be read where they are (MP3,
            AAC, Vorbis, Opus). Without it they are decoded into memory if they fit, and else again and again.
        settings: the pipeline's `audio:` settings.
        filepath_key: the column that holds the path.
        roots: the folders that audio may lie under; None allows any place.
        on_progress: called after every block decoded, and while another process makes progress with a recording.
        on_decode: called whenever decoding begins, in the thread that decodes.

    Attributes:
        decodes: how often decoding was begun.
        decoded_s: seconds of audio decoded.
        means_replaced: audios in whose place the loudest channel was used, because their channels cancel each other.
        unlike_channels: audios whose mean mixes two active channels of low correlation.
    """

    def __init__(
        self,
        max_bytes: int = DEFAULT_CACHE_BYTES,
        *,
        settings: AudioSettings = DEFAULT_AUDIO_SETTINGS,
        filepath_key: str = "audio_filepath",
        roots: Roots = None,
        spool: Spool | None = None,
        on_progress: Callable[[], None] = _ignore_progress,
        on_decode: Callable[[], None] = _ignore_progress,
    ) -> None:
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes!r}")
        self._max_bytes = max_bytes
        self._settings = settings
        self._filepath_key = filepath_key
        self._roots = roots
        self._spool = spool
        self._on_progress = on_progress
        self._on_decode = on_decode
        self._lock = threading.Lock()
        self._counts = threading.Lock()  # taken while an Audio is locked, so it holds nothing else
        self._recordings: OrderedDict[object, _Recording] = OrderedDict()
        self.decodes = 0
        self.decoded_s = 0.0
        self.means_replaced = 0
        self.unlike_channels = 0

    def audio(self, record: Mapping[str, Any]) -> Audio:
        """Return the audio of a record; nothing is opened or decoded before its first use.

        Raises:
            RecordError: `missing_column`, `bad_path`, `bad_value`, `bad_segment`.
        """
        path, offset_s, end_s = segment_of(record, self._filepath_key)
        with self._lock:
            recording = self._recording(path)
            audio = Audio(
                recording.reader,
                offset_s,
                end_s,
                settings=self._settings,
                record=record,
                held_bytes=max(1, self._max_bytes // 2),
                on_mean_replaced=self._count_replaced,
                on_unlike_channels=self._count_unlike,
                on_cut=recording.add,
            )
            recording.add(audio)
            self._trim(recording)
            return audio

    def take_samples(self, record: Mapping[str, Any], rate_hz: int = DEFAULT_RATE_HZ) -> Samples:
        """Return the samples of a record, in an array of the caller's own.

        A segment's recording is decoded for all of its segments; a whole recording is decoded for this call alone, and
        nothing of it is held.

        Raises:
            RecordError, InfrastructureError, ValueError: as `Audio.samples` and `audio`.
        """
        return self.take(record, rate_hz)[0]

    def take(self, record: Mapping[str, Any], rate_hz: int = DEFAULT_RATE_HZ) -> tuple[Samples, AudioLength]:
        """Return the samples of a record as `take_samples` does, and their decoded length."""
        if record.get("offset") is not None:
            audio = self.audio(record)
            return audio.take_samples(rate_hz), AudioLength.of(audio)
        with self.alone(record) as audio:
            return audio.take_samples(rate_hz), AudioLength.of(audio)

    def length(self, record: Mapping[str, Any]) -> AudioLength:
        """Return the length of a record's audio: by the header where that can be trusted, else by decoding it.

        Raises:
            RecordError, InfrastructureError: as `Audio.duration_s` and `audio`.
        """
        if record.get("offset") is not None:
            return AudioLength.of(self.audio(record))
        with self.alone(record) as audio:
            return AudioLength.of(audio)

    @contextmanager
    def alone(self, record: Mapping[str, Any]) -> Generator[Audio]:
        """Open the recording of a record for one use, after which it is closed and nothing of it is held.

        Raises:
            RecordError: as `audio`.
        """
        path, offset_s, end_s = segment_of(record, self._filepath_key)
        reader = FrameReader(path, self._roots, on_decode=self._count_decode, on_block=self._count_block)
        with closing(reader):
            # Several channels are looked at before they are mixed: keep them, or they would be decoded twice.
            held_bytes = DEFAULT_HELD_BYTES if reader.channels > 1 else 0
            audio = Audio(
                reader,
                offset_s,
                end_s,
                settings=self._settings,
                record=record,
                held_bytes=held_bytes,
                on_mean_replaced=self._count_replaced,
                on_unlike_channels=self._count_unlike,
            )
            yield audio

    @property
    def held_bytes(self) -> int:
        """What is held in memory now."""
        with self._lock:
            return sum(recording.held_bytes() for recording in self._recordings.values())

    def close(self) -> None:
        """Drop everything and close all files."""
        with self._lock:
            while self._recordings:
                self._recordings.popitem()[1].forget(blocking=True)

    def __enter__(self) -> RecordingCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _recording(self, path: str) -> _Recording:
        key = _identity(path)
        recording = self._recordings.get(key)
        if recording is None:
            reader = FrameReader(
                path,
                self._roots,
                whole_bytes=self._max_bytes // 2,
                spool=self._spool,
                on_wait=self._on_progress,
                on_decode=self._count_decode,
                on_block=self._count_block,
            )
            recording = self._recordings[key] = _Recording(reader)
        self._recordings.move_to_end(key)
        return recording

    def _trim(self, kept: _Recording) -> None:
        """Drop the recordings that were used least recently until the rest fits; what a thread decodes now stays."""
        held = [recording.held_bytes() for recording in self._recordings.values()]
        total = sum(held)
        if total <= self._max_bytes and len(self._recordings) <= _MAX_OPEN_RECORDINGS:
            return
        for key, size in zip(list(self._recordings), held, strict=True):
            if total <= self._max_bytes and len(self._recordings) <= _MAX_OPEN_RECORDINGS:
                return
            recording = self._recordings[key]
            if recording is not kept and recording.forget(blocking=False):
                del self._recordings[key]
                total -= size

    def _count_decode(self) -> None:
        with self._counts:
            self.decodes += 1
        self._on_decode()

    def _count_block(self, frames: int, rate_hz: int) -> None:
        with self._counts:
            self.decoded_s += frames / rate_hz
        self._on_progress()

    def _count_replaced(self) -> None:
        with self._counts:
            self.means_replaced += 1

    def _count_unlike(self) -> None:
        with self._counts:
            self.unlike_channels += 1


def _identity(path: str) -> object:
    """Return a value that two paths share if they are the same recording in the same state."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a path that a Path would refuse is refused where it is opened
    except (OSError, ValueError):
        return path
    return path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
