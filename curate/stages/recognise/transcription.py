"""What an ASR worker does with a window of records: plan, load ahead, recognise, split what does not fit.

    records ──plan──► micro-batches ──load_ahead──► waveforms ──model thread──► transcripts

The model has a thread of its own, and always the next micro-batch in its queue: while it works, this thread spells out
and hands on what is done, and collects what has been loaded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
from loguru import logger

from curate.asr import (
    HasGpu,
    MemoryPeak,
    Recogniser,
    SupportsAsyncDecoding,
    SupportsCudaGraphs,
    SupportsMemoryStats,
    SupportsStaging,
    Transcript,
)
from curate.audio import ASSUMED_DURATION_S, DEFAULT_MAX_AUDIO_S, load_ahead
from curate.batching import Unfit, run_splitting
from curate.errors import InfrastructureError, RecordError
from curate.gpu_errors import is_oom
from curate.monitoring import GpuMeter, PerformanceMonitor
from curate.records import Record, audio_ms
from curate.stages.recognise.micro_batches import MicroBatches

if TYPE_CHECKING:
    from curate.asr.recogniser import Waveform

    Loaded: TypeAlias = tuple[Record, Waveform]
    Loads: TypeAlias = Generator[tuple[Record, Waveform | RecordError]]

PAUSES_S = (1.0, 5.0, 20.0)
"""Waits before a lone record is tried again that does not fit because other processes hold the GPU's memory."""

_QUEUED = 2
"""Micro-batches with the model thread: the one it works on, and the next."""


@dataclass(slots=True)
class Transcribed:
    """Records that went through the model together, with what it heard."""

    records: list[Record]
    transcripts: list[Transcript]


@dataclass(slots=True)
class TranscriptionFailed:
    """A record that could not be loaded, or does not fit into memory by itself."""

    record: Record
    error: RecordError


@dataclass(slots=True)
class OutOfRange:
    """A record that the batching options leave out, with the reason."""

    record: Record
    reason: str


Outcome: TypeAlias = "Transcribed | TranscriptionFailed | OutOfRange"


@dataclass(slots=True)
class _PendingText:
    """Records that went through the model together, and what spells out what it found."""

    records: list[Record]
    spell: Callable[[], list[Transcript]]


@dataclass(slots=True)
class _ModelCall:
    """One call of the model that went through: how many records, their audio, and what it took."""

    items: int
    audio_s: float
    longest_s: float
    model_s: float
    noted: dict[str, Any]


@dataclass(slots=True)
class _MicroBatchResult:
    """What became of a micro-batch, and what was measured on the way, which counts when the records are handed on."""

    outcomes: list[_PendingText | TranscriptionFailed]
    measured: list[_ModelCall]
    noted: dict[str, Any]


class Transcriber:
    """A recogniser on a thread of its own, with what plans its batches and learns from them.

    Args:
        recogniser: not yet set up.
        batches: plans micro-batches by the records' `duration`.
        is_oom: says whether an error of the recogniser means that memory ran out.
        prefetch: micro-batches that are loaded ahead; 0: each is loaded when the model is done with the one before.
        out_of_range: says why a record of so many seconds is left out, where its `duration` did not tell; empty: not.
        pause: waits for some seconds, while other processes hold memory of this worker.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        batches: MicroBatches,
        *,
        is_oom: Callable[[BaseException], bool],
        prefetch: int,
        out_of_range: Callable[[float], str],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.recogniser = recogniser
        self.batches = batches
        self._is_oom = is_oom
        self._prefetch = prefetch
        self._out_of_range = out_of_range
        self._pause = pause
        self.monitor = PerformanceMonitor()
        self._meter: GpuMeter | None = None
        self._idle_since = 0.0  # when the model was done with its last batch
        self._measured: list[_ModelCall] = []  # of the micro-batch in the model's thread
        self._ooms = 0  # of the same
        self._model = ThreadPoolExecutor(max_workers=1, thread_name_prefix="curate-model")
        self._stager = ThreadPoolExecutor(max_workers=1, thread_name_prefix="curate-stager")

    def setup(self) -> None:
        """Load the model, in its own thread, and see how much memory its batches need."""
        try:
            self._model.submit(self.recogniser.setup).result()
            self._model.submit(self.batches.calibrate, self.recogniser).result()
            self._meter = GpuMeter.open(self.recogniser.gpu_uuid()) if isinstance(self.recogniser, HasGpu) else None
        except BaseException:
            self._model.shutdown()
            self._stager.shutdown()
            raise

    def close(self) -> None:
        """Let go of the model and its thread."""
        try:
            self._model.submit(self.recogniser.close).result()
        finally:
            self._model.shutdown()
            self._stager.shutdown()
            if self._meter is not None:
                self._meter.close()

    def runtime_info(self) -> dict[str, Any]:
        """Return the device, number format and decoding that the recogniser reports; empty if it reports none."""
        runtime_info: Any = getattr(self.recogniser, "runtime_info", dict)
        return dict(runtime_info())

    def run(
        self,
        records: list[Record],
        *,
        filepath_key: str,
        roots: Sequence[str] | None,
        announce: Callable[[Sequence[Record]], None],
    ) -> Generator[Outcome]:
        """Yield the outcomes of a window's records, each exactly once, as they are known.

        Closing the generator waits for the batch that the model works on, and leaves nothing in its queue.
        """
        self.monitor.start_monitoring()
        planned, left_out = self._planned(records)
        if (
            planned
            and isinstance(self.recogniser, SupportsCudaGraphs)
            and self._model.submit(self._prepare, self.recogniser, planned).result()
        ):
            planned, left_out = self._planned(records)  # with the memory that is left
        yield from left_out
        touched = _Announced(announce)
        load = partial(load_ahead, rate_hz=self.recogniser.rate_hz, roots=roots, filepath_key=filepath_key)
        with closing(self._loads(planned, touched, load)) as loads:
            yield from self._through_model(planned, loads, touched)

    def _planned(self, records: list[Record]) -> tuple[list[list[Record]], list[OutOfRange]]:
        plan, dropped = self.batches.plan([record.get("duration") for record in records])
        left_out = [OutOfRange(records[index], reason) for index, reason in dropped]
        return [[records[index] for index in indices] for indices in plan], left_out

    def _loads(self, planned: list[list[Record]], touched: _Announced, load: Callable[..., Loads]) -> Loads:
        """Yield the waveforms of micro-batches, one after the other."""

        def records() -> Iterator[Record]:
            for micro_batch in planned:
                touched.add(micro_batch)
                yield from micro_batch

        if self._prefetch:
            # a duration that is out of all reason must not open the way for the whole window
            longest_s = max((sum(map(_expected_s, micro_batch)) for micro_batch in planned), default=0.0)
            yield from load(records(), max_audio_s=self._prefetch * max(longest_s, ASSUMED_DURATION_S))
        else:
            for micro_batch in planned:
                touched.add(micro_batch)
                yield from load(micro_batch, threads=1)

    def _through_model(self, planned: list[list[Record]], loads: Loads, touched: _Announced) -> Iterator[Outcome]:
        queued: deque[_QueuedBatch] = deque()
        most = _QUEUED if self._prefetch else 0
        try:
            for micro_batch in planned:
                loaded: list[Loaded] = []
                waited_s = 0.0
                for _ in micro_batch:
                    asked = time.monotonic()
                    record, samples = next(loads)
                    waited_s += self._idle_s(queued, asked)
                    outcome = self._without_model(record, samples)
                    if outcome is not None:
                        touched.remove([record])
                        yield outcome
                    elif not isinstance(samples, RecordError):
                        loaded.append((record, samples))
                    del samples  # this generator may wait for long, and the model may need the memory
                pieces = self._pieces(loaded)
                del loaded
                while pieces:
                    piece = pieces.popleft()
                    staged = self._staged(piece)
                    queued.append(_QueuedBatch(piece, self._model.submit(self._recognise, piece, staged), waited_s))
                    waited_s = 0.0
                    del piece
                    while queued and (len(queued) > most or queued[0].future.done()):
                        yield from self._finished(queued, touched)
            while queued:
                yield from self._finished(queued, touched)
        finally:
            for one in queued:  # after an error the model thread must be idle before anybody tries again
                if not one.future.cancel():
                    one.future.exception()

    def _idle_s(self, queued: deque[_QueuedBatch], since: float) -> float:
        """Return for how long the model has had nothing to do since then: time that went into loading alone."""
        if queued and not queued[-1].future.done():
            return 0.0
        return max(0.0, time.monotonic() - max(since, self._idle_since))

    def _without_model(self, record: Record, samples: Waveform | RecordError) -> Outcome | None:
        """Return what becomes of a record that needs no model, None if it does."""
        if isinstance(samples, RecordError):
            return TranscriptionFailed(record, samples)
        if not audio_ms(record):
            reason = self._out_of_range(len(samples) / self.recogniser.rate_hz)
            return OutOfRange(record, reason) if reason else None
        return None

    def _finished(self, queued: deque[_QueuedBatch], touched: _Announced) -> Iterator[Outcome]:
        one = queued[0]
        try:
            heard = one.future.result()
            outcomes = [self._spelt(found) if isinstance(found, _PendingText) else found for found in heard.outcomes]
        except Exception:
            touched.blame([record for record, _ in one.loaded])
            raise
        queued.popleft()
        touched.remove([record for record, _ in one.loaded])
        self._record(heard, one.waited_s)
        del one
        yield from outcomes

    def _spelt(self, found: _PendingText) -> Transcribed:
        transcripts = found.spell()
        if len(transcripts) != len(found.records):
            raise InfrastructureError(
                f"the recogniser {type(self.recogniser).__name__} returned {len(transcripts)} transcripts for "
                f"{len(found.records)} waveforms"
            )
        return Transcribed(found.records, transcripts)

    def _record(self, heard: _MicroBatchResult, waited_s: float) -> None:
        """Take note of what a micro-batch took, now that its records go on and will not be worked on again."""
        if heard.noted:
            self.monitor.note(heard.noted)
        for batch in heard.measured:
            self.monitor.record_batch(
                batch.items,
                batch.audio_s,
                batch.model_s,
                padded_duration=batch.items * batch.longest_s,
                load_wait=waited_s,
            )
            if batch.noted:
                self.monitor.note(batch.noted)
            waited_s = 0.0

    def _pieces(self, loaded: list[Loaded]) -> deque[list[Loaded]]:
        """Hold a micro-batch, planned by what the manifest says, against the true lengths and the budget of now."""
        if not loaded:
            return deque()
        if len(loaded) <= self.batches.most(max(map(self._seconds, loaded))):
            return deque([loaded])
        pieces: deque[list[Loaded]] = deque()
        rest = sorted(loaded, key=lambda item: -len(item[1]))
        while rest:
            most = self.batches.most(self._seconds(rest[0]))
            pieces.append(rest[:most])
            rest = rest[most:]
        return pieces

    def _seconds(self, item: Loaded) -> float:
        return len(item[1]) / self.recogniser.rate_hz

    def _staged(self, loaded: list[Loaded]) -> Future[Sequence[Waveform]] | None:
        """Have a micro-batch prepared while the model works on the one before; None: the recogniser does not do that.

        What goes wrong is raised in the model thread, where the record that causes it is found.
        """
        recogniser = self.recogniser
        if not isinstance(recogniser, SupportsStaging):
            return None
        return self._stager.submit(recogniser.stage, [samples for _, samples in loaded])

    def _recognise(self, loaded: list[Loaded], staged: Future[Sequence[Waveform]] | None = None) -> _MicroBatchResult:
        """Run one micro-batch through the model, in parts if it does not fit. Model thread."""
        outcomes: list[_PendingText | TranscriptionFailed] = []
        self._measured, self._ooms = [], 0
        waiting = [staged]  # for the batch as a whole, once

        def transcribe(part: list[Loaded]) -> Callable[[], list[Transcript]]:
            return self._transcribe(part, waiting.pop() if waiting else None)

        parts = run_splitting(loaded, transcribe, is_oom=self._is_oom, on_oom=self._make_room, length_s=self._seconds)
        for part in parts:
            if isinstance(part, Unfit):
                outcomes.append(self._try_again(part))
            else:
                outcomes.append(_PendingText([record for record, _ in part.items], part.result))
        self._idle_since = time.monotonic()
        changes = [attrs.asdict(change) for change in self.batches.controller.take_changes()]
        noted = ({"ooms": self._ooms} if self._ooms else {}) | ({"history": changes} if changes else {})
        return _MicroBatchResult(outcomes, self._measured, noted)

    def _transcribe(
        self, loaded: list[Loaded], staged: Future[Sequence[Waveform]] | None = None
    ) -> Callable[[], list[Transcript]]:
        recogniser = self.recogniser
        waveforms = [samples for _, samples in loaded] if staged is None else staged.result()
        started = time.monotonic()
        if isinstance(recogniser, SupportsAsyncDecoding):
            spell = recogniser.begin(waveforms)
        else:
            transcripts = recogniser.transcribe(waveforms)
            spell = lambda: transcripts  # noqa: E731
        model_s = time.monotonic() - started
        peak = recogniser.peak() if isinstance(recogniser, SupportsMemoryStats) else None
        lengths_s = list(map(self._seconds, loaded))
        longest_s = max(lengths_s)
        self.batches.done(len(loaded), longest_s, peak)
        self._measured.append(_ModelCall(len(loaded), sum(lengths_s), longest_s, model_s, self._noted(peak)))
        return spell

    def _noted(self, peak: MemoryPeak | None) -> dict[str, Any]:
        """Return what is to be told of the device, as far as it can be."""
        noted: dict[str, Any] = {}
        utilisation = self._meter.utilisation() if self._meter is not None else None
        if utilisation is not None:
            noted["gpu"] = {"readings": 1, "utilisation": utilisation}
        if peak is not None:
            allocated, reserved = peak.allocated_bytes, peak.reserved_bytes
            memory = {"max_allocated_bytes": allocated, "max_reserved_bytes": reserved}
            memory["max_peak_bytes"] = None if allocated is None else allocated + peak.own_bytes
            noted["memory"] = {name: size for name, size in memory.items() if size is not None}
        return noted

    def _try_again(self, unfit: Unfit[Loaded]) -> _PendingText | TranscriptionFailed:
        """Try a record that does not fit by itself again, for as long as other processes hold this worker's memory.

        Fractions of a GPU are enforced where every process keeps to its own; a neighbour that does not, or whose cache
        has grown for a moment, must not cost a good record.
        """
        message = unfit.message
        for pause_s in PAUSES_S:
            if not self.batches.is_crowded(self.recogniser):
                break
            logger.warning("other processes hold GPU memory of this worker; trying again in {:g} s", pause_s)
            self._pause(pause_s)
            [part] = run_splitting([unfit.item], self._transcribe, is_oom=self._is_oom, on_oom=self._make_room)
            if not isinstance(part, Unfit):
                return _PendingText([record for record, _ in part.items], part.result)
            message = part.message
        return TranscriptionFailed(unfit.item[0], RecordError("oom", message))

    def _make_room(self, loaded: list[Loaded], _: str) -> None:
        self._ooms += 1
        self.batches.ran_out(len(loaded), max(map(self._seconds, loaded)))
        if isinstance(self.recogniser, SupportsMemoryStats):
            self.recogniser.free_memory()

    def _prepare(self, recogniser: SupportsCudaGraphs, planned: list[list[Record]]) -> bool:
        """Let the recogniser capture its graphs once, for the largest batch of all. Model thread.

        Returns:
            Whether that took memory, so that there is less for batches.
        """
        items = max(map(len, planned))
        longest_s = max(_expected_s(record) for micro_batch in planned for record in micro_batch)

        def prepare(_: list[None]) -> bool:
            return recogniser.prepare(items, longest_s)

        try:
            [part] = run_splitting([None], prepare, is_oom=is_oom)
        except Exception as error:
            raise InfrastructureError(
                f"no room can be made for {items} records of {longest_s:g} s ({type(error).__name__}: {error}); "
                "without CUDA graphs there is no need to"
            ) from error
        if isinstance(part, Unfit):  # batches will capture as they come
            if isinstance(recogniser, SupportsMemoryStats):
                recogniser.free_memory()
            return False
        if part.result:
            self.batches.update_budget(recogniser)
        return part.result


@dataclass(slots=True)
class _QueuedBatch:
    loaded: list[Loaded]
    future: Future[_MicroBatchResult] = field(repr=False)
    waited_s: float
    """How long the model had nothing to do while this was loaded."""


class _Announced:
    """The records that are being loaded, wait for the model or are with it: whom a crash is blamed on.

    A micro-batch is announced as a whole before its first record is opened, so decoders have suspects too.
    """

    def __init__(self, announce: Callable[[Sequence[Record]], None]) -> None:
        self._announce = announce
        self._records: dict[int, Record] = {}

    def add(self, records: Sequence[Record]) -> None:
        self._records.update((id(record), record) for record in records)
        self._announce(list(self._records.values()))

    def remove(self, records: Sequence[Record]) -> None:
        for record in records:
            self._records.pop(id(record), None)

    def blame(self, records: Sequence[Record]) -> None:
        """Say that an exception can be the fault of these only."""
        self._announce(records)


def _expected_s(record: Record) -> float:
    """Return the length that a record is loaded as, bounded: its column may say anything."""
    duration: Any = audio_ms(record) / 1000
    return min(duration, DEFAULT_MAX_AUDIO_S) or ASSUMED_DURATION_S
