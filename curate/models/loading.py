"""Loads the clips of planned batches ahead of the model."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from types import MappingProxyType

from curate.audio import DEFAULT_AUDIO_SETTINGS, DEFAULT_MAX_AUDIO_S, load_ahead
from curate.errors import RecordError
from curate.models.model import Clip
from curate.records import Record
from curate.stage import WorkerContext


class ClipLoader:
    """The audio of one window's records.

    Args:
        context: the worker's roots and settings.
        filepath_key: the column with the path.
        rate_hz: the sampling rate of the clips.
    """

    def __init__(self, context: WorkerContext, filepath_key: str, rate_hz: int) -> None:
        self._context = context
        self._filepath_key = filepath_key
        self._rate_hz = rate_hz

    def load(
        self, records: Iterable[Record], *, max_audio_s: float = DEFAULT_MAX_AUDIO_S, threads: int = 2
    ) -> Generator[tuple[Record, Clip | RecordError]]:
        """Yield every record with its clip, or with what is wrong with it, in order, loading ahead of the caller."""
        loads = load_ahead(
            records,
            max_audio_s=max_audio_s,
            threads=threads,
            rate_hz=self._rate_hz,
            roots=self._context.audio_roots,
            filepath_key=self._filepath_key,
            settings=self._context.audio or DEFAULT_AUDIO_SETTINGS,
        )
        try:
            for record, samples in loads:
                if isinstance(samples, RecordError):
                    yield record, samples
                else:
                    yield record, Clip(samples, self._rate_hz, MappingProxyType(record))
                del samples  # the generator is suspended while the caller computes, which may need the memory
        finally:
            loads.close()
