"""The scheduler over a transport whose workers answer in any order."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from curate.engine.accounting.counts import FinishedInputs
from curate.engine.protocol.messages import (
    BatchDone,
    BatchTask,
    Event,
    Filtered,
    PartialResult,
    RecordsAnnounced,
    ResultReceived,
    Split,
    WorkerDied,
    WorkerFailed,
    WorkerReady,
)
from curate.engine.scheduling.scheduler import InputBatch, Scheduler
from curate.errors import AccountingError, InfrastructureError
from curate.plan import Hop, PlannedStage
from curate.records import AudioBatch, Record
from curate.resources import Resources
from curate.stage_decorator import processing_stage

Answer = Callable[[BatchTask], list[PartialResult]]


@processing_stage(name="copied")
def copied(batch: AudioBatch) -> AudioBatch:
    return batch  # a stage that sees batches, so that none of them travel together


def whole(work: BatchTask) -> list[PartialResult]:
    ids = [record["_id"] for record in work.records]
    return [PartialResult(work.number, list(work.records), ids, [0] * len(ids))]


def one_by_one(work: BatchTask) -> list[PartialResult]:
    return [PartialResult(work.number, [record], [record["_id"]], [0]) for record in reversed(work.records)]


def doubled(work: BatchTask) -> list[PartialResult]:
    parts: list[PartialResult] = []
    for record in work.records:
        identity = record["_id"]
        children: list[Any] = [{**record, "_id": f"{identity}/{k}"} for k in range(2)]
        parts.append(
            PartialResult(work.number, children, [identity] * 2, [0, 0], splits=[Split(identity, "d", 2, 0, 0)])
        )
    return parts


class FakeTransport:
    """Workers on paper: each event is the next answer of a worker drawn by lot."""

    setup_attempts = 1
    setup_timeout_s = float("inf")
    can_kill = False

    def __init__(self, *hops: Answer, in_flight: int = 2, seed: int = 0) -> None:
        self.max_in_flight = in_flight
        self.workers: list[int] = []
        self.sent: list[tuple[int, BatchTask]] = []
        self.most_waiting = 0
        self._hops = hops
        self._random = random.Random(seed)
        self._answers: dict[int, deque[Event]] = {}
        self._started: list[Event] = []

    def room(self, hop: int) -> int:
        return 100

    def start(self, hop: int, slot: int) -> int:
        worker = len(self.workers)
        self.workers.append(hop)
        self._answers[worker] = deque()
        self._started.append(WorkerReady(worker))
        return worker

    def send(self, worker: int, work: BatchTask) -> int:
        self.sent.append((worker, work))
        answers = self._answers[worker]
        answers.append(RecordsAnnounced(worker, work.number, {0: None}))
        answers.extend(ResultReceived(worker, part) for part in self._hops[self.workers[worker]](work))
        answers.append(BatchDone(worker, work.number))
        waiting = sum(isinstance(event, BatchDone) for event in answers)
        self.most_waiting = max(self.most_waiting, waiting)
        assert waiting <= self.max_in_flight
        return 0

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        if self._started:
            started, self._started = self._started, []
            return started
        busy = [worker for worker, answers in self._answers.items() if answers]
        return [self._answers[self._random.choice(busy)].popleft()]

    def kill(self, worker: int) -> None:
        raise AssertionError("nobody is killed here")

    def close(self) -> None:
        pass


def hops(*workers: int | None, name: str = "a") -> tuple[Hop, ...]:
    """Return planned hops of one stage each."""
    return tuple(
        Hop((PlannedStage(f"{name}{number or ''}", "processing", copied, None),), Resources(), count)
        for number, count in enumerate(workers)
    )


def batches(count: int, size: int = 3, read: list[int] | None = None, **names: Any) -> Iterator[InputBatch]:
    for number in range(count):
        if read is not None:
            read.append(number)
        seqs = range(number * size, (number + 1) * size)
        yield InputBatch(AudioBatch([{"_id": f"r:{seq}"} for seq in seqs], **names), seqs)


def run(transport: FakeTransport, workers: list[int], feed: Iterator[Any]) -> dict[int, list[Record]]:
    rows: dict[int, list[Record]] = {}
    for settled in Scheduler(transport, hops(*workers)).run(feed):
        for seq in settled.seqs:
            assert seq not in rows
            rows[seq] = []
        for seq, row in zip(settled.row_seqs, settled.rows, strict=True):
            rows[seq].append(row)  # pyright: ignore
    return rows


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("workers", [[1], [3], [2, 3], [3, 1, 2]])
@pytest.mark.parametrize("answer", [whole, one_by_one])
def test_every_root_is_settled_once_whatever_the_order_of_the_answers(
    answer: Answer, workers: list[int], seed: int
) -> None:
    transport = FakeTransport(*[answer] * len(workers), seed=seed)
    rows = run(transport, workers, batches(20))
    assert {seq: [row["_id"] for row in kept] for seq, kept in rows.items()} == {seq: [f"r:{seq}"] for seq in range(60)}
    assert sorted(transport.workers) == sorted(hop for hop, count in enumerate(workers) for _ in range(count))


@pytest.mark.parametrize("seed", range(5))
def test_children_find_back_to_their_root_through_several_hops(seed: int) -> None:
    rows = run(FakeTransport(doubled, one_by_one, doubled, seed=seed), [2, 2, 2], batches(10))
    assert {seq: [row["_id"] for row in kept] for seq, kept in rows.items()} == {
        seq: [f"r:{seq}/{a}/{b}" for a in range(2) for b in range(2)] for seq in range(30)
    }


def test_all_workers_get_work() -> None:
    transport = FakeTransport(whole)
    run(transport, [4], batches(40))
    assert {worker for worker, _ in transport.sent} == {0, 1, 2, 3}
    assert transport.most_waiting == 2


def test_the_feed_is_read_only_as_far_as_workers_have_room() -> None:
    read: list[int] = []
    scheduler = Scheduler(FakeTransport(whole, in_flight=1), hops(1))
    running = scheduler.run(batches(1000, read=read))
    next(running)
    assert len(read) == 1
    next(running)
    assert len(read) == 2


def test_a_slow_last_hop_holds_the_first_one_back() -> None:
    read: list[int] = []
    settled = 0

    class SlowLast(FakeTransport):
        def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
            first = [event for worker in (0, 1) for event in self._pop(worker)]
            return first or super().wait(timeout_s)

        def _pop(self, worker: int) -> list[Event]:
            answers = self._answers[worker]
            return [answers.popleft()] if answers and self.workers[worker] == 0 else []

    transport = SlowLast(one_by_one, whole)
    most = 0
    for outcome in Scheduler(transport, hops(2, 1)).run(batches(300, read=read)):
        settled += len(outcome.seqs)
        most = max(most, len(read) * 3 - settled)
    assert settled == 900
    # 2 workers with 2 batches each, 3 batches queued, 2 at the last worker, of 3 records each, and what one event adds
    assert most <= 3 * (4 + 3 + 2 + 4)


def test_parts_of_one_batch_travel_on_together_but_batches_do_not_melt_into_one() -> None:
    transport = FakeTransport(one_by_one, whole, in_flight=1)
    run(transport, [2, 1], batches(30, size=10))
    sizes = [len(work.records) for worker, work in transport.sent if transport.workers[worker] == 1]
    assert max(sizes) <= 10
    assert sum(sizes) / len(sizes) > 2


def test_a_batch_keeps_its_description_through_hops() -> None:
    transport = FakeTransport(whole, whole)
    run(transport, [1, 1], batches(2, filepath_key="path", task_id="t", dataset_name="d"))
    assert {(w.filepath_key, w.task_id, w.dataset_name) for _, w in transport.sent} == {("path", "t", "d")}


def test_roots_that_the_feed_has_settled_pass_through() -> None:
    def feed() -> Iterator[InputBatch | FinishedInputs]:
        yield from batches(1)
        yield FinishedInputs([3], [], [], 0, 0)

    assert sorted(run(FakeTransport(whole), [1], feed())) == [0, 1, 2, 3]


def test_nothing_to_do_is_done_at_once() -> None:
    assert run(FakeTransport(whole), [2], iter(())) == {}


def test_a_worker_that_forgets_a_record_is_found_out() -> None:
    def forgets(work: BatchTask) -> list[PartialResult]:
        ids = [record["_id"] for record in work.records[1:]]
        return [PartialResult(work.number, list(work.records[1:]), ids, [0] * len(ids))]

    with pytest.raises(AccountingError, match="workers are idle, but not finished: r:0"):
        run(FakeTransport(forgets), [1], batches(1))


def test_a_worker_that_is_in_trouble_stops_the_run() -> None:
    class Fails(FakeTransport):
        def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
            return [WorkerFailed(0, InfrastructureError("the model is missing"))]

    with pytest.raises(InfrastructureError, match="the model is missing"):
        run(Fails(whole), [1], batches(1))


def test_a_worker_that_dies_as_it_is_set_up_stops_the_run() -> None:
    class Dies(FakeTransport):
        def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
            return [WorkerDied(0, "signal 11")]

    with pytest.raises(InfrastructureError, match="a worker of a died while it was set up: signal 11"):
        run(Dies(whole), [1], batches(1))


def test_busy_seconds_are_added_up_by_stage() -> None:
    def timed(work: BatchTask) -> list[PartialResult]:
        (part,) = whole(work)
        part.busy_s = [0.5]
        return [part]

    scheduler = Scheduler(FakeTransport(timed), hops(1))
    list(scheduler.run(batches(4)))
    assert scheduler.take_busy_s() == {"a": 2.0}
    assert scheduler.take_busy_s() == {}


def test_filtered_records_are_settled_where_they_are_left_out() -> None:
    def drops(work: BatchTask) -> list[PartialResult]:
        return [
            PartialResult(work.number, [], [], [], filtered=[Filtered(r["_id"], r, "f", "no") for r in work.records])
        ]

    transport = FakeTransport(drops, whole)
    assert run(transport, [1, 1], batches(2)) == {seq: [] for seq in range(6)}
    assert {transport.workers[worker] for worker, _ in transport.sent} == {0}
