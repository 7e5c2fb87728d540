"""Runs fused stages on a batch inside a worker, so that one bad record costs one record.

A batch that raises, or that comes back with a record lost, repeated or invented, is split until the guilty record is
alone; every attempt starts from the records as they were when they came to the stage. Records that have left the last
stage are acknowledged at once, with everything that became of their root.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from curate.engine.blame import as_infrastructure, is_infrastructure, verdict
from curate.engine.messages import Part, Row, Work
from curate.engine.tally import Tally
from curate.errors import InfrastructureError, StageContractError
from curate.records import ID, AudioBatch, Record
from curate.stage import ProcessingStage, RecordStage, Reject, WorkerContext, streams, works_by_record

OnStarted = Callable[[list[str]], None]


class HopRunner:
    """The fused stages of one hop, as one worker runs them.

    Args:
        stages: this worker's own copies, in order.
        context: what the stages may know about the run.
        encode: turns a kept record into what is sent to the driver; None: it is sent as it is.
        on_started: told which ids are about to be touched.
    """

    def __init__(
        self,
        stages: Sequence[ProcessingStage],
        *,
        context: WorkerContext,
        encode: Callable[[Record], Row] | None = None,
        on_started: OnStarted | None = None,
    ) -> None:
        self._stages = stages
        self._steps = [_step(stage, level, on_started) for level, stage in enumerate(stages)]
        self._encode = encode
        for stage in stages:
            stage.context = context

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
            except Exception as error:
                raise InfrastructureError(
                    f"stage {stage.name!r} cannot be set up: {type(error).__name__}: {error}"
                ) from error

    def teardown(self) -> None:
        """Tear down every stage, the last first."""
        for stage in reversed(self._stages):
            stage.teardown()

    def run(self, work: Work) -> Iterator[Part]:
        """Yield the outcomes of a batch's records as they are known; together they name every record once."""
        tally = Tally(work.number, self._encode, self._stages[-1].name, len(self._stages))
        batch = AudioBatch(work.records, work.filepath_key, work.task_id, work.dataset_name)
        for left in self._flow(0, batch, tally):
            tally.keep_all(left.data)
            part = tally.take()
            if part is not None:
                yield part
        part = tally.take()
        if part is not None:
            yield part

    def _flow(self, level: int, batch: AudioBatch, tally: Tally) -> Iterator[AudioBatch]:
        if level == len(self._steps):
            yield batch
            return
        for out in self._steps[level].apply(batch, tally):
            if out.data:
                yield from self._flow(level + 1, out, tally)


def _step(stage: ProcessingStage, level: int, on_started: OnStarted | None) -> _RecordStep | _BatchStep:
    if works_by_record(stage):
        return _RecordStep(cast("RecordStage", stage), level, on_started)
    return _BatchStep(stage, level, on_started)


class _RecordStep:
    """A stage that is called with one record at a time, so that the guilty record is always known."""

    def __init__(self, stage: RecordStage, level: int, on_started: OnStarted | None) -> None:
        self._stage = stage
        self._level = level
        self._on_started = on_started

    def apply(self, batch: AudioBatch, tally: Tally) -> Iterator[AudioBatch]:
        started = time.perf_counter()
        pristine = pickle.dumps(batch.data, 5)  # `process_record` may change the record it is given and then fail
        process, plain = self._stage.process_record, self._stage.cardinality == "maps"
        done: list[Record] = []
        for position, record in enumerate(batch.data):
            identity = record[ID]
            try:
                if self._on_started is not None:
                    self._on_started([identity])
                result = process(record)
                if plain and type(result) is dict:
                    kept = cast("Record", result)
                    kept[ID] = identity
                    done.append(kept)
                else:
                    done.extend(self._interpret(result, identity, record, tally))
            except Exception as error:  # noqa: BLE001 (whatever a stage raises is the record's)
                retried = self._failed(error, pristine, position, tally)
                done.extend(retried)
        tally.busy(self._level, time.perf_counter() - started)
        yield batch.with_data(done)

    def _interpret(self, result: Any, identity: str, record: Record, tally: Tally) -> Iterable[Record]:
        """Hold what the stage returned for one record to its cardinality, and return the records that go on."""
        stage = self._stage
        if stage.cardinality == "splits" and result is not None and not isinstance(result, Reject):
            children = [cast("Record", result)] if isinstance(result, dict) else list(cast("Iterable[Record]", result))
            if children:
                return _numbered(children, identity, record, stage, tally)
        if isinstance(result, dict):
            cast("Record", result)[ID] = identity
            return [cast("Record", result)]
        if stage.cardinality == "maps" or (stage.cardinality == "splits" and not isinstance(result, Reject)):
            raise StageContractError(
                "contract_lost",
                f"stage {stage.name!r} {stage.cardinality}, but returned {_described(result)} for {identity}; "
                + _REMEDY[stage.cardinality],
            )
        if result is not None and not isinstance(result, Reject):
            raise TypeError(f"stage {stage.name!r} returned {_described(result)}; return the record or Reject(reason)")
        tally.filtered({**record, ID: identity}, stage.name, _reason(result, stage))
        return ()

    def _failed(self, error: Exception, pristine: bytes, position: int, tally: Tally) -> Iterable[Record]:
        """Try a failed record again as often as the stage says, then put it into quarantine."""
        attempts = 1
        while True:
            if is_infrastructure(error):
                raise as_infrastructure(error, self._stage.name)
            record: Record = pickle.loads(pristine)[position]
            if attempts > self._stage.retries:
                tally.quarantined(record, self._stage.name, *verdict(error, self._stage, record), attempts)
                return ()
            identity = record[ID]
            try:
                return self._interpret(self._stage.process_record(record), identity, record, tally)
            except Exception as next_error:  # noqa: BLE001 (as above)
                error = next_error
                attempts += 1


class _BatchStep:
    """A stage that is called with a batch, and whose failures are narrowed down by splitting it."""

    def __init__(self, stage: ProcessingStage, level: int, on_started: OnStarted | None) -> None:
        self._stage = stage
        self._level = level
        self._on_started = on_started
        self._streams = streams(stage)

    def apply(self, batch: AudioBatch, tally: Tally) -> Iterator[AudioBatch]:
        return self._attempt(batch, tally, attempts=1)

    def _attempt(self, batch: AudioBatch, tally: Tally, attempts: int) -> Iterator[AudioBatch]:
        """Call the stage, hand on what is in order, and narrow down to the record that is not."""
        pristine = pickle.dumps(batch.data, 5)
        ids = [cast("str", record[ID]) for record in batch.data]
        suspects: list[str] = []
        waiting = dict.fromkeys(ids)
        batch.on_announce = lambda records: self._announced([record[ID] for record in records], suspects)
        if self._on_started is not None and not self._streams:
            self._on_started(ids)
        outputs = self._outputs(batch)
        error: Exception | None = None
        while True:
            started = time.perf_counter()
            try:
                outs = next(outputs, None)
                handed_on = self._checked(batch, outs, ids, waiting, pristine, tally)
            except Exception as raised:  # noqa: BLE001 (whatever a stage raises is the record's)
                error = raised
                break
            finally:
                tally.busy(self._level, time.perf_counter() - started)
            yield from handed_on
            if outs is None:
                return
        if is_infrastructure(error):
            raise as_infrastructure(error, self._stage.name)
        yield from self._narrowed(batch, pristine, waiting, suspects, error, tally, attempts)

    def _announced(self, ids: list[str], suspects: list[str]) -> None:
        suspects[:] = ids
        if self._on_started is not None:
            self._on_started(ids)

    def _outputs(self, batch: AudioBatch) -> Iterator[list[AudioBatch]]:
        if self._streams:
            for part in self._stage.stream(batch):
                yield [part]
            return
        result: Any = self._stage.process(batch)
        outs: Any = [result] if isinstance(result, AudioBatch) else result
        if not isinstance(outs, list) or not all(isinstance(out, AudioBatch) for out in cast("list[Any]", outs)):
            raise TypeError(
                f"stage {self._stage.name!r} returned {_described(result)}; return the batch, or a list of batches"
            )
        yield cast("list[AudioBatch]", outs)

    def _checked(
        self,
        batch: AudioBatch,
        outs: list[AudioBatch] | None,
        ids: list[str],
        waiting: dict[str, None],
        pristine: bytes,
        tally: Tally,
    ) -> list[AudioBatch]:
        """Hold one output (None: the end) to the stage's cardinality; nothing is noted unless all of it is in order."""
        sources = [batch, *(out for out in outs or () if out is not batch)]
        rejected = [note for source in sources for note in source.rejected]
        failed = [note for source in sources for note in source.failed]
        if outs is not None and not rejected and not failed and len(outs) == 1 and len(waiting) == len(ids):
            out = outs[0]
            if self._stage.cardinality != "splits" and ids == [record.get(ID) for record in out.data]:
                waiting.clear()
                return outs
        leaving: dict[str, None] = {}
        for note in (*rejected, *failed):
            self._leave(note.record, waiting, leaving)
        parents: dict[str, list[Record]] = {}
        for record in (record for out in outs or () for record in out.data):
            identity = cast("str", record.get(ID))
            if self._stage.cardinality != "splits" or identity not in parents:
                self._leave(record, waiting, leaving)
            parents.setdefault(identity, []).append(record)
        left_out = [identity for identity in waiting if identity not in leaving] if outs is None else []
        if rejected and self._stage.cardinality == "maps":
            self._broken("contract_lost", f"rejected {rejected[0].record.get(ID)}")
        if left_out and self._stage.cardinality != "filters":
            self._broken("contract_lost", f"did not return {left_out[0]}")
        for note in rejected:
            tally.filtered(note.record, self._stage.name, note.reason)
        for note in failed:
            tally.quarantined(note.record, self._stage.name, *verdict(note.error, self._stage, note.record), 1)
        if left_out:
            by_id = {record[ID]: record for record in pickle.loads(pristine)}
            for identity in left_out:
                tally.filtered(by_id[identity], self._stage.name, _reason(None, self._stage))
        if self._stage.cardinality == "splits" and parents:
            by_id = {record[ID]: record for record in pickle.loads(pristine)}
            numbered = {
                identity: iter(_numbered(children, identity, by_id[identity], self._stage, tally))
                for identity, children in parents.items()
            }
            for out in outs or ():
                out.data = [next(numbered[record[ID]]) for record in out.data]
        for source in sources:
            source.rejected, source.failed = [], []
        for identity in leaving:
            del waiting[identity]
        return outs or []

    def _leave(self, record: Record, waiting: dict[str, None], leaving: dict[str, None]) -> None:
        identity = record.get(ID)
        if identity in leaving:
            self._broken("contract_repeated", f"returned {identity} more than once")
        if identity not in waiting:
            what = (
                "a record without its `_id`"
                if identity is None
                else f"{identity}, which it was not given or has returned"
            )
            self._broken("contract_invented", f"returned {what}")
        leaving[cast("str", identity)] = None

    def _broken(self, code: str, what: str) -> None:
        stage = self._stage
        raise StageContractError(code, f"stage {stage.name!r} {stage.cardinality}, but {what}; {_REMEDY[code]}")

    def _narrowed(
        self,
        batch: AudioBatch,
        pristine: bytes,
        waiting: dict[str, None],
        suspects: list[str],
        error: Exception,
        tally: Tally,
        attempts: int,
    ) -> Iterator[AudioBatch]:
        """Work again on the records that an attempt left unfinished, in groups that close in on the guilty one."""
        fresh: list[Record] = [record for record in pickle.loads(pristine) if record[ID] in waiting]
        if not fresh:  # the stage raised after it had returned every record; there is nobody to blame
            raise as_infrastructure(error, self._stage.name)
        if len(fresh) == 1 and attempts > self._stage.retries:
            record = fresh[0]
            tally.quarantined(record, self._stage.name, *verdict(error, self._stage, record), attempts)
            return
        suspected = set(suspects) & waiting.keys()
        if len(fresh) == 1:
            groups = [fresh]
        elif 0 < len(suspected) < len(fresh):
            groups = [
                [record for record in fresh if record[ID] in suspected],
                [record for record in fresh if record[ID] not in suspected],
            ]
        else:
            half = (len(fresh) + 1) // 2
            groups = [fresh[:half], fresh[half:]]
        for group in groups:
            yield from self._attempt(batch.with_data(group), tally, attempts + 1 if len(fresh) == 1 else 1)


_REMEDY = {
    "maps": "return the record, or declare cardinality='filters'",
    "splits": "return its parts, or Reject(reason)",
    "contract_lost": "return every record once, or declare cardinality='filters' and reject with a reason",
    "contract_repeated": "return every record once, or declare cardinality='splits'",
    "contract_invented": "change the records that came, or copy them with {**record, …}",
}


def _numbered(
    children: list[Record], identity: str, parent: Record, stage: ProcessingStage, tally: Tally
) -> list[Record]:
    """Give the children of a split record their ids, in the order in which they were yielded."""
    # copies, because a stage may well return the same dict twice
    numbered = [{**child, ID: f"{identity}/{number}"} for number, child in enumerate(children)]
    tally.split({**parent, ID: identity}, stage.name, numbered)
    return numbered


def _reason(result: Reject | None, stage: ProcessingStage) -> str:
    return f"left out by {stage.name}" if result is None else result.reason


def _described(result: object) -> str:
    return "nothing" if result is None else f"a {type(result).__name__}"
