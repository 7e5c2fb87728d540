"""Decodes the audio of the next records in threads, while the stages process the current one.

Two bounds hold: in bytes, and in records, because every record whose bytes are touched is a suspect when the worker
dies, and the scheduler isolates at most `MAX_ANNOUNCED` of them (see `record_step`). Fewer still are begun, so that the
cache of open recordings never drops one that is needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import attrs

from curate.audio import Audio
from curate.engine.worker.audio_source import AudioSegment, AudioSource, decoded_bytes
from curate.records import Record, audio_ms

THREADS = 2

MAX_BEGUN = 24
"""The maximum number of records that are decoded at the same time or wait for their turn, with the current one."""

_ASSUMED_S = 15.0
"""The assumed length of a record without a `duration`: a typical utterance, on the long side."""

_ASSUMED_BYTES_PER_S = 4 * (48_000 + 16_000)
"""What a second of decoded audio takes until one was seen: its own samples at 48 kHz, and those at 16 kHz."""

Opened: TypeAlias = "tuple[Audio, int]"
"""The audio of a record, and the number of decodings that it took."""


@attrs.define
class PendingAudio:
    """A record whose audio is being decoded, or is decoded."""

    key: AudioSegment
    expected_bytes: float
    future: Future[Opened]

    def held_bytes(self) -> float:
        """Return its size in memory, in bytes; an estimate until it is decoded."""
        if not self.future.done() or self.future.cancelled() or self.future.exception() is not None:
            return self.expected_bytes if not self.future.done() else 0.0
        return decoded_bytes(self.future.result()[0])

    def close(self, source: AudioSource) -> None:
        """Release the audio, waiting for a decoding that has begun."""
        if not self.future.cancel() and self.future.exception() is None:  # an error belongs to a record not at work now
            source.close(self.future.result()[0])


class DecodingQueue:
    """The records of one batch that are decoded ahead, in order.

    Args:
        source: opens audio.
        threads: where decoding runs; None: nothing is decoded ahead.
        records: the batch's, in order.
        filepath_key: the column of the path for the stage that listens first.
        listens: whether that stage will ask for a record's audio.
        announce: `announce(start, end)` reports the positions of the records whose bytes are touched from now on.
    """

    def __init__(
        self,
        source: AudioSource,
        threads: ThreadPoolExecutor | None,
        records: Sequence[Record],
        *,
        filepath_key: str,
        listens: Callable[[Record], bool],
        announce: Callable[[int, int], None],
    ) -> None:
        self._source = source
        self._threads = threads
        self._records = records
        self._filepath_key = filepath_key
        self._listens = listens
        self._announce = announce
        self._max_bytes = source.max_bytes / 2
        self._bytes_per_s = float(_ASSUMED_BYTES_PER_S)
        self._begun = 0
        """The position behind the last record that was begun."""
        self._ahead: deque[tuple[int, PendingAudio]] = deque()

    def begin(self, position: int) -> PendingAudio | None:
        """Return the record at a position, if it was decoded ahead, and decode further ahead of it."""
        self._begun = max(self._begun, position)
        self._fill(position)
        self._begun = max(self._begun, position + 1)
        found: PendingAudio | None = None
        while self._ahead and self._ahead[0][0] <= position:
            at, decoded = self._ahead.popleft()
            if at == position:
                found = decoded
            else:
                decoded.close(self._source)
        return found

    @property
    def end(self) -> int:
        """The position behind the last record whose bytes may have been touched."""
        return self._begun

    def learn(self, audio: Audio) -> None:
        """Take the size of decoded audio into account for the next estimates."""
        if held := decoded_bytes(audio):
            self._bytes_per_s = held / audio.duration_s

    def close(self) -> None:
        """Release what was decoded ahead, and wait for what is being decoded."""
        while self._ahead:
            self._ahead.popleft()[1].close(self._source)

    def _fill(self, position: int) -> None:
        """Begin the records from a position on, in order, as far as the bounds allow."""
        if self._threads is None:
            return
        held = sum(decoded.held_bytes() for _, decoded in self._ahead)
        last = min(len(self._records), position + MAX_BEGUN)
        while self._begun < last:
            record = self._records[self._begun]
            expected = self._expected_bytes(record)
            if held + expected > self._max_bytes:
                return
            at, self._begun = self._begun, self._begun + 1
            if not self._takes_audio(record):
                continue
            held += expected
            self._announce(position, self._begun)
            key = AudioSegment(record, self._filepath_key)
            future = self._threads.submit(self._source.open_and_count, dict(record), self._filepath_key)
            self._ahead.append((at, PendingAudio(key, expected, future)))

    def _takes_audio(self, record: Record) -> bool:
        try:
            return self._listens(record)
        except Exception:  # noqa: BLE001 (it raises again when it is the record's turn, and is the record's failure then)
            return False

    def _expected_bytes(self, record: Record) -> float:
        return (audio_ms(record) / 1000 or _ASSUMED_S) * self._bytes_per_s
