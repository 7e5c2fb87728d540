"""Loads the clips of planned batches ahead of the model, and checks what the records claim about their length."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from types import MappingProxyType
from typing import Any, cast

from curate.audio import (
    DEFAULT_AUDIO_SETTINGS,
    DEFAULT_MAX_AUDIO_S,
    AudioLength,
    RecordingCache,
    TemporarySpool,
    load_ahead,
)
from curate.audio_stage import correct_duration
from curate.errors import RecordError
from curate.io.rows import is_finite_number
from curate.models.clip import Clip, Waveform
from curate.records import Record
from curate.stage import WorkerContext


class OwnRecordings:
    """The recordings of a stage that is used without an engine: a cache for each column of paths, with one spool."""

    def __init__(self) -> None:
        self._caches: dict[str, RecordingCache] = {}
        self._spool: TemporarySpool | None = None
        self._lock = threading.Lock()

    def of(self, context: WorkerContext, filepath_key: str) -> RecordingCache:
        """Return the recordings whose path is in a column: the worker's where there is one, else the stage's own."""
        if context.recordings is not None:
            return context.recordings(filepath_key)
        with self._lock:
            if self._spool is None:
                self._spool = TemporarySpool()
            cache = self._caches.get(filepath_key)
            if cache is None:
                cache = self._caches[filepath_key] = RecordingCache(
                    max(1, context.audio_memory_bytes),
                    settings=context.audio or DEFAULT_AUDIO_SETTINGS,
                    filepath_key=filepath_key,
                    roots=context.audio_roots,
                    spool=self._spool,
                )
            return cache

    def close(self) -> None:
        """Close the stage's own recordings."""
        for cache in self._caches.values():
            cache.close()
        self._caches.clear()
        if self._spool is not None:
            self._spool.close()
            self._spool = None


class ClipLoader:
    """The audio of one window's records.

    Args:
        context: the worker's settings, and what counts wrong claims.
        recordings: the decoded recordings.
        rate_hz: the sampling rate of the clips.
        filepath_key: the column with the path, for messages.
        excerpts: `AudioModel.excerpts` of a model that defines it; None: recordings are loaded whole.
    """

    def __init__(
        self,
        context: WorkerContext,
        recordings: RecordingCache,
        rate_hz: int,
        filepath_key: str,
        excerpts: Callable[[float], Sequence[tuple[float, float]] | None] | None = None,
    ) -> None:
        self._context = context
        self._recordings = recordings
        self._rate_hz = rate_hz
        self._filepath_key = filepath_key
        self._excerpts = excerpts

    def load(
        self, records: Iterable[Record], *, max_audio_s: float = DEFAULT_MAX_AUDIO_S, threads: int = 2
    ) -> Generator[tuple[Record, Clip | RecordError]]:
        """Yield every record with its clip, or with what is wrong with it, in order, loading ahead of the caller.

        The `duration` of a record without `offset` is then its decoded length.
        """

        with closing(self._ahead(records, self._take, max_audio_s, threads)) as decoded:
            for record, found in decoded:
                if isinstance(found, RecordError):
                    yield record, found
                else:
                    yield record, Clip(found.samples, self._rate_hz, MappingProxyType(record))
                del found  # the generator is suspended while the caller computes, which may need the memory

    def _take(self, record: Record) -> _Decoded:
        """Return the samples of a record, or those of the model's excerpts of it."""
        claimed: Any = record.get("duration")
        if self._excerpts is not None and (not is_finite_number(claimed) or self._excerpts(float(claimed)) is not None):
            length = self._recordings.length(record)
            if (excerpts := self._excerpts(length.duration_s)) is not None:
                return _Decoded(self._joined(record, excerpts), length)
        return _Decoded(*self._recordings.take(record, self._rate_hz))

    def _joined(self, record: Record, excerpts: Sequence[tuple[float, float]]) -> Waveform:
        import numpy as np

        start_s = float(record.get("offset") or 0.0)
        parts = ({**record, "offset": start_s + start, "duration": end - start} for start, end in excerpts)
        return np.concatenate([self._recordings.take(part, self._rate_hz)[0] for part in parts])

    def measure(self, records: Iterable[Record]) -> Generator[tuple[Record, RecordError | None]]:
        """Yield every record with its true `duration`, or with what is wrong with it, in order.

        A recording is decoded only where its header cannot be trusted.
        """

        def measure(record: Record) -> _Decoded:
            return _Decoded((), self._recordings.length(record))

        with closing(self._ahead(records, measure, DEFAULT_MAX_AUDIO_S, 2)) as measured:
            for record, found in measured:
                yield record, found if isinstance(found, RecordError) else None

    def _ahead(
        self, records: Iterable[Record], decode: Callable[[Record], _Decoded], max_audio_s: float, threads: int
    ) -> Generator[tuple[Record, _Decoded | RecordError]]:
        loads = load_ahead(
            records,
            max_audio_s=max_audio_s,
            threads=threads,
            load=cast("Any", decode),
            rate_hz=self._rate_hz,
            filepath_key=self._filepath_key,
        )
        with closing(cast("Generator[tuple[Record, _Decoded | RecordError]]", loads)) as decoded:
            for record, found in decoded:
                if isinstance(found, RecordError):
                    yield record, found
                else:
                    yield record, self._correct(record, found.length) or found
                del found  # as above

    def _correct(self, record: Record, length: AudioLength) -> RecordError | None:
        """Write the true length to a record; return the error if the settings make a wrong claim one."""
        try:
            if self._context.correct_duration is not None:
                self._context.correct_duration(record, length)
            else:
                correct_duration(record, length, self._context.audio or DEFAULT_AUDIO_SETTINGS)
        except RecordError as error:
            return error
        return None


class _Decoded:
    """Samples, and the length of the audio that they were made from."""

    __slots__ = ("length", "samples")

    def __init__(self, samples: Waveform | tuple[()], length: AudioLength) -> None:
        self.samples: Any = samples
        self.length = length

    def __len__(self) -> int:
        return len(self.samples)
