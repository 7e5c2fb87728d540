"""Which workers are started, and when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from scripted import Deed, ScriptedTransport, batches, hops, kept, run, scheduler

from curate.errors import InfrastructureError
from curate.plan import Hop, PlannedStage
from curate.records import Record
from curate.resources import Resources
from curate.stage import ProcessingStage
from curate.stage_decorator import processing_stage


class WholeBatches(ProcessingStage):
    """A stage whose batches are never split, as shards are."""

    name = "packs"
    whole_batches = True


def setups(*how: float | str) -> Callable[[int], float | str]:
    """Return what becomes of the first workers; all others are ready at once."""
    return lambda started: how[started] if started < len(how) else 0.0


def by_hop(*seconds: float) -> Any:
    """Return a script in which records take so long in each hop."""

    def script(hop: int, record: Record) -> Deed:
        return seconds[hop]

    return script


def started(transport: ScriptedTransport) -> list[int]:
    """Return how many workers were started for each hop."""
    counts = Counter(actor.hop for actor in transport.actors)
    return [counts[hop] for hop in range(max(counts, default=-1) + 1)]


@pytest.mark.parametrize("how", ["fails", "dies"])
def test_a_setup_that_fails_is_tried_again_after_ever_longer(how: str) -> None:
    transport = ScriptedTransport(setup=setups(how, how), setup_attempts=3)
    assert run(transport, hops(1), batches(5)).rows == kept(5)
    assert transport.started_at == [0.0, 1.0, 3.0]
    assert [actor.slot for actor in transport.actors] == [0, 0, 0]


@pytest.mark.parametrize(
    ("how", "told"), [("fails", "the model is missing"), ("dies", "a worker of a0 died while it was set up: killed by")]
)
@pytest.mark.parametrize("attempts", [1, 3])
def test_a_setup_that_fails_too_often_stops_the_run(how: str, told: str, attempts: int) -> None:
    transport = ScriptedTransport(setup=lambda started: how, setup_attempts=attempts)
    with pytest.raises(InfrastructureError, match=told):
        run(transport, hops(1), batches(5))
    assert len(transport.actors) == attempts


def test_a_setup_that_hangs_is_ended_and_tried_again() -> None:
    transport = ScriptedTransport(setup=setups("hangs"))
    assert run(transport, hops(1), batches(5)).rows == kept(5)
    assert transport.killed == [0]
    assert transport.started_at == [0.0, transport.setup_timeout_s + 1.0]


def test_a_setup_that_hangs_too_often_stops_the_run() -> None:
    transport = ScriptedTransport(setup=lambda started: "hangs", setup_attempts=2)
    with pytest.raises(InfrastructureError, match="a worker of a0 was not set up after 60 s"):
        run(transport, hops(1), batches(5))


def test_a_setup_may_take_its_time() -> None:
    transport = ScriptedTransport(setup=lambda started: 59.0)
    assert run(transport, hops(2, timeout_s=1.0), batches(5, 5)).rows == kept(10)
    assert transport.killed == []


def test_a_setup_that_works_forgives_those_that_did_not() -> None:
    """Two fail, one works and dies later, two fail again: never three in a row."""
    transport = ScriptedTransport(setup=setups("fails", "fails", 0.0, "fails", "fails"), setup_attempts=3)
    transport.after(3.0005, lambda: transport.end(2, "killed by SIGKILL", killed_externally=True))
    assert run(transport, hops(1), batches(5)).rows == kept(5)
    assert len(transport.actors) == 6


def test_work_goes_on_while_others_are_set_up() -> None:
    transport = ScriptedTransport(lambda hop, record: 1.0, setup=setups(0.0, 30.0), part=1)
    assert run(transport, hops(2), batches(*[5] * 4)).rows == kept(20)
    assert {sent.worker for sent in transport.sent if sent.at_s < 20} == {0}


def test_no_worker_is_started_when_there_is_nothing_to_do() -> None:
    transport = ScriptedTransport()
    assert run(transport, hops(3, 2), batches()).rows == {}
    assert transport.actors == []


@pytest.mark.parametrize(("sizes", "expected"), [((1,), 1), ((1, 1, 1), 3), ((2,), 2), ((500,), 8)])
def test_no_more_workers_are_started_than_there_are_records(sizes: tuple[int, ...], expected: int) -> None:
    transport = ScriptedTransport(room=(8,))
    run(transport, hops(None), batches(*sizes))
    assert started(transport) == [expected]


@pytest.mark.parametrize("workers", [None, 8])
@pytest.mark.parametrize(("sizes", "expected"), [((500,), 1), ((50, 50, 1), 3), ((50,) * 8, 8), ((50,) * 20, 8)])
def test_workers_of_whole_batches_are_no_more_than_the_batches(
    workers: int | None, sizes: tuple[int, ...], expected: int
) -> None:
    planned = [Hop((PlannedStage("packs", "processing", WholeBatches(), None),), Resources(), workers)]
    transport = ScriptedTransport(room=(8,), part=50)
    assert run(transport, planned, batches(*sizes)).rows == kept(sum(sizes))
    assert started(transport) == [expected]


def test_worker_of_the_only_whole_batch_that_dies_is_replaced() -> None:
    planned = [Hop((PlannedStage("packs", "processing", WholeBatches(), None),), Resources(), 4)]
    transport = ScriptedTransport(lambda hop, record: 1.0, room=(8,))
    transport.after(3.5, lambda: transport.end(0, "killed by SIGKILL", killed_externally=True))
    assert run(transport, planned, batches(10)).rows == kept(10)
    assert [actor.slot for actor in transport.actors] == [0, 0]


def test_a_hop_that_splits_may_make_many_records_of_one() -> None:
    @processing_stage(name="splits", cardinality="splits")
    def splits(record: dict) -> list:
        raise AssertionError("workers on paper call nobody")

    planned = [Hop((PlannedStage("splits", "processing", splits, None),), Resources(), 4), *hops(4)]
    transport = ScriptedTransport(room=(9, 9), children=lambda hop, record: 50 if hop == 0 else 0)
    run(transport, planned, batches(2))
    assert started(transport) == [2, 4]


def test_a_single_hop_takes_all_the_room() -> None:
    transport = ScriptedTransport(lambda hop, record: 0.1, room=(6,), setup=lambda started: 8.0)
    run(transport, hops(None), batches(*[10] * 50))
    assert started(transport) == [6]
    assert set(transport.started_at) == {0.0}  # a worker that waits for the speed of another is late by its set-up


@pytest.mark.parametrize("slow", [0, 1, 2])
def test_the_slowest_hop_grows_until_there_is_no_room(slow: int) -> None:
    seconds = [0.01, 0.01, 0.01]
    seconds[slow] = 0.2
    transport = ScriptedTransport(by_hop(*seconds), room=(4, 4, 4), part=1)
    assert run(transport, hops(None, None, None), batches(*[5] * 100)).rows == kept(500)
    assert started(transport) == [4 if hop == slow else 1 for hop in range(3)]


def test_it_grows_no_further_than_feeds_the_others() -> None:
    """A hop that takes four times as long gets about four workers, and not all the room."""
    transport = ScriptedTransport(by_hop(0.1, 0.4), room=(1, 20), part=1)
    run(transport, hops(None, None), batches(*[5] * 100))
    assert 3 <= started(transport)[1] <= 6


def test_explicit_numbers_of_workers_stay_as_they_are() -> None:
    transport = ScriptedTransport(by_hop(0.01, 0.2), room=(9, 9), part=1)
    assert run(transport, hops(None, 2), batches(*[5] * 50)).rows == kept(250)
    assert started(transport) == [1, 2]


def test_a_worker_that_is_gone_is_replaced_at_once_and_in_its_place() -> None:
    transport = ScriptedTransport(lambda hop, record: 1.0)
    transport.after(3.5, lambda: transport.end(1, "killed by SIGKILL", killed_externally=True))
    assert run(transport, hops(3), batches(10, 10, 10)).rows == kept(30)
    assert [actor.slot for actor in transport.actors] == [0, 1, 2, 1]
    assert transport.started_at == [0.0, 0.0, 0.0, 3.5]


def test_the_scheduler_says_how_many_workers_there_are() -> None:
    transport = ScriptedTransport(room=(3, 3))
    scheduling = scheduler(transport, hops(2, 1))
    next(scheduling.run(batches(*[10] * 10)))
    assert scheduling.workers == (2, 1)
