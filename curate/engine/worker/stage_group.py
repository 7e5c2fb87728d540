"""Runs fused stages on a batch inside a worker, so that one bad record costs one record.

A batch that raises, or that comes back with a record lost, repeated or invented, is split until the guilty record is
alone; every attempt starts from the records as they were when they came to the stage. Records that have left the last
stage are acknowledged at once, with everything that became of their root.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, cast

from loguru import logger

from curate.engine.protocol.activity import ActivityReporter
from curate.engine.protocol.messages import BatchTask, Outcome, OutputRow
from curate.engine.worker.error_classification import (
    as_infrastructure,
    classify,
    is_infrastructure,
    is_interrupt,
    named,
)
from curate.engine.worker.outcomes import OutcomeCollector
from curate.engine.worker.snapshot import Snapshot, are_flat, copies_of
from curate.errors import InfrastructureError, StageContractError
from curate.monitoring import add_measures, add_to
from curate.records import ID, AudioBatch, Record, check_record
from curate.stage import ProcessingStage, RecordStage, Reject, WorkerContext, called_method, children_of

_HANDED_ON_AFTER_S = 1.0
_TOGETHER = 32
_TOGETHER_S = 0.002
"""So many quick records are announced together, unless they take so long; a worker that dies on one of them leaves no
more suspects than go alone (`MOST_ALONE`).
"""


class StageGroupRunner:
    """The fused stages of one hop, as one worker runs them.

    Args:
        stages: this worker's own copies, in order.
        context: what the stages may know about the run.
        encode: turns a kept record into what is sent to the driver; None: it is sent as it is.
        blamed: the stage that is named when a record cannot be encoded.
        announcer: told which of the batch's records are about to be touched, they or their children.
    """

    def __init__(
        self,
        stages: Sequence[ProcessingStage],
        *,
        context: WorkerContext,
        encode: Callable[[Record], OutputRow] | None = None,
        blamed: str = "",
        announcer: ActivityReporter | None = None,
    ) -> None:
        self._stages = stages
        last_batch_stage = max((i for i, stage in enumerate(stages) if not _takes_records(stage)), default=-1)
        self._steps = [
            _RecordStep(cast("RecordStage", stage), level, announcer, streams=level > last_batch_stage)
            if _takes_records(stage)
            else _BatchStep(stage, level, announcer)
            for level, stage in enumerate(stages)
        ]
        self._encode = encode
        self._blamed = blamed
        self._announcer = announcer
        self._measuring = [stage for stage in stages if type(stage).take_measures is not ProcessingStage.take_measures]
        self._measured: dict[str, Any] = {}
        self._set_up: list[ProcessingStage] = []
        self._empty = AudioBatch()
        self._description: tuple[str, str, str] = (self._empty.filepath_key, "", "")
        for stage in stages:
            object.__setattr__(stage, "context", context)  # the stage's class may be frozen

    def setup(self) -> None:
        """Set up every stage.

        Raises:
            InfrastructureError: a stage cannot be set up; no record is to blame.
        """
        for stage in self._stages:
            try:
                stage.setup()
            except InfrastructureError:
                raise
            except BaseException as error:
                if is_interrupt(error):
                    raise
                raise InfrastructureError(f"stage {stage.name!r} cannot be set up: {named(error)}") from error
            self._set_up.append(stage)

    def teardown(self) -> None:
        """Tear down every stage that was set up, the last first. One that raises is reported; its work is done."""
        while self._set_up:
            stage = self._set_up.pop()
            try:
                stage.teardown()
            except BaseException as error:
                if is_interrupt(error):
                    raise
                logger.opt(exception=error).warning("stage {!r} raised in teardown()", stage.name)

    def run(self, work: BatchTask, again: Callable[[], list[Record]] | None = None) -> Iterator[Outcome]:
        """Yield the outcomes of a batch's records as they are known; together they name every record once.

        Args:
            work: the batch.
            again: gives its records once more, as they have come, where that is possible; the records are then the
                runner's own. Without it the stages get copies, as from another process.
        """
        outcomes = OutcomeCollector(work, self._encode, self._blamed, len(self._stages))
        if self._announcer is not None:
            self._announcer.begin(work.number, outcomes.ids)
        records = work.records
        if again is None:
            records, again = copies_of(work.records), lambda: copies_of(work.records)
        batch = self._described(work).holding(records)
        for left in self._flow(0, batch, outcomes, again):
            outcomes.keep_all(left.data)
            yield from self._parts(outcomes)
        yield from self._parts(outcomes)

    def _parts(self, outcomes: OutcomeCollector) -> Iterator[Outcome]:
        """Yield what is finished, if anything is, with what the stages have measured meanwhile."""
        part = outcomes.take()
        if part is None:
            return
        for stage in tuple(self._measuring):
            try:
                measures = add_measures(stage.take_measures())
                json.dumps(measures, allow_nan=False)
                add_to(self._measured, {stage.name: measures})  # as the driver will; here it harms nobody if it cannot
            except BaseException as error:
                if is_interrupt(error):
                    raise
                self._measuring.remove(stage)
                logger.opt(exception=error).warning(
                    "stage {!r} raised in take_measures(); it is not measured from now on, and the run goes on",
                    stage.name,
                )
            else:
                if measures:
                    part.measures[stage.name] = measures
        yield part

    def _described(self, work: BatchTask) -> AudioBatch:
        """Return an empty batch with a batch's description; most have the one of the batch before."""
        described = (work.filepath_key, work.task_id, work.dataset_name)
        if described != self._description:
            self._description, self._empty = described, AudioBatch([], *described)
        return self._empty

    def _flow(
        self, level: int, batch: AudioBatch, outcomes: OutcomeCollector, again: Callable[[], list[Record]] | None = None
    ) -> Iterator[AudioBatch]:
        if level == len(self._steps):
            yield batch
            return
        for out in self._steps[level].apply(batch, outcomes, again):
            if out.data:
                yield from self._flow(level + 1, out, outcomes)


def _takes_records(stage: ProcessingStage) -> bool:
    return called_method(stage) == "process_record"


def _places(announcer: ActivityReporter | None, ids: list[str], outcomes: OutcomeCollector) -> Sequence[int]:
    """Return the positions in the batch at which records, or their ancestors, have come, if anybody wants to know."""
    return () if announcer is None else announcer.positions(outcomes.roots_of(ids))


class _RecordStep:
    """A stage that is called with one record at a time, so that the guilty record is always known.

    What is done is handed on about every second if it `streams`: a stage behind it that takes batches would plan worse
    over small ones, so such a one gets the whole window.
    """

    def __init__(self, stage: RecordStage, level: int, announcer: ActivityReporter | None, *, streams: bool) -> None:
        self._stage = stage
        self._level = level
        self._announcer = announcer
        self._streams = streams

    def apply(
        self, batch: AudioBatch, outcomes: OutcomeCollector, again: Callable[[], list[Record]] | None
    ) -> Iterator[AudioBatch]:
        started = now = time.perf_counter()
        snapshot = Snapshot(batch.data, again)  # `process_record` may change the record it is given and then fail
        ids: list[str] = [record[ID] for record in batch.data]
        announcer, places = self._announcer, _places(self._announcer, ids, outcomes)
        done: list[Record] = []
        position, together = 0, 1
        while position < len(ids):
            end = position + together
            if announcer is not None:
                announcer.announce(self._level, places[position:end])
            self._work_on(batch.data[position:end], ids[position:end], done, snapshot, outcomes)
            position, before, now = end, now, time.perf_counter()
            together = min(2 * together, _TOGETHER) if now - before < _TOGETHER_S else 1
            if self._streams and now - started > _HANDED_ON_AFTER_S and position < len(ids):
                outcomes.busy(self._level, now - started)
                self._at_rest()
                yield batch.holding(done)
                done, together = [], 1
                started = now = time.perf_counter()
        outcomes.busy(self._level, time.perf_counter() - started)
        self._at_rest()
        yield batch.holding(done)

    def _at_rest(self) -> None:
        """Say that this stage touches nothing while those behind it work."""
        if self._announcer is not None:
            self._announcer.rest(self._level)

    def _work_on(
        self, records: list[Record], ids: list[str], done: list[Record], snapshot: Snapshot, outcomes: OutcomeCollector
    ) -> None:
        """Call the stage with each of some records, and add what goes on to `done`."""
        process, maps, keep = self._stage.process_record, self._stage.cardinality == "maps", done.append
        for identity, record in zip(ids, records, strict=True):
            try:
                result: Any = process(record)
                if maps and type(result) is dict:
                    kept: Record = result  # pyright: ignore[reportUnknownVariableType]
                    # `is`, because a stage may have put something there that cannot be compared
                    keep(kept if kept is record and kept.get(ID) is identity else _named(kept, identity))
                else:
                    done.extend(self._interpret(result, identity, record, snapshot, outcomes))
            except BaseException as error:
                if is_interrupt(error):
                    raise
                done.extend(self._retry(error, identity, snapshot, outcomes))

    def _interpret(
        self, result: Any, identity: str, record: Record, snapshot: Snapshot, outcomes: OutcomeCollector
    ) -> Iterable[Record]:
        """Hold what the stage returned for one record to its cardinality, and return the records that go on."""
        stage = self._stage
        if stage.cardinality == "splits" and result is not None and not isinstance(result, Reject):
            children = children_of(result, stage)
            if children:
                return _numbered(children, snapshot[identity], stage, outcomes)
        if isinstance(result, dict):
            return [_named(cast("Record", result), identity)]
        if stage.cardinality == "maps" or (stage.cardinality == "splits" and not isinstance(result, Reject)):
            raise StageContractError(
                "contract_lost",
                f"stage {stage.name!r} {stage.cardinality}, but returned {_described(result)} for {identity}; "
                + _REMEDY[stage.cardinality],
            )
        if result is not None and not isinstance(result, Reject):
            raise TypeError(f"stage {stage.name!r} returned {_described(result)}; return the record or Reject(reason)")
        outcomes.filtered(_named(record, identity), stage.name, _reason(result, stage))
        return ()

    def _retry(
        self, error: BaseException, identity: str, snapshot: Snapshot, outcomes: OutcomeCollector
    ) -> Iterable[Record]:
        """Try a failed record again as often as the stage says, then put it into quarantine."""
        attempts = 1
        while True:
            if is_infrastructure(error):
                raise as_infrastructure(error, self._stage.name)
            record = snapshot[identity]
            if attempts > self._stage.retries:
                outcomes.quarantined(record, self._stage.name, *classify(error, self._stage, record), attempts)
                return ()
            try:
                result = self._stage.process_record(record)
                return self._interpret(result, identity, record, snapshot, outcomes)
            except BaseException as next_error:
                if is_interrupt(next_error):
                    raise
                error = next_error
                attempts += 1


class _BatchStep:
    """A stage that is called with a batch, and whose failures are narrowed down by splitting it."""

    def __init__(self, stage: ProcessingStage, level: int, announcer: ActivityReporter | None) -> None:
        self._stage = stage
        self._level = level
        self._announcer = announcer
        self._streams = called_method(stage) == "stream"

    def apply(
        self, batch: AudioBatch, outcomes: OutcomeCollector, again: Callable[[], list[Record]] | None
    ) -> Iterator[AudioBatch]:
        todo = [(batch.data, 1)]  # groups of records, and which attempt at them it is; the next one is the last
        while todo:
            records, attempts = todo.pop()
            before, again = Snapshot(records, again), None  # only the whole batch can be had again
            left = yield from self._attempt(batch.with_data(records), before, attempts, outcomes)
            todo.extend(reversed(left))

    def _attempt(
        self, batch: AudioBatch, before: Snapshot, attempts: int, outcomes: OutcomeCollector
    ) -> Generator[AudioBatch, None, list[tuple[list[Record], int]]]:
        """Call the stage, hand on what is in order, and return the groups of records to work on again."""
        given = _BatchContract(self._stage, batch, before, outcomes)
        batch.on_announce = lambda records: self._announced(records, given, outcomes)
        if not self._streams:
            self._announced(batch.data, given, outcomes)
        outputs = self._outputs(batch)
        outs: list[AudioBatch] | None = []
        while outs is not None:
            started = time.perf_counter()
            try:
                outs = next(outputs, None)
                handed_on = given.accept(outs)
            except BaseException as error:
                if is_interrupt(error):
                    raise
                if is_infrastructure(error):
                    raise as_infrastructure(error, self._stage.name)  # noqa: B904 (it names its cause)
                # nothing may hold on to the error, whose traceback pins whatever memory the stage had in use
                return self._bisect(given, error, attempts, outcomes)
            finally:
                outcomes.busy(self._level, time.perf_counter() - started)
            if self._announcer is not None and (outs is None or not self._streams):
                self._announcer.rest(self._level)
            yield from handed_on
        batch.on_announce = None  # or the batch would refer to itself, and stay until the garbage is collected
        return []

    def _announced(self, records: Sequence[Record], given: _BatchContract, outcomes: OutcomeCollector) -> None:
        given.suspects = ids = [record[ID] for record in records]
        if self._announcer is not None:
            places = _places(self._announcer, ids, outcomes)
            if not isinstance(places, range):
                places = list(dict.fromkeys(places))  # of children of one record, once
            self._announcer.announce(self._level, places)

    def _outputs(self, batch: AudioBatch) -> Iterator[list[AudioBatch]]:
        if self._streams:
            for part in self._stage.stream(batch):
                yield _batches(part, self._stage)
        else:
            result: Any = self._stage.process(batch)
            yield _batches(result, self._stage)

    def _bisect(
        self, given: _BatchContract, error: BaseException, attempts: int, outcomes: OutcomeCollector
    ) -> list[tuple[list[Record], int]]:
        """Return what an attempt left unfinished, in groups that close in on the guilty record."""
        left = [record for record in given.before.records() if record[ID] in given.waiting]
        if not left:  # the stage raised after it had returned every record; there is nobody to blame
            raise as_infrastructure(error, self._stage.name)
        if len(left) == 1:
            if attempts <= self._stage.retries:
                return [(left, attempts + 1)]
            outcomes.quarantined(left[0], self._stage.name, *classify(error, self._stage, left[0]), attempts)
            return []
        suspected = given.waiting.keys() & given.suspects
        if 0 < len(suspected) < len(left):
            groups = (
                [record for record in left if record[ID] in suspected],
                [record for record in left if record[ID] not in suspected],
            )
        else:
            half = (len(left) + 1) // 2
            groups = left[:half], left[half:]
        return [(group, 1) for group in groups]


class _BatchContract:
    """What a batch stage was given in one call, and which records it has not returned yet."""

    def __init__(self, stage: ProcessingStage, batch: AudioBatch, before: Snapshot, outcomes: OutcomeCollector) -> None:
        self._stage = stage
        self._batch = batch
        self._outcomes = outcomes
        self.before = before
        self.ids: list[str] = [record[ID] for record in batch.data]
        self.waiting = dict.fromkeys(self.ids)
        self.suspects: Sequence[str] = ()

    def accept(self, outs: list[AudioBatch] | None) -> list[AudioBatch]:
        """Hold one output (None: the end) to the stage's cardinality, and return the batches that go on.

        Raises:
            StageContractError: a record was lost, repeated or invented; nothing of this output is noted then.
        """
        stage, batch = self._stage, self._batch
        sources = [batch, *(out for out in outs or () if out is not batch)]
        # a copy of the batch, as `dataclasses.replace` makes one, has the very lists of the batch
        rejected = [note for notes in {id(s.rejected): s.rejected for s in sources}.values() for note in notes]
        failed = [note for notes in {id(s.failed): s.failed for s in sources}.values() for note in notes]
        if outs is not None and len(outs) == 1 and not rejected and not failed and stage.cardinality != "splits":
            out = outs[0]
            if len(self.waiting) == len(self.ids) and self.ids == [record.get(ID) for record in out.data]:
                self.waiting.clear()
                return [self._described_as_given(out)]
        self._check_objects(record for out in outs or () for record in out.data)
        leaving: dict[str, None] = {}
        for note in (*rejected, *failed):
            self._leave(note.record, leaving)
        parents: dict[str, list[Record]] = {}
        for record in (record for out in outs or () for record in out.data):
            identity = cast("str", record.get(ID))
            if stage.cardinality != "splits" or identity not in parents:
                self._leave(record, leaving)
            parents.setdefault(identity, []).append(record)
        left_out = [identity for identity in self.waiting if identity not in leaving] if outs is None else []
        if rejected and stage.cardinality == "maps":
            self._broken("contract_lost", f"rejected {rejected[0].record.get(ID)}")
        if left_out and stage.cardinality != "filters":
            self._broken("contract_lost", f"did not return {left_out[0]}")
        guilty = [self.before[note.record[ID]] for note in failed]
        verdicts = [(record, classify(note.error, stage, record)) for record, note in zip(guilty, failed, strict=True)]
        # nothing can go wrong from here on, so that an output is noted as a whole or not at all
        children: dict[str, Iterator[Record]] = {}
        if stage.cardinality == "splits":
            for identity, returned in parents.items():
                children[identity] = iter(_numbered(returned, self.before[identity], stage, self._outcomes))
            for out in outs or ():
                out.data = [next(children[record[ID]]) for record in out.data]
        for note in rejected:
            self._outcomes.filtered(note.record, stage.name, note.reason)
        for record, judged in verdicts:
            self._outcomes.quarantined(record, stage.name, *judged, 1)
        for identity in left_out:
            self._outcomes.filtered(self.before[identity], stage.name, _reason(None, stage))
        for source in sources:
            source.rejected, source.failed = [], []
        for identity in leaving:
            del self.waiting[identity]
        return [self._described_as_given(out) for out in outs or ()]

    def _check_objects(self, returned: Iterable[Record]) -> None:
        """Refuse parts that are one and the same dict: they would all look like the last one."""
        if self._stage.cardinality == "splits":
            seen: set[int] = set()
            for record in returned:
                if id(record) in seen:
                    raise StageContractError(
                        "contract_repeated",
                        f"stage {self._stage.name!r} returned the same dict for several parts of {record.get(ID)}; "
                        "return a new one for each, {**record, …}",
                    )
                seen.add(id(record))

    def _leave(self, record: Record, leaving: dict[str, None]) -> None:
        identity = record.get(ID)
        if identity in self.waiting and identity not in leaving:
            leaving[cast("str", identity)] = None
        elif identity is None:
            self._broken("contract_invented", "returned a record without its `_id`")
        elif identity not in self.ids:
            self._broken("contract_invented", f"returned {identity}, which it was not given")
        elif identity in leaving:
            self._broken("contract_repeated", f"returned {identity} more than once")
        else:  # it has gone on already, with an earlier part, so it is too late to put it into quarantine
            raise InfrastructureError(
                f"stage {self._stage.name!r} streamed {identity} more than once; "
                + ("yield all parts of a record together" if self._stage.cardinality == "splits" else "yield it once")
            )

    def _broken(self, code: str, what: str) -> None:
        stage = self._stage
        raise StageContractError(code, f"stage {stage.name!r} {stage.cardinality}, but {what}; {_REMEDY[code]}")

    def _described_as_given(self, out: AudioBatch) -> AudioBatch:
        """A stage that returns a new batch need not repeat what the records have in common."""
        given = self._batch
        out.filepath_key, out.task_id, out.dataset_name = given.filepath_key, given.task_id, given.dataset_name
        return out


_REMEDY = {
    "maps": "return the record, or declare cardinality='filters'",
    "splits": "return its parts, or Reject(reason)",
    "contract_lost": "return every record once, or declare cardinality='filters' and reject with a reason",
    "contract_repeated": "return every record once, or declare cardinality='splits'",
    "contract_invented": "change the records that came, or copy them with {**record, …}",
}


def _batches(outs: Any, stage: ProcessingStage) -> list[AudioBatch]:
    items = cast("list[Any]", outs) if isinstance(outs, list) else [outs]
    for item in items:
        if not isinstance(item, AudioBatch):
            what = "a list of dicts" if isinstance(item, dict) and items is outs else _described(cast("object", item))
            raise TypeError(f"stage {stage.name!r} returned {what}; return the batch, or a list of batches")
        for record in item.data:
            check_record(record)
    return items


def _named(record: Record, identity: str) -> Record:
    """Return a copy of a record under an id: a stage may well return the same dict twice, or another kind of dict."""
    return {**record, ID: identity}


def _numbered(
    children: list[Record], parent: Record, stage: ProcessingStage, outcomes: OutcomeCollector
) -> list[Record]:
    """Give the children of a split record their ids, in the order in which they were yielded."""
    numbered = [_named(child, f"{parent[ID]}/{number}") for number, child in enumerate(children)]
    if len(numbered) > 1 and not are_flat(numbered):
        numbered = copies_of(numbered)  # or a list that they have all got from the parent would be one and the same
    outcomes.split(parent, stage.name, numbered)
    return numbered


def _reason(result: Reject | None, stage: ProcessingStage) -> str:
    return f"left out by {stage.name}" if result is None else result.reason


def _described(result: object) -> str:
    return "nothing" if result is None else f"a {type(result).__name__}"
