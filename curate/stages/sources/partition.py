"""The partitioner: it cuts the stream of records into batches."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from numbers import Real

from curate.audio import ASSUMED_DURATION_S
from curate.batching import LengthWindows, balance
from curate.errors import PlanError
from curate.records import AudioBatch, Record, take
from curate.stage import Partitioner

WINDOW_RECORDS = 8192
"""The default batch size: a length-aware plan over 1,024 records wastes 4 to 30 % more padding."""


@dataclass
class Partition(Partitioner):
    """Cuts batches by number of records, by seconds of audio, or into a number of parts of equal duration.

    A batch is the window over which an ASR stage plans its own, much smaller, batches; the stage's `batch_size` is the
    number of records in one call of the model. Where the records have a `duration`, records of similar length are
    batched together, so that a stage does not have rare lengths left over at the end of every window. The cuts depend
    on the input alone (in a resumed run, on the unfinished records), and no result depends on the cuts.

    Args:
        max_records: the maximum number of records in a batch; with `parts`, the average. By length, three times as many
            are held, and a record can be up to a dozen batches late.
        max_audio_s: the maximum audio in a batch, in seconds by the column `duration`; a longer record forms a batch
            alone.
        parts: the number of batches of about equal duration that are cut together, for example one for each GPU, from
            up to `max_records` for each; the longest is at most 4/3 of the optimum.
        weights: mix the datasets (by the column `dataset_name`) so that their hours, not their records, are in
            proportion to these weights, as far as they are within twice `max_records` of each other in the input. A
            dataset without a weight counts 1, and no record is dropped. Batches are then cut in that order. The source
            `mix` does so over whole inputs.
        by_length: with `max_records` alone: False cuts in the order of the input, one batch at a time.
    """

    max_records: int = WINDOW_RECORDS
    max_audio_s: float | None = None
    parts: int | None = None
    weights: Mapping[str, float] | None = None
    by_length: bool = True

    tuning = frozenset({"max_records", "max_audio_s", "parts", "weights", "by_length"})

    def __post_init__(self) -> None:
        if self.max_records < 1:
            raise PlanError(f"max_records={self.max_records}: must be at least 1")
        if self.max_audio_s is not None and not self.max_audio_s > 0:
            raise PlanError(f"max_audio_s={self.max_audio_s}: must be above 0 seconds")
        if self.parts is not None and self.parts < 1:
            raise PlanError(f"parts={self.parts}: must be at least 1")
        if self.parts is not None and self.max_audio_s is not None:
            raise PlanError("parts and max_audio_s both set the size of a batch: choose one")
        for dataset, weight in (self.weights or {}).items():
            if not 0 < weight < math.inf:
                raise PlanError(f"weights: {dataset} has {weight!r}; a weight must be a number above 0")

    def reads(self) -> tuple[str, ...]:
        return ("duration",) if self.max_audio_s is not None or self.parts is not None or self.weights else ()

    def partition(self, records: Iterator[Record]) -> Iterator[AudioBatch]:
        for number, data in enumerate(self._cuts(records)):
            yield AudioBatch(data, task_id=f"partition-{number:06d}")

    def _cuts(self, records: Iterator[Record]) -> Iterator[list[Record]]:
        if self.weights:
            records = self._mixed(records, self.weights)
        if self.parts is not None:
            return self._balanced(records, self.parts)
        if self.max_audio_s is not None or self.weights or not self.by_length or self.max_records == 1:
            return self._in_order(records)
        first = take(records, self.max_records)
        following = next(records, None) if len(first) < self.max_records else None
        if len(first) < self.max_records and following is None:  # the whole input, one window however it is planned
            return iter([first] if first else [])
        records = chain(first, () if following is None else (following,), records)
        if following is not None:  # large records: a window of `max_records` would not fit into memory
            return self._in_order(records)
        return self._by_length(records) if any(map(_seconds, first)) else self._in_order(records)

    def _by_length(self, records: Iterator[Record]) -> Iterator[list[Record]]:
        """Cut windows of whole planned batches; a record without a duration counts as one of typical length."""
        held: dict[int, Record] = {}

        def durations() -> Iterator[float | None]:
            for index, record in enumerate(records):
                held[index] = record
                yield _seconds(record) or None

        windows = LengthWindows(self.max_records, assumed_s=ASSUMED_DURATION_S)
        for window in windows.plan(durations()):
            yield [held.pop(index) for index in window]

    def _in_order(self, records: Iterator[Record]) -> Iterator[list[Record]]:
        limit_s = self.max_audio_s
        if limit_s is None:
            while data := take(records, self.max_records):
                yield data
            return
        data: list[Record] = []
        audio_s = 0.0
        for record in records:
            seconds = _seconds(record)
            if data and (len(data) == self.max_records or audio_s + seconds > limit_s):
                yield data
                data, audio_s = [], 0.0
            data.append(record)
            audio_s += seconds
        if data:
            yield data

    def _balanced(self, records: Iterator[Record], parts: int) -> Iterator[list[Record]]:
        while window := take(records, parts * self.max_records):
            for positions in balance(map(_seconds, window), min(parts, len(window))):
                yield [window[position] for position in positions]

    def _mixed(self, records: Iterator[Record], weights: Mapping[str, float]) -> Iterator[Record]:
        """Yield the next record of the dataset with the least audio taken in proportion to its weight."""
        waiting: dict[str, deque[Record]] = {}
        taken: dict[str, float] = {}

        def hold(record: Record) -> None:
            name = str(record.get("dataset_name", ""))
            if not waiting.get(name):
                # A dataset that had no waiting records does not catch up: its share went to the others meanwhile.
                taken[name] = max(taken.get(name, 0.0), min((taken[other] for other in waiting), default=0.0))
            waiting.setdefault(name, deque()).append(record)

        for record in islice(records, 2 * self.max_records):
            hold(record)
        while waiting:
            name = min(waiting, key=lambda name: (taken[name], name))
            record = waiting[name].popleft()
            taken[name] += (_seconds(record) or ASSUMED_DURATION_S) / weights.get(name, 1.0)
            yield record
            if not waiting[name]:
                del waiting[name]
            for following in islice(records, 1):
                hold(following)


def _seconds(record: Record) -> float:
    """Return a record's length in seconds, 0 if it is unknown."""
    value: object = record.get("duration")
    if isinstance(value, bool) or not isinstance(value, Real):
        return 0.0
    return float(value) if 0 < float(value) < math.inf else 0.0
