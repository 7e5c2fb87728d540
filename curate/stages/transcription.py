"""What an ASR worker does with a window of records: plan, load ahead, recognise, split what does not fit.

    records ──plan──► micro-batches ──load_ahead──► waveforms ──model thread──► transcripts

The model has a thread of its own, and always the next micro-batch in its queue: while it works, this thread hands on
what is done and collects what has been loaded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from curate.asr import Recogniser, Transcript
from curate.audio import load_ahead
from curate.batching import BatchController, Batcher, Dropped, Unfit, run_splitting
from curate.errors import InfrastructureError, RecordError
from curate.records import AudioBatch, Record

if TYPE_CHECKING:
    from curate.asr.recogniser import Waveform

    Loaded: TypeAlias = tuple[Record, Waveform]

_QUEUED = 2
"""Micro-batches with the model thread: the one it works on, and the next."""


@dataclass(slots=True)
class Recognised:
    """Records that went through the model together, with what it heard."""

    records: list[Record]
    transcripts: list[Transcript]


@dataclass(slots=True)
class Refused:
    """A record that could not be loaded, or does not fit into memory by itself."""

    record: Record
    error: RecordError


@dataclass(slots=True)
class LeftOut:
    """A record that the batching options leave out, with the reason."""

    record: Record
    reason: str


Outcome: TypeAlias = "Recognised | Refused | LeftOut"


class Transcriber:
    """A recogniser on a thread of its own, with what plans its batches and what learns from them.

    Args:
        recogniser: not yet set up.
        batcher: plans micro-batches by the records' `duration`.
        controller: holds them against what has fitted into memory so far.
        is_oom: says whether an error of the recogniser means that memory ran out.
        ahead_s: seconds of audio that are loaded ahead.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        batcher: Batcher,
        controller: BatchController,
        *,
        is_oom: Callable[[BaseException], bool],
        ahead_s: float,
    ) -> None:
        self.recogniser = recogniser
        self._batcher = batcher
        self.controller = controller
        self._is_oom = is_oom
        self._ahead_s = ahead_s
        self._model = ThreadPoolExecutor(max_workers=1, thread_name_prefix="curate-model")

    def setup(self) -> None:
        """Load the model, in its own thread."""
        self._model.submit(self.recogniser.setup).result()

    def close(self) -> None:
        """Let go of the model and its thread."""
        self._model.submit(self.recogniser.close).result()
        self._model.shutdown()

    def run(self, batch: AudioBatch, *, filepath_key: str, roots: Sequence[str] | None) -> Generator[Outcome]:
        """Yield what became of a window's records, each exactly once, as it is known."""
        records = batch.data
        dropped: list[Dropped] = []
        plan = list(self._batcher.plan([record.get("duration") for record in records], on_drop=dropped.append))
        for drop in dropped:
            yield LeftOut(records[drop.index], drop.reason)
        ahead = load_ahead(
            (records[index] for indices in plan for index in indices),
            max_audio_s=self._ahead_s,
            rate_hz=self.recogniser.rate_hz,
            roots=roots,
            filepath_key=filepath_key,
        )
        with closing(ahead):
            yield from self._through_model(batch, (len(indices) for indices in plan), ahead)

    def _through_model(
        self, batch: AudioBatch, sizes: Iterator[int], ahead: Iterator[tuple[Record, Waveform | RecordError]]
    ) -> Iterator[Outcome]:
        queued: deque[_Queued] = deque()
        try:
            for size in sizes:
                loaded: list[Loaded] = []
                for _ in range(size):
                    record, samples = next(ahead)
                    if isinstance(samples, RecordError):
                        yield Refused(record, samples)
                    else:
                        loaded.append((record, samples))
                for piece in self._pieces(loaded):
                    queued.append(_Queued(piece, self._model.submit(self._recognise, piece)))
                    batch.announce([record for one in queued for record, _ in one.loaded])
                    while len(queued) > _QUEUED:
                        yield from self._finished(queued)
            while queued:
                yield from self._finished(queued)
        finally:
            for one in queued:  # after an error the model thread must be idle before anybody tries again
                if not one.future.cancel():
                    one.future.exception()

    def _finished(self, queued: deque[_Queued]) -> Iterator[Outcome]:
        outcomes = queued[0].future.result()
        queued.popleft()
        yield from outcomes

    def _pieces(self, loaded: list[Loaded]) -> Iterator[list[Loaded]]:
        """Hold a micro-batch, planned by what the manifest says, against the true lengths and the budget of now."""
        if not loaded:
            return
        if len(loaded) <= self.controller.most(max(map(self._seconds, loaded))):
            yield loaded
            return
        rest = sorted(loaded, key=lambda item: -len(item[1]))
        while rest:
            most = self.controller.most(self._seconds(rest[0]))
            yield rest[:most]
            rest = rest[most:]

    def _seconds(self, item: Loaded) -> float:
        return len(item[1]) / self.recogniser.rate_hz

    def _recognise(self, loaded: list[Loaded]) -> list[Outcome]:
        """Run one micro-batch through the model, in parts if it does not fit. Model thread."""
        outcomes: list[Outcome] = []
        parts = run_splitting(
            loaded, self._transcribe, is_oom=self._is_oom, on_oom=self._make_room, length_s=self._seconds
        )
        for part in parts:
            if isinstance(part, Unfit):
                outcomes.append(Refused(part.item[0], RecordError("oom", part.message)))
            else:
                outcomes.append(Recognised([record for record, _ in part.items], part.result))
        return outcomes

    def _transcribe(self, loaded: list[Loaded]) -> list[Transcript]:
        transcripts = self.recogniser.transcribe([samples for _, samples in loaded])
        if len(transcripts) != len(loaded):
            raise InfrastructureError(
                f"the recogniser {type(self.recogniser).__name__} returned {len(transcripts)} transcripts for "
                f"{len(loaded)} waveforms"
            )
        self.controller.clean(len(loaded), max(map(self._seconds, loaded)))
        return transcripts

    def _make_room(self, loaded: list[Loaded], _: str) -> None:
        self.controller.oom(len(loaded), max(map(self._seconds, loaded)))
        free = getattr(self.recogniser, "free_memory", None)
        if free is not None:
            free()


@dataclass(slots=True)
class _Queued:
    loaded: list[Loaded]
    future: Future[list[Outcome]] = field(repr=False)
