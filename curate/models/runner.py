"""The runner of a model: it plans micro-batches, loads audio ahead, runs the model, and makes the rows.

    records ──plan──► micro-batches ──load ahead──► clips ──model's thread──► rows

The model has a thread of its own, with the next micro-batch always in its queue: while the model works, the stage's
thread makes the rows of the batch before, yields finished records and collects loaded audio.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from loguru import logger

from curate.audio import ASSUMED_DURATION_S, DEFAULT_MAX_AUDIO_S
from curate.batching import split_to_fit
from curate.errors import RecordError
from curate.models.clip import Clip
from curate.models.inference import Inference, InferenceFailed, Loaded, MicroBatchResult, PendingRows
from curate.models.loading import ClipLoader, OwnRecordings
from curate.models.micro_batches import MicroBatches
from curate.models.model import AudioModel, Row
from curate.models.resources import ModelResources
from curate.models.rows import RowContract
from curate.monitoring import PerformanceMonitor
from curate.records import Record, audio_ms
from curate.stage import WorkerContext

_MAX_QUEUED = 2
"""Micro-batches submitted to the model thread: the one it works on, and the next."""


@dataclass(slots=True)
class Inferred:
    """Records of one model call, with their rows."""

    records: list[Record]
    rows: Sequence[Row]


@dataclass(slots=True)
class OutOfRange:
    """A record that the batching options filter by its length, with the reason."""

    record: Record
    reason: str


Outcome: TypeAlias = "Inferred | InferenceFailed | OutOfRange"
Loads: TypeAlias = "Generator[tuple[Record, Clip | RecordError]]"


class ModelRunner:
    """A model on a thread of its own, with the planner of its micro-batches.

    Args:
        model: not yet set up.
        batches: plans micro-batches by the records' `duration`.
        contract: the columns of the model's rows.
        resources: where and how the model runs.
        is_oom: returns whether an error of the model means that memory ran out.
        prefetch: micro-batches that are loaded ahead; 0: each is loaded when the model has finished the one before.
        out_of_range: returns the reason to filter a record of a length in seconds, empty to keep it; called with
            decoded lengths.
    """

    def __init__(
        self,
        model: AudioModel,
        batches: MicroBatches,
        *,
        contract: RowContract,
        resources: ModelResources,
        is_oom: Callable[[BaseException], bool],
        prefetch: int,
        out_of_range: Callable[[float], str],
    ) -> None:
        self.model = model
        self.batches = batches
        self.inference = Inference(model, resources, batches, is_oom)
        self.monitor = PerformanceMonitor()
        self._contract = contract
        self._recordings = OwnRecordings()
        self._prefetch = prefetch
        self._out_of_range = out_of_range
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="curate-model")
        self._stager = ThreadPoolExecutor(max_workers=1, thread_name_prefix="curate-stager")

    def setup(self) -> None:
        """Load the model, in its own thread, and calibrate the memory of its batches."""
        try:
            self._thread.submit(self.inference.setup).result()
        except BaseException:
            self._thread.shutdown()
            self._stager.shutdown()
            raise

    def close(self) -> None:
        """Release the model and its thread."""
        try:
            self._thread.submit(self.inference.close).result()
        finally:
            self._thread.shutdown()
            self._stager.shutdown()
            self._recordings.close()

    def runtime_info(self) -> dict[str, Any]:
        """Return the device, number format and the like that the model reports; empty if it reports none."""
        return self.inference.runtime_info()

    def run(self, records: list[Record], *, filepath_key: str, context: WorkerContext) -> Generator[Outcome]:
        """Yield the outcomes of a window's records, each record exactly once, as soon as it is known.

        Closing the generator waits for the batch in the model, and leaves the model's queue empty.
        """
        self.monitor.start_monitoring()
        announced = _Announced(context.announce)
        excerpts = None if type(self.model).excerpts is AudioModel.excerpts else self.model.excerpts
        recordings = self._recordings.of(context, filepath_key)
        loader = ClipLoader(context, recordings, self.model.rate_hz, filepath_key, excerpts)
        doubtful = yield from self._run(records, announced, loader)
        if doubtful:
            confirmed = yield from self._measured(doubtful, announced, loader)
            yield from self._run(confirmed, announced, loader)

    def _run(
        self, records: list[Record], announced: _Announced, loader: ClipLoader
    ) -> Generator[Outcome, None, list[Record]]:
        """Yield the outcomes of records; return those whose claimed `duration` is out of range."""
        planned, out_of_range = self._planned(records)
        if planned and self.inference.capabilities.reserve is not None:
            shapes = [(len(one), max(map(_expected_s, one))) for one in planned]
            if self._thread.submit(self.inference.reserve, shapes).result():
                planned, out_of_range = self._planned(records)  # with the memory that is left
        with closing(self._loads(planned, announced, loader)) as loads:
            yield from self._through_model(planned, loads, announced)
        doubtful: list[Record] = []
        for one in out_of_range:
            if one.record.get("offset") is None:
                doubtful.append(one.record)
            else:
                yield one
        return doubtful

    def _measured(
        self, doubtful: list[Record], announced: _Announced, loader: ClipLoader
    ) -> Generator[Outcome, None, list[Record]]:
        """Yield the outcomes of records that are truly out of range; return the others, with their true `duration`."""
        confirmed: list[Record] = []
        announced.add(doubtful)
        with closing(loader.measure(doubtful)) as measured:
            for record, error in measured:
                announced.remove([record])
                if error is not None:
                    yield InferenceFailed(record, error)
                elif reason := self._out_of_range(record["duration"]):
                    yield OutOfRange(record, reason)
                else:
                    confirmed.append(record)
        return confirmed

    def _planned(self, records: list[Record]) -> tuple[list[list[Record]], list[OutOfRange]]:
        plan, dropped = self.batches.plan([record.get("duration") for record in records])
        out_of_range = [OutOfRange(records[index], reason) for index, reason in dropped]
        return [[records[index] for index in indices] for indices in plan], out_of_range

    def _loads(self, planned: list[list[Record]], announced: _Announced, loader: ClipLoader) -> Loads:
        """Yield the clips of the micro-batches in order."""

        def records() -> Iterator[Record]:
            for micro_batch in planned:
                announced.add(micro_batch)
                yield from micro_batch

        if self._prefetch:
            # `_expected_s` bounds each duration: an absurd one must not let the whole window be loaded.
            longest_s = max((sum(map(_expected_s, micro_batch)) for micro_batch in planned), default=0.0)
            yield from loader.load(records(), max_audio_s=self._prefetch * max(longest_s, ASSUMED_DURATION_S))
        else:
            for micro_batch in planned:
                announced.add(micro_batch)
                yield from loader.load(micro_batch, threads=1)

    def _through_model(self, planned: list[list[Record]], loads: Loads, announced: _Announced) -> Iterator[Outcome]:
        queued: deque[_QueuedBatch] = deque()
        max_queued = _MAX_QUEUED if self._prefetch else 0
        try:
            for micro_batch in planned:
                loaded: list[Loaded] = []
                waited_s = 0.0
                for _ in micro_batch:
                    requested = time.monotonic()
                    record, clip = next(loads)
                    waited_s += self._idle_s(queued, requested)
                    outcome = self._without_model(record, clip)
                    if outcome is not None:
                        announced.remove([record])
                        yield outcome
                    elif not isinstance(clip, RecordError):
                        loaded.append((record, clip))
                    del clip  # this generator may be suspended for long, and the model may need the memory
                # It may exceed the present budget, or the lengths that the manifest claims.
                parts = deque(split_to_fit(loaded, _length_s, self.batches.max_items) if loaded else ())
                del loaded
                while parts:
                    part = parts.popleft()
                    staged = self._staged(part)
                    queued.append(_QueuedBatch(part, self._thread.submit(self.inference.run, part, staged), waited_s))
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
        return max(0.0, time.monotonic() - max(since, self.inference.idle_since))

    def _without_model(self, record: Record, clip: Clip | RecordError) -> Outcome | None:
        """Return the outcome of a record that does not reach the model, or None if it does."""
        if isinstance(clip, RecordError):
            return InferenceFailed(record, clip)
        if record.get("offset") is None:
            seconds = record["duration"]  # the decoded length
        elif audio_ms(record):
            return None  # the planner has compared it, for a segment is as long as its record says
        else:
            seconds = clip.duration_s
        reason = self._out_of_range(seconds)
        return OutOfRange(record, reason) if reason else None

    def _finished(self, queued: deque[_QueuedBatch], announced: _Announced) -> Iterator[Outcome]:
        one = queued[0]
        try:
            result = one.future.result()
            outcomes = [self._made(item) if isinstance(item, PendingRows) else item for item in result.outcomes]
        except Exception:
            announced.replace([record for record, _ in one.loaded])
            raise
        queued.popleft()
        announced.remove([record for record, _ in one.loaded])
        self._record(result, one.waited_s)
        del one
        yield from outcomes

    def _made(self, pending: PendingRows) -> Inferred:
        return Inferred(pending.records, self._contract.check(pending.make(), len(pending.records)))

    def _record(self, result: MicroBatchResult, waited_s: float) -> None:
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
            logger.debug(
                "{}: {} clips of up to {:.2f} s, {:.1f} s of audio, {:.3f} s in the model, {:.3f} s waiting{}",
                type(self.model).__name__,
                call.items,
                call.longest_s,
                call.audio_s,
                call.model_s,
                waited_s,
                call.described_memory,
            )
            waited_s = 0.0

    def _staged(self, loaded: list[Loaded]) -> Future[Sequence[Clip]] | None:
        """Have a micro-batch prepared while the model works on the one before; None: the model does not do that.

        What goes wrong is raised in the model thread, where the record that causes it is found.
        """
        stage = self.inference.capabilities.stage
        return None if stage is None else self._stager.submit(stage, [clip for _, clip in loaded])


@dataclass(slots=True)
class _QueuedBatch:
    loaded: list[Loaded]
    future: Future[MicroBatchResult] = field(repr=False)
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


def _length_s(loaded: Loaded) -> float:
    return loaded[1].duration_s


def _expected_s(record: Record) -> float:
    """Return the expected length of a record, bounded, because its column may hold any number."""
    duration: Any = audio_ms(record) / 1000
    return min(duration, DEFAULT_MAX_AUDIO_S) or ASSUMED_DURATION_S
