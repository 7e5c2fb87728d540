"""Opens the audio of records for a worker's stages, and counts decodings and wrongly claimed lengths."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curate.audio import Audio, AudioLength, AudioSettings, RecordingCache, Spool, TemporarySpool
from curate.audio.spool_folder import check_spool_directory, node_name
from curate.audio_stage import DurationMismatch, correct_duration
from curate.errors import InfrastructureError, RecordError
from curate.records import ID, PLAIN_TYPES, Record
from curate.stage import WorkerContext

_EXAMPLES = 10
"""The number of mismatches that each message to the driver shows as examples."""


class AudioSource:
    """The recordings that one worker holds decoded, for its passes and for stages that load audio themselves.

    Args:
        context: the roots, the settings and the bound on memory.
        on_block: called after every block that is decoded, in any thread.
    """

    def __init__(self, context: WorkerContext, on_block: Callable[[], None]) -> None:
        self.settings = context.audio or AudioSettings()
        self.max_bytes = context.audio_memory_bytes
        self._roots = context.audio_roots
        self._on_block = on_block
        self._spool = _spool_of(context)
        self._caches: dict[str, RecordingCache] = {}
        self._making = threading.Lock()
        self._counting = threading.Lock()
        self._ahead = threading.local()
        """`decodes` of the record that this thread decodes ahead of its turn."""
        self._measures: dict[str, Any] = {}
        self._channels_counted: dict[str, int] = {}

    def open(self, record: Record, filepath_key: str) -> Audio:
        """Return the decoded audio of a record; `close` takes it back. Callable from several threads.

        Raises:
            RecordError: it cannot be decoded.
            InfrastructureError: the disk or an audio root is at fault.
        """
        audio = self.recordings(filepath_key).audio(dict(record))  # a stage may change the record later
        audio.decode()
        return audio

    def close(self, audio: Audio) -> None:
        """Take back audio that no stage needs any more; the recording stays in memory while there is room."""
        audio.forget()

    def open_and_count(self, record: Record, filepath_key: str) -> tuple[Audio, int]:
        """Return the audio of a record, and the number of decodings that began in this thread for it.

        They count when it is the record's turn: if the worker dies before, they are done again.
        """
        self._ahead.decodes = 0
        try:
            return self.open(record, filepath_key), self._ahead.decodes
        except BaseException:
            self.count("decodes", self._ahead.decodes)
            raise
        finally:
            self._ahead.decodes = None

    def release(self) -> None:
        """Close all recordings, and remove the spool if no other worker uses it."""
        for cache in self._caches.values():
            cache.close()
        self._caches.clear()
        self._spool.close()

    def correct_duration(self, record: Record, audio: Audio | AudioLength) -> None:
        """Write the decoded length to a record without `offset`, and note a mismatch with what it claimed.

        Raises:
            RecordError: `duration_mismatch`, if the settings ask for it.
        """
        mismatch = correct_duration(record, audio, self.settings)
        if mismatch is not None:
            self._note(record, mismatch)

    def count(self, name: str, amount: int) -> None:
        """Add to a measure."""
        if amount:
            with self._counting:
                self._measures[name] = self._measures.get(name, 0) + amount

    def take_measures(self) -> dict[str, Any]:
        """Return the counts since the last call."""
        for name in ("means_replaced", "unlike_channels"):
            counted = sum(getattr(cache, name) for cache in tuple(self._caches.values()))
            self.count(name, counted - self._channels_counted.get(name, 0))
            self._channels_counted[name] = counted
        with self._counting:
            taken, self._measures = self._measures, {}
        return taken

    def _note(self, record: Record, mismatch: DurationMismatch) -> None:
        self.count("duration_mismatches", 1)
        examples = self._measures.setdefault("mismatch_examples", [])
        if len(examples) < _EXAMPLES:
            example = {ID: record[ID], "claimed_s": mismatch.claimed_s, "decoded_s": mismatch.decoded_s}
            examples.append(example)

    def _count_decode(self) -> None:
        ahead: int | None = getattr(self._ahead, "decodes", None)
        if ahead is None:
            self.count("decodes", 1)
        else:
            self._ahead.decodes = ahead + 1

    def recordings(self, filepath_key: str) -> RecordingCache:
        """Return the recordings whose path is in a column."""
        with self._making:
            cache = self._caches.get(filepath_key)
            if cache is None:
                cache = self._caches[filepath_key] = RecordingCache(
                    max(1, self.max_bytes),
                    roots=self._roots,
                    settings=self.settings,
                    filepath_key=filepath_key,
                    spool=self._spool,
                    on_progress=self._on_block,
                    on_decode=self._count_decode,
                )
            return cache


def _spool_of(context: WorkerContext) -> Spool:
    """Return the spool of this node's workers.

    Raises:
        InfrastructureError: the folder that the user has chosen is missing on this node.
    """
    if context.spool_directory is None:
        return TemporarySpool(context.spool_bytes)
    directory = Path(context.spool_directory)
    if context.run_directory is None or not directory.is_relative_to(context.run_directory):
        check_spool_directory(directory.parent, InfrastructureError)
    return Spool(directory / node_name(), context.spool_bytes)


def decoded_bytes(audio: Audio) -> float:
    """Return about how much memory decoded audio takes: its own frames, and a channel at 16 kHz.

    Audio that is damaged, so that it has no length, counts nothing: its record fails when it is that record's turn.
    """
    try:
        return 4 * audio.duration_s * (audio.rate_hz * audio.channels + 16_000)
    except RecordError:
        return 0.0


class AudioSegment:
    """What determines the audio of a record: the file, the segment, and a channel of its own."""

    def __init__(self, record: Record, filepath_key: str) -> None:
        offset = record.get("offset")
        length = None if offset is None else record.get("duration")
        channel, selector = record.get("channel"), record.get("channel_selector")
        self._values = (filepath_key, record.get(filepath_key), offset, length, channel, selector)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AudioSegment):
            return NotImplemented
        return all(
            mine is theirs or (type(mine) in PLAIN_TYPES and type(mine) is type(theirs) and mine == theirs)
            for mine, theirs in zip(self._values, other._values, strict=True)
        )

    __hash__ = None  # pyright: ignore[reportAssignmentType] (its values may be unhashable)
