"""What the scheduler does when a worker is gone: the guilty record is found, and its neighbours go on."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import QUICK_S, Deed, ScriptedTransport, batches, hops, kept, run, scheduler

from curate.engine.protocol.messages import BatchTask
from curate.engine.scheduling.scheduler import MAX_ISOLATED
from curate.records import ID, Record


def ends(how: str, *guilty: int, times: int = 1_000_000) -> Any:
    """Return a script in which records end their worker, the first so many times."""
    left = dict.fromkeys((f"r:{number}" for number in guilty), times)

    def script(hop: int, record: Record) -> Deed:
        if left.get(record[ID], 0) > 0:
            left[record[ID]] -= 1
            return how
        return QUICK_S

    return script


class Watched(ScriptedTransport):
    """Checks that a suspect is alone with its worker, and the only one on trial."""

    suspects: frozenset[str] = frozenset()

    def send(self, worker: int, work: BatchTask) -> int:
        on_trial = [actor.number for actor in self.actors if actor.alive and self._tried(actor.inbox)]
        if self._tried([work]):
            assert on_trial == [], "two suspects at once"
            assert not self.actors[worker].inbox, "a suspect is not alone"
        assert worker not in on_trial, "a worker with a suspect gets something else"
        return super().send(worker, work)

    def _tried(self, works: Any) -> bool:
        return any(len(work.records) == 1 and work.records[0][ID] in self.suspects for work in works)


@pytest.mark.parametrize("part", [1, 4, 1000])
def test_the_guilty_record_goes_alone_and_the_rest_as_it_was(part: int) -> None:
    transport = ScriptedTransport(ends("dies", 3), part=part)
    outcome = run(transport, hops(1), batches(10))
    assert outcome.rows == kept(10, 3)
    assert transport.batches_of("r:3") == [10, 1]
    assert transport.batches_of("r:9") == [10, {1: 6, 4: 9, 1000: 9}[part]]
    note = outcome.quarantined["r:3"]
    assert (note.stage, note.code, note.attempts) == ("a0", "worker_died", 1)
    assert note.message == "the worker died on this record alone: killed by SIGSEGV"


def test_what_was_queued_behind_is_no_suspect() -> None:
    transport = ScriptedTransport(ends("dies", 0))
    outcome = run(transport, hops(1), batches(5, 5, 5))
    assert outcome.codes == {"r:0": "worker_died"}
    assert set(transport.batches_of("r:7")) == {5}


def test_suspects_go_alone_one_at_a_time() -> None:
    def three(work: BatchTask, position: int) -> list[int]:
        return list(range(position, min(position + 3, len(work.records))))

    transport = Watched(ends("dies", 4, 12), touches=three, in_flight=4)
    transport.suspects = frozenset(f"r:{number}" for number in (4, 5, 6, 12, 13, 14))
    outcome = run(transport, hops(2), batches(*[10] * 6))
    assert outcome.rows == kept(60, 4, 12)
    assert outcome.codes == {"r:4": "worker_died", "r:12": "worker_died"}
    alone = {identity for identity in transport.suspects if 1 in transport.batches_of(identity)}
    assert alone == transport.suspects


@pytest.mark.parametrize(
    ("how", "retries", "attempts"),
    [("dies", 0, 1), ("dies", 2, 3), ("killed", 0, 3), ("killed", 1, 3), ("killed", 4, 5)],
)
def test_so_often_must_a_worker_die_on_a_record_alone(how: str, retries: int, attempts: int) -> None:
    transport = ScriptedTransport(ends(how, 3))
    outcome = run(transport, hops(2, retries=retries), batches(10, 10))
    assert outcome.quarantined["r:3"].attempts == attempts
    assert transport.batches_of("r:3")[1:] == [1] * attempts
    assert outcome.codes == {"r:3": "worker_died"}

    forgiven = ScriptedTransport(ends(how, 3, times=attempts))
    assert run(forgiven, hops(2, retries=retries), batches(10, 10)).rows == kept(20)
    assert forgiven.batches_of("r:3")[1:] == [1] * attempts


@pytest.mark.parametrize("times", [1, 2])
def test_the_loss_of_a_node_makes_nobody_a_suspect(times: int) -> None:
    transport = ScriptedTransport(ends("vanishes", 3, times=times))
    assert run(transport, hops(2), batches(10, 10)).rows == kept(20)
    assert transport.batches_of("r:3") == [10] * (times + 1)


def test_a_batch_whose_nodes_are_lost_three_times_is_looked_into() -> None:
    transport = ScriptedTransport(ends("vanishes", 3, times=3))
    assert run(transport, hops(2), batches(10, 10)).rows == kept(20)
    assert transport.batches_of("r:3") == [10, 10, 10, 1]


def test_a_record_that_always_takes_its_node_along_is_guilty_in_the_end() -> None:
    transport = ScriptedTransport(ends("vanishes", 3))
    outcome = run(transport, hops(2), batches(10, 10))
    assert outcome.rows == kept(20, 3)
    assert transport.batches_of("r:3") == [10, 10, 10, 1, 1, 1]
    assert outcome.quarantined["r:3"].message == "the worker died on this record alone: its node is gone"


def test_very_many_suspects_are_narrowed_down_in_groups_first() -> None:
    transport = ScriptedTransport(ends("dies", 70), touches=lambda work, position: None)
    outcome = run(transport, hops(1), batches(100))
    assert outcome.codes == {"r:70": "worker_died"}
    assert transport.batches_of("r:70") == [100, 12, 1]
    assert sum(len(sent.ids) == 1 for sent in transport.sent) == 12 <= MAX_ISOLATED


def test_a_suspect_does_not_wait_until_everybody_is_idle_by_chance() -> None:
    """All workers always have work ahead; the least busy one is kept free for it."""
    transport = ScriptedTransport(ends("dies", 3), in_flight=4)
    outcome = run(transport, hops(2), batches(*[5] * 200))
    assert outcome.codes == {"r:3": "worker_died"}
    ids = [sent.ids for sent in transport.sent]
    first = next(number for number, batch in enumerate(ids) if "r:3" in batch)
    assert ids.index(("r:3",)) - first < 20


def test_a_worker_that_dies_idle_is_replaced_in_its_place() -> None:
    transport = ScriptedTransport(lambda hop, record: 1.0, part=1)
    transport.after(2.5, lambda: transport.end(1, "killed by SIGKILL", killed_externally=True))
    outcome = run(transport, hops(2), batches(2, 2, 4, 4))
    assert outcome.rows == kept(12)
    assert [actor.slot for actor in transport.actors] == [0, 1, 1]


def test_deaths_in_a_later_hop_do_not_touch_the_earlier_one() -> None:
    def script(hop: int, record: Record) -> Deed:
        return "dies" if hop == 1 and record[ID] in ("r:3/1", "r:4/0") else QUICK_S

    transport = ScriptedTransport(script, room=(9, 9), children=lambda hop, record: 2 if hop == 0 else 0)
    outcome = run(transport, hops(1, 2), batches(5, 5))
    assert outcome.codes == {"r:3/1": "worker_died", "r:4/0": "worker_died"}
    assert outcome.quarantined["r:3/1"].stage == "a1"
    whole = {seq: [f"r:{seq}/0", f"r:{seq}/1"] for seq in range(10)}
    assert outcome.rows == whole | {3: ["r:3/0"], 4: ["r:4/1"]}


def test_a_batch_that_cannot_be_sent_is_narrowed_down_to_the_record() -> None:
    transport = ScriptedTransport(unsendable=frozenset({"r:3", "r:8"}))
    outcome = run(transport, hops(1), batches(10))
    assert outcome.rows == kept(10, 3, 8)
    assert outcome.codes == {"r:3": "bad_value", "r:8": "bad_value"}
    assert outcome.quarantined["r:3"].message == "the record cannot be sent to a worker: it holds a lock"
    assert not {"r:3", "r:8"}.intersection(*(sent.ids for sent in transport.sent))


def test_batches_that_cannot_be_sent_do_not_stop_the_feed() -> None:
    """Nothing is in flight then, so there is nothing to wait for."""
    transport = ScriptedTransport(unsendable=frozenset({"r:0", "r:2"}))
    assert run(transport, hops(1), batches(1, 1, 1)).rows == kept(3, 0, 2)


def test_a_batch_that_cannot_be_read_is_narrowed_down_to_the_record() -> None:
    transport = ScriptedTransport(unreadable=frozenset({"r:3"}))
    outcome = run(transport, hops(2), batches(10, 10))
    assert outcome.rows == kept(20, 3)
    assert outcome.quarantined["r:3"].message == "the worker could not read the record: a value does not arrive"
    assert transport.batches_of("r:3")[-1] == 1
    assert len(transport.actors) == 2


def test_a_drain_lets_workers_finish_and_ends_at_its_grace() -> None:
    def script(hop: int, record: Record) -> Deed:
        return "hangs" if record[ID] == "r:5" else 1.0

    transport = ScriptedTransport(script, part=1, in_flight=1)
    planned = hops(2)
    scheduling = scheduler(transport, planned)
    running = scheduling.run(batches(*[5] * 40))
    next(running)
    begun, sent = transport.clock.now, len(transport.sent)
    done = [seq for settled in scheduling.drain(10.0) for seq in settled.seqs]
    assert sorted(done) == [1, 2, 3, 4]
    assert transport.clock.now == begun + 10.0
    assert len(transport.sent) == sent


def test_a_drain_ends_early_when_nothing_is_left() -> None:
    transport = ScriptedTransport(lambda hop, record: 1.0, part=1, in_flight=1)
    scheduling = scheduler(transport, hops(2))
    next(scheduling.run(batches(*[5] * 40)))
    assert sum(len(settled.seqs) for settled in scheduling.drain(1000.0)) >= 8
    assert transport.clock.now < 10.0


ENDS = ("dies", "killed", "vanishes", "hangs")


@st.composite
def chaos(draw: st.DrawFn) -> dict[str, Any]:
    """Draw batches, hops, guilty records and what else happens to workers."""
    hop_count = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    total = sum(sizes)
    numbers = st.integers(0, total - 1)
    return {
        "sizes": sizes,
        "workers": draw(st.lists(st.none() | st.integers(1, 4), min_size=hop_count, max_size=hop_count)),
        "guilty": draw(
            st.dictionaries(st.tuples(st.integers(0, hop_count - 1), numbers), st.sampled_from(ENDS), max_size=6)
        ),
        "part": draw(st.sampled_from([1, 3, 1000])),
        "ahead": draw(st.sampled_from([1, 4, None])),
        "in_flight": draw(st.integers(1, 5)),
        "splits": draw(st.integers(0, 3)),
        "seconds": draw(st.sampled_from([0.0001, 0.01, 1.0])),
        "kills": draw(st.lists(st.tuples(st.floats(0.0, 20.0), st.integers(0, 20), st.booleans()), max_size=2)),
        "retries": draw(st.integers(0, 1)),
        "timeout_s": draw(st.sampled_from([None, 4.0])),
        "unsendable": draw(st.sets(numbers, max_size=1)),
    }


@given(chaos())
def test_whatever_happens_every_root_is_settled_once_and_only_the_guilty_are_convicted(drawn: dict[str, Any]) -> None:
    """Two kills from outside, at the most, are too few to convict anybody."""
    splitting = 0 if drawn["splits"] else None
    """The first hop splits, so later hops see children."""

    def root_of(record: Record) -> int:
        return int(record[ID].partition("/")[0].removeprefix("r:"))

    def is_chosen(hop: int, record: Record) -> bool:
        """Of the children of a guilty record, those with an even number are guilty."""
        _, _, child = record[ID].partition("/")
        return (hop, root_of(record)) in drawn["guilty"] and (not child or int(child) % 2 == 0)

    def script(hop: int, record: Record) -> Deed:
        return drawn["guilty"][hop, root_of(record)] if is_chosen(hop, record) else drawn["seconds"]

    def count_children(hop: int, record: Record) -> int:
        return zlib.crc32(record[ID].encode()) % (drawn["splits"] + 1) if hop == splitting else 0

    def touches(work: BatchTask, position: int) -> list[int] | None:
        ahead = drawn["ahead"]
        return None if ahead is None else list(range(position, min(position + ahead, len(work.records))))

    hop_count, total = len(drawn["workers"]), sum(drawn["sizes"])
    unsendable = frozenset(f"r:{number}" for number in drawn["unsendable"] if number < total)
    transport = ScriptedTransport(
        script,
        room=[4] * hop_count,
        part=drawn["part"],
        touches=touches,
        in_flight=drawn["in_flight"],
        children=count_children,
        unsendable=unsendable,
    )

    def kill(victim: int, node_lost: bool) -> None:
        there = [actor.number for actor in transport.actors if actor.alive and actor.ready]
        if there:
            transport.end(
                there[victim % len(there)], "killed by SIGKILL", killed_externally=not node_lost, node_lost=node_lost
            )

    for at_s, victim, node_lost in drawn["kills"]:
        transport.after(at_s, lambda victim=victim, node_lost=node_lost: kill(victim, node_lost))
    planned = hops(*drawn["workers"], retries=drawn["retries"], timeout_s=drawn["timeout_s"])
    outcome = run(transport, planned, batches(*drawn["sizes"]))

    rows: dict[int, list[str]] = {}
    codes: dict[str, str] = {}
    for seq in range(total):
        rows[seq] = []
        going: list[Record] = [{ID: f"r:{seq}"}]
        for hop in range(hop_count):
            passed: list[Record] = []
            for record in going:
                if hop == 0 and record[ID] in unsendable:
                    codes[record[ID]] = "bad_value"
                elif is_chosen(hop, record):
                    codes[record[ID]] = "timeout" if drawn["guilty"][hop, seq] == "hangs" else "worker_died"
                else:
                    count = count_children(hop, record)
                    passed += [{ID: f"{record[ID]}/{k}"} for k in range(count)] if count else [record]
            going = passed
        rows[seq] = [record[ID] for record in going]
    assert outcome.rows == rows
    assert outcome.codes.keys() == codes.keys()
    if not drawn["kills"]:  # one that hangs may as well be killed by somebody else
        assert outcome.codes == codes
