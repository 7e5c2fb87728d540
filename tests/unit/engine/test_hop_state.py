"""How batches are shared out: how far ahead, in which pieces, and when a hop must wait for the one behind it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Deed, ScriptedTransport, batches, hops, kept, run, scheduler

from curate import Pipeline, processing_stage
from curate.engine.protocol.messages import BatchTask, RecordsAnnounced
from curate.engine.scheduling.batch_sizer import LONG_BATCH_S, MAX_MERGED
from curate.engine.scheduling.hop_state import QUEUE_BYTES, HopState
from curate.engine.scheduling.scheduler import InputBatch
from curate.engine.scheduling.worker_pool import IN_FLIGHT_BYTES
from curate.records import Record
from curate.stages import ReadRecords


class Counting(ScriptedTransport):
    """Remembers how many batches a worker had at the most, and with how many bytes."""

    most = 0
    most_bytes = 0

    def send(self, worker: int, work: BatchTask) -> int:
        size = super().send(worker, work)
        inbox = self.actors[worker].inbox
        self.most = max(self.most, len(inbox))
        self.most_bytes = max(self.most_bytes, sum(map(self._size, inbox)))
        return size


def taking(*seconds: float) -> Any:
    def script(hop: int, record: Record) -> Deed:
        return seconds[hop]

    return script


@pytest.mark.parametrize(
    ("record_s", "most"), [(LONG_BATCH_S / 10, 1), (0.15, 2), (0.003, 2), (0.0003, 3), (0.00011, 6), (0.00001, 8)]
)
def test_short_batches_are_sent_further_ahead_than_long_ones(record_s: float, most: int) -> None:
    """Of ten records each: a long one can still be split for an idle worker as long as nobody has it."""
    transport = Counting(taking(record_s), in_flight=8)
    scheduling = scheduler(transport, hops(1), reads_ahead=False)
    assert sum(len(settled.seqs) for settled in scheduling.run(batches(*[10] * 50))) == 500
    assert transport.most == most


def test_a_worker_gets_no_second_batch_while_it_has_many_bytes() -> None:
    heavy = Counting(taking(0.0002), in_flight=8, size=lambda work: IN_FLIGHT_BYTES)
    run(heavy, hops(2), batches(*[10] * 20))
    assert heavy.most == 1
    light = Counting(taking(0.0005), in_flight=8, size=lambda work: IN_FLIGHT_BYTES // 2)
    run(light, hops(2), batches(*[10] * 20))
    assert light.most_bytes <= IN_FLIGHT_BYTES


def test_stages_at_work_are_those_of_which_a_worker_has_announced_records() -> None:
    names = ("vad", "asr")

    def same(record: dict) -> dict:
        return record

    stages = [processing_stage(name=name, reads=[], writes=[])(same) for name in names]
    [hop] = Pipeline("p", [ReadRecords([{"n": 1}]), *stages]).plan().phases[0].hops
    state = HopState(hop, 0, 2)
    assert state.at_work() == []
    state.workers.add(1, 0, 0.0)
    worker = state.workers.find(1)
    assert worker is not None
    state.workers.assign(worker, BatchTask(7, [{"_id": "a:1"}], "", "", ""), 0, 0.0)
    assert state.at_work() == ["vad", "asr"], "nothing is announced yet"
    state.workers.record_announcement(worker, RecordsAnnounced(1, 7, {1: range(1)}))
    assert state.at_work() == ["asr"]
    state.workers.release(worker, 7)
    assert state.at_work() == []


@pytest.mark.parametrize("weigh", [0, QUEUE_BYTES])
def test_a_hop_waits_for_a_slower_one_behind_it(weigh: int) -> None:
    """In batches, and where these are heavy, in bytes."""
    read: list[int] = []
    transport = ScriptedTransport(taking(0.003, 0.3), room=(9, 9), size=lambda work: weigh)
    running = scheduler(transport, hops(1, 1)).run(batches(*[10] * 60, read=read))
    ahead = [len(read) - settled.seqs[-1] // 10 for settled in running]
    assert len(read) == 60
    # two at the first worker, what waits between the hops, two at the last one
    assert max(ahead) <= (8 if weigh == 0 else 5)


def test_one_batch_is_shared_out_among_idle_workers() -> None:
    transport = ScriptedTransport(taking(1.0))
    assert run(transport, hops(4), batches(100)).rows == kept(100)
    assert [len(sent.ids) for sent in transport.sent] == [25, 25, 25, 25]
    assert {sent.worker for sent in transport.sent} == {0, 1, 2, 3}
    assert transport.clock.now == pytest.approx(25.0)


def test_the_last_batches_go_out_in_ever_smaller_pieces() -> None:
    """So that nobody waits long for the last one to end: with an uneven number of large batches as well."""
    transport = ScriptedTransport(taking(1.0), part=1)
    assert run(transport, hops(3), batches(*[30] * 10)).rows == kept(300)
    assert transport.clock.now <= 100.0 * 1.05
    last = [len(sent.ids) for sent in transport.sent[-6:]]
    assert last[0] >= last[-1]
    assert last[-1] <= 3


def test_quick_batches_are_not_split() -> None:
    transport = ScriptedTransport(taking(0.0001), part=1)
    scheduling = scheduler(transport, hops(4))
    assert sum(len(settled.seqs) for settled in scheduling.run(batches(*[20] * 40))) == 800
    assert min(len(sent.ids) for sent in transport.sent[8:]) >= 20


def test_very_quick_batches_travel_together() -> None:
    transport = ScriptedTransport(taking(1e-6))
    assert run(transport, hops(1), batches(*[2] * 400)).rows == kept(800)
    assert MAX_MERGED < max(len(sent.ids) for sent in transport.sent) <= 2 * MAX_MERGED


def test_batches_of_different_descriptions_do_not_travel_together() -> None:
    described: list[tuple[str, str, Record]] = []

    class Describing(ScriptedTransport):
        def send(self, worker: int, work: BatchTask) -> int:
            described.extend((work.filepath_key, work.dataset_name, record) for record in work.records)
            return super().send(worker, work)

    def feed() -> Any:
        for number, incoming in enumerate(batches(*[2] * 100)):
            batch = incoming.batch
            batch.filepath_key, batch.dataset_name = ("left", "right")[number // 10 % 2], f"d{number // 20}"
            for record in batch.data:
                record["expected"] = batch.filepath_key, batch.dataset_name
            yield InputBatch(batch, incoming.seqs)

    transport = Describing(taking(1e-6, 1e-6), room=(9, 9))
    assert run(transport, hops(1, 1), feed()).rows == kept(200)
    assert max(len(sent.ids) for sent in transport.sent) > 2
    assert all((key, name) == record["expected"] for key, name, record in described)


def test_what_is_narrowed_down_does_not_travel_together_again() -> None:
    bad = frozenset({"r:391", "r:777"})
    transport = ScriptedTransport(taking(1e-6), unsendable=bad)
    outcome = run(transport, hops(1), batches(*[2] * 400))
    assert set(outcome.codes) == bad


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    workers=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    record_s=st.sampled_from([1e-6, 0.0005, 0.005, 0.1, 3.0]),
    part=st.sampled_from([1, 7, 1000]),
    in_flight=st.integers(1, 6),
)
def test_however_batches_are_cut_no_record_is_lost_or_worked_on_twice(
    sizes: list[int], workers: list[int], record_s: float, part: int, in_flight: int
) -> None:
    transport = ScriptedTransport(
        taking(*[record_s] * len(workers)), room=[9] * len(workers), part=part, in_flight=in_flight
    )
    assert run(transport, hops(*workers), batches(*sizes)).rows == kept(sum(sizes))
    for hop in range(len(workers)):
        times = Counter(identity for sent in transport.sent if sent.hop == hop for identity in sent.ids)
        assert times == {f"r:{seq}": 1 for seq in range(sum(sizes))}
