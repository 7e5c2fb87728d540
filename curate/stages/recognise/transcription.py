"""The transcriber of an ASR worker: it plans micro-batches, loads audio ahead, runs the model, and splits on OOM.

    records ──plan──► micro-batches ──load_ahead──► waveforms ──model thread──► transcripts

The model has a thread of its own, with the next micro-batch always in its queue: while the model works, the stage's
thread decodes texts, yields finished records and collects loaded audio.
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
from curate.asr.launching import wait_for_launches
from curate.audio import ASSUMED_DURATION_S, DEFAULT_MAX_AUDIO_S, load_ahead, load_record
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
"""The waits before retries of a single record that does not fit while other processes hold the GPU's memory."""

_MAX_QUEUED = 2
"""Micro-batches submitted to the model thread: the one it works on, and the next."""


@dataclass(slots=True)
class Transcribed:
    """Records of one model call, with their transcripts."""

    records: list[Record]
    transcripts: list[Transcript]


@dataclass(slots=True)
class TranscriptionFailed:
    """A record that could not be loaded, or that does not fit into memory alone."""

    record: Record
    error: RecordError


@dataclass(slots=True)
class OutOfRange:
    """A record that the batching options filter by its length, with the reason."""

    record: Record
    reason: str


Outcome: TypeAlias = "Transcribed | TranscriptionFailed | OutOfRange"


@dataclass(slots=True)
class _PendingText:
    """Records of one model call, and the function that decodes their texts."""

    records: list[Record]
    decode: Callable[[], list[Transcript]]


@dataclass(slots=True)
class _ModelCall:
    """The measurements of one successful model call."""

    items: int
    audio_s: float
    longest_s: float
    model_s: float
    notes: dict[str, Any]


@dataclass(slots=True)
class _MicroBatchResult:
    """The outcomes of a micro-batch, and its measurements, which count once its records are yielded."""

    outcomes: list[_PendingText | TranscriptionFailed]
    calls: list[_ModelCall]
    notes: dict[str, Any]


class Transcriber:
    """A recogniser on a thread of its own, with the planner of its micro-batches.

    Args:
        recogniser: not yet set up.
        batches: plans micro-batches by the records' `duration`.
        is_oom: returns whether an error of the recogniser means that memory ran out.
        prefetch: micro-batches that are loaded ahead; 0: each is loaded when the model has finished the one before.
        out_of_range: returns the reason to filter a record of a length in seconds, empty to keep it; called for
            records without a usable `duration`.
        pause: waits for a number of seconds, while other processes hold memory of this worker.
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
        self._idle_since = 0.0  # when the model finished its last batch
        self._calls: list[_ModelCall] = []  # of the micro-batch in the model's thread
        self._ooms = 0  # of the same micro-batch
        self._model = ThreadPoolExecutor(max_workers=1, thread_name_prefix="curate-model")
        self._stager = ThreadPoolExecutor(max_workers=1, thread_name_prefix="curate-stager")

    def setup(self) -> None:
        """Load the model, in its own thread, and calibrate the memory of its batches."""
        try:
            self._model.submit(self.recogniser.setup).result()
            self._model.submit(self.batches.calibrate, self.recogniser).result()
            self._meter = GpuMeter.open(self.recogniser.gpu_uuid()) if isinstance(self.recogniser, HasGpu) else None
        except BaseException:
            self._model.shutdown()
            self._stager.shutdown()
            raise

    def close(self) -> None:
        """Release the model and its thread."""
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
        """Yield the outcomes of a window's records, each record exactly once, as soon as it is known.

        Closing the generator waits for the batch in the model, and leaves the model's queue empty.
        """
        self.monitor.start_monitoring()
        planned, out_of_range = self._planned(records)
        if (
            planned
            and isinstance(self.recogniser, SupportsCudaGraphs)
            and self._model.submit(self._prepare, self.recogniser, planned).result()
        ):
            planned, out_of_range = self._planned(records)  # with the memory that is left
        yield from out_of_range
        announced = _Announced(announce)
        load_one = partial(load_record, rate_hz=self.recogniser.rate_hz, roots=roots, filepath_key=filepath_key)
        load = partial(
            load_ahead,
            rate_hz=self.recogniser.rate_hz,
            filepath_key=filepath_key,
            load=lambda record: _load_between_launches(load_one, record),
        )
        with closing(self._loads(planned, announced, load)) as loads:
            yield from self._through_model(planned, loads, announced)

    def _planned(self, records: list[Record]) -> tuple[list[list[Record]], list[OutOfRange]]:
        plan, dropped = self.batches.plan([record.get("duration") for record in records])
        out_of_range = [OutOfRange(records[index], reason) for index, reason in dropped]
        return [[records[index] for index in indices] for indices in plan], out_of_range

    def _loads(self, planned: list[list[Record]], announced: _Announced, load: Callable[..., Loads]) -> Loads:
        """Yield the waveforms of the micro-batches in order."""

        def records() -> Iterator[Record]:
            for micro_batch in planned:
                announced.add(micro_batch)
                yield from micro_batch

        if self._prefetch:
            # `_expected_s` bounds each duration: an absurd one must not let the whole window be loaded.
            longest_s = max((sum(map(_expected_s, micro_batch)) for micro_batch in planned), default=0.0)
            yield from load(records(), max_audio_s=self._prefetch * max(longest_s, ASSUMED_DURATION_S))
        else:
            for micro_batch in planned:
                announced.add(micro_batch)
                yield from load(micro_batch, threads=1)

    def _through_model(self, planned: list[list[Record]], loads: Loads, announced: _Announced) -> Iterator[Outcome]:
        queued: deque[_QueuedBatch] = deque()
        max_queued = _MAX_QUEUED if self._prefetch else 0
        try:
            for micro_batch in planned:
                loaded: list[Loaded] = []
                waited_s = 0.0
                for _ in micro_batch:
                    requested = time.monotonic()
                    record, samples = next(loads)
                    waited_s += self._idle_s(queued, requested)
                    outcome = self._without_model(record, samples)
                    if outcome is not None:
                        announced.remove([record])
                        yield outcome
                    elif not isinstance(samples, RecordError):
                        loaded.append((record, samples))
                    del samples  # this generator may be suspended for long, and the model may need the memory
                parts = self._split_by_true_length(loaded)
                del loaded
                while parts:
                    part = parts.popleft()
                    staged = self._staged(part)
                    queued.append(_QueuedBatch(part, self._model.submit(self._recognise, part, staged), waited_s))
                    waited_s = 0.0
                    del part
                    while queued and (len(queued) > max_queued or queued[0].future.done()):
                        yield from self._finished(queued, announced)
            while queued:
                yield from self._finished(queued, announced)
        finally:
            for one in queued:  # after an error the model thread must be idle before a retry
                if not one.future.cancel():
                    one.future.exception()

    def _idle_s(self, queued: deque[_QueuedBatch], since: float) -> float:
        """Return how long the model has been idle since then, waiting for audio alone."""
        if queued and not queued[-1].future.done():
            return 0.0
        return max(0.0, time.monotonic() - max(since, self._idle_since))

    def _without_model(self, record: Record, samples: Waveform | RecordError) -> Outcome | None:
        """Return the outcome of a record that does not reach the model, or None if it does."""
        if isinstance(samples, RecordError):
            return TranscriptionFailed(record, samples)
        if not audio_ms(record):
            reason = self._out_of_range(len(samples) / self.recogniser.rate_hz)
            return OutOfRange(record, reason) if reason else None
        return None

    def _finished(self, queued: deque[_QueuedBatch], announced: _Announced) -> Iterator[Outcome]:
        one = queued[0]
        try:
            result = one.future.result()
            outcomes = [self._decoded(item) if isinstance(item, _PendingText) else item for item in result.outcomes]
        except Exception:
            announced.replace([record for record, _ in one.loaded])
            raise
        queued.popleft()
        announced.remove([record for record, _ in one.loaded])
        self._record(result, one.waited_s)
        del one
        yield from outcomes

    def _decoded(self, pending: _PendingText) -> Transcribed:
        wait_for_launches()
        transcripts = pending.decode()
        if len(transcripts) != len(pending.records):
            raise InfrastructureError(
                f"the recogniser {type(self.recogniser).__name__} returned {len(transcripts)} transcripts for "
                f"{len(pending.records)} waveforms"
            )
        return Transcribed(pending.records, transcripts)

    def _record(self, result: _MicroBatchResult, waited_s: float) -> None:
        """Record the measurements of a micro-batch, now that its records are yielded and cannot be repeated."""
        if result.notes:
            self.monitor.note(result.notes)
        for call in result.calls:
            self.monitor.record_batch(
                call.items,
                call.audio_s,
                call.model_s,
                padded_duration=call.items * call.longest_s,
                load_wait=waited_s,
            )
            if call.notes:
                self.monitor.note(call.notes)
            waited_s = 0.0

    def _split_by_true_length(self, loaded: list[Loaded]) -> deque[list[Loaded]]:
        """Split a micro-batch that exceeds the present budget, or whose true lengths exceed those of the manifest."""
        if not loaded:
            return deque()
        if len(loaded) <= self.batches.max_items(max(map(self._seconds, loaded))):
            return deque([loaded])
        parts: deque[list[Loaded]] = deque()
        rest = sorted(loaded, key=lambda item: -len(item[1]))
        while rest:
            count = self.batches.max_items(self._seconds(rest[0]))
            parts.append(rest[:count])
            rest = rest[count:]
        return parts

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
        self._calls, self._ooms = [], 0
        waiting = [staged]  # for the batch as a whole, once

        def transcribe(part: list[Loaded]) -> Callable[[], list[Transcript]]:
            return self._transcribe(part, waiting.pop() if waiting else None)

        parts = run_splitting(loaded, transcribe, is_oom=self._is_oom, on_oom=self._record_oom, length_s=self._seconds)
        for part in parts:
            if isinstance(part, Unfit):
                outcomes.append(self._try_again(part))
            else:
                outcomes.append(_PendingText([record for record, _ in part.items], part.result))
        self._idle_since = time.monotonic()
        changes = [attrs.asdict(change) for change in self.batches.controller.take_changes()]
        notes = ({"ooms": self._ooms} if self._ooms else {}) | ({"history": changes} if changes else {})
        return _MicroBatchResult(outcomes, self._calls, notes)

    def _transcribe(
        self, loaded: list[Loaded], staged: Future[Sequence[Waveform]] | None = None
    ) -> Callable[[], list[Transcript]]:
        recogniser = self.recogniser
        waveforms = [samples for _, samples in loaded] if staged is None else staged.result()
        started = time.monotonic()
        if isinstance(recogniser, SupportsAsyncDecoding):
            decode = recogniser.begin(waveforms)
        else:
            transcripts = recogniser.transcribe(waveforms)
            decode = lambda: transcripts  # noqa: E731
        model_s = time.monotonic() - started
        peak = recogniser.peak() if isinstance(recogniser, SupportsMemoryStats) else None
        lengths_s = list(map(self._seconds, loaded))
        longest_s = max(lengths_s)
        self.batches.record_success(len(loaded), longest_s, peak)
        self._calls.append(_ModelCall(len(loaded), sum(lengths_s), longest_s, model_s, self._device_notes(peak)))
        return decode

    def _device_notes(self, peak: MemoryPeak | None) -> dict[str, Any]:
        """Return the utilisation and the memory of the device, as far as they can be measured."""
        notes: dict[str, Any] = {}
        utilisation = self._meter.utilisation() if self._meter is not None else None
        if utilisation is not None:
            notes["gpu"] = {"readings": 1, "utilisation": utilisation}
        if peak is not None:
            allocated, reserved = peak.allocated_bytes, peak.reserved_bytes
            memory = {"max_allocated_bytes": allocated, "max_reserved_bytes": reserved}
            memory["max_peak_bytes"] = None if allocated is None else allocated + peak.own_bytes
            notes["memory"] = {name: size for name, size in memory.items() if size is not None}
        return notes

    def _try_again(self, unfit: Unfit[Loaded]) -> _PendingText | TranscriptionFailed:
        """Retry a record that does not fit alone, as long as other processes hold this worker's memory.

        Fractions of a GPU hold only if every process keeps to its own: a neighbour that does not, or whose cache has
        grown for a moment, must not cost a good record.
        """
        message = unfit.message
        for pause_s in PAUSES_S:
            if not self.batches.is_crowded(self.recogniser):
                break
            logger.warning("other processes hold GPU memory of this worker; trying again in {:g} s", pause_s)
            self._pause(pause_s)
            [part] = run_splitting([unfit.item], self._transcribe, is_oom=self._is_oom, on_oom=self._record_oom)
            if not isinstance(part, Unfit):
                return _PendingText([record for record, _ in part.items], part.result)
            message = part.message
        return TranscriptionFailed(unfit.item[0], RecordError("oom", message))

    def _record_oom(self, loaded: list[Loaded], _: str) -> None:
        self._ooms += 1
        self.batches.record_oom(max(map(self._seconds, loaded)))
        if isinstance(self.recogniser, SupportsMemoryStats):
            self.recogniser.free_memory()

    def _prepare(self, recogniser: SupportsCudaGraphs, planned: list[list[Record]]) -> bool:
        """Let the recogniser capture its graphs for the planned batches, before the first. Model thread.

        Returns:
            Whether that took memory, which batches can no longer use.
        """
        longest = [max(map(_expected_s, micro_batch)) for micro_batch in planned]
        shapes = sorted(
            {(len(one), longest_s) for one, longest_s in zip(planned, longest, strict=True)}, key=_by_length
        )
        items, longest_s = shapes[0]

        def prepare(_: list[None]) -> bool:
            nonlocal items, longest_s
            took = False
            for items, longest_s in shapes:  # the longest first: its buffers hold shorter ones
                took |= recogniser.prepare(items, longest_s)
            return took

        try:
            [part] = run_splitting([None], prepare, is_oom=is_oom)
        except Exception as error:
            raise InfrastructureError(
                f"cannot capture CUDA graphs for {items} records of {longest_s:g} s ({type(error).__name__}: {error}); "
                "cuda_graphs: false switches them off"
            ) from error
        if isinstance(part, Unfit):  # each batch will capture its own graphs
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
    """How long the model was idle while this batch was loaded."""


class _Announced:
    """The records that are being loaded, wait for the model or are in it: the suspects of a crash.

    A micro-batch is announced as a whole before its first record is opened, so that a crash of a decoder has suspects
    too.
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

    def replace(self, records: Sequence[Record]) -> None:
        """Announce only these records: an exception can be the fault of one of these only."""
        self._announce(records)


def _by_length(shape: tuple[int, float]) -> tuple[float, int]:
    items, longest_s = shape
    return (-longest_s, -items)


def _load_between_launches(load: Callable[[Record], Waveform], record: Record) -> Waveform:
    wait_for_launches()
    return load(record)


def _expected_s(record: Record) -> float:
    """Return the expected length of a record, bounded, because its column may hold any number."""
    duration: Any = audio_ms(record) / 1000
    return min(duration, DEFAULT_MAX_AUDIO_S) or ASSUMED_DURATION_S
