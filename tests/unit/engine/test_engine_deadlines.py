"""When a worker's time is over: it counts from the last sign that the worker gets on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scripted import Deed, Outcome, ScriptedTransport, batches, hops, kept, run, scheduler

from curate.engine.protocol.transport import LOOKS
from curate.engine.scheduling.deadlines import AUDIO_FACTOR, DEFAULT_S, SEEN_FACTOR
from curate.engine.scheduling.scheduler import InputBatch
from curate.records import ID, AudioBatch, Record


def hangs(number: int, seconds: float = 1.0) -> Any:
    """Return a script in which a record hangs its worker, and the others take so long."""

    def script(hop: int, record: Record) -> Deed:
        return "hangs" if record[ID] == f"r:{number}" else seconds

    return script


@pytest.mark.parametrize("part", [1, 1000])
def test_a_worker_that_gets_on_is_left_in_peace_however_long_its_batch_takes(part: int) -> None:
    """Whether it hands on what is done, or is only seen to be at other records."""
    transport = ScriptedTransport(lambda hop, record: 4.0, part=part)
    assert run(transport, hops(1, timeout_s=5.5), batches(50)).rows == kept(50)
    assert transport.killed == []
    assert transport.clock.now == pytest.approx(200)


@pytest.mark.parametrize("part", [1, 1000])
def test_a_worker_that_hangs_is_killed_when_its_time_is_over(part: int) -> None:
    transport = ScriptedTransport(hangs(3), part=part)
    outcome = run(transport, hops(1, timeout_s=5.0), batches(10))
    assert outcome.rows == kept(10, 3)
    assert outcome.codes == {"r:3": "timeout"}
    assert outcome.quarantined["r:3"].message == "the worker made no progress for 5 s with this record alone"
    assert transport.killed == [0, 1]
    assert transport.batches_of("r:3") == [10, 1]


def test_it_is_killed_soon_after() -> None:
    transport = ScriptedTransport(hangs(3), part=1)
    run(transport, hops(1, timeout_s=8.0), batches(10))
    killed_s = transport.started_at[1]
    assert 3.0 + 8.0 <= killed_s <= 3.0 + 8.0 + 8.0 / LOOKS


@pytest.mark.parametrize("retries", [1, 2])
def test_a_record_that_hangs_is_tried_again_alone(retries: int) -> None:
    transport = ScriptedTransport(hangs(3))
    outcome = run(transport, hops(1, timeout_s=5.0, retries=retries), batches(10))
    assert outcome.quarantined["r:3"].attempts == retries + 1
    assert transport.batches_of("r:3") == [10] + [1] * (retries + 1)


def test_the_longest_deadline_of_fused_stages_counts() -> None:
    hop, other = hops(1, 1, timeout_s=5.0)
    (stage,) = other.stages
    longer = type(stage)("b", "processing", stage.stage.with_(timeout_s=50.0), None)
    transport = ScriptedTransport(lambda hop, record: 30.0)
    run(transport, [type(hop)((*hop.stages, longer), hop.resources, 1)], batches(3))
    assert transport.killed == []


def first_killed_s(transport: ScriptedTransport, feed: Iterator[InputBatch]) -> float:
    """Run with no `timeout_s` and return when the first worker was replaced."""
    run(transport, hops(1), feed)
    assert transport.killed
    return transport.started_at[1]


def close_to(expected_s: float) -> Any:
    return pytest.approx(expected_s, rel=1 / LOOKS)


def test_without_a_deadline_there_is_a_default() -> None:
    assert first_killed_s(ScriptedTransport(hangs(0)), batches(3)) == close_to(DEFAULT_S)


def test_the_default_grows_with_the_audio_that_is_announced() -> None:
    killed_s = first_killed_s(ScriptedTransport(hangs(0)), batches(3, duration=100.0))
    assert killed_s == close_to(100 * AUDIO_FACTOR)  # of one record, and not of the batch
    anywhere = ScriptedTransport(hangs(0), touches=lambda work, position: None)
    assert first_killed_s(anywhere, batches(3, duration=100.0)) == close_to(300 * AUDIO_FACTOR)


def test_a_long_record_elsewhere_in_the_batch_gives_no_time() -> None:
    data: list[Record] = [{ID: "r:0", "duration": 1.0}, {ID: "r:1", "duration": 9000.0}]
    feed = iter([InputBatch(AudioBatch(data), range(2))])
    assert first_killed_s(ScriptedTransport(hangs(0)), feed) == close_to(DEFAULT_S)


def test_the_default_grows_with_the_silences_that_were_seen() -> None:
    """A first batch took 200 s without a word, so a later one may take much longer."""

    def script(hop: int, record: Record) -> Deed:
        return {"r:0": 200.0, "r:1": "hangs"}.get(record[ID], 1.0)

    transport = ScriptedTransport(script, in_flight=1)
    run(transport, hops(1), batches(1, 1))
    silence_s = 200.0 - DEFAULT_S / LOOKS  # since the last look at it
    assert transport.started_at[1] == close_to(200.0 + SEEN_FACTOR * silence_s)


def test_a_look_at_a_worker_is_no_silence_that_has_ended() -> None:
    """That it is found at another record says nothing of how long it was at the one before."""
    transport = ScriptedTransport(hangs(50), part=1000)
    run(transport, hops(1), batches(100))
    assert transport.started_at[1] == close_to(50.0 + DEFAULT_S)


def test_before_a_worker_is_looked_at_its_batch_is_not_awaited_as_a_whole() -> None:
    """A window of many hours of audio gives nobody many hours for its first record."""
    transport = ScriptedTransport(hangs(0))
    run(transport, hops(1), batches(100, duration=20.0))
    assert transport.started_at[1] == close_to(DEFAULT_S)


def test_a_quiet_worker_among_talkative_ones_is_looked_at_before_it_is_killed() -> None:
    """The first worker only announces; the second one hands on something all the time."""
    transport = ScriptedTransport(
        lambda hop, record: 2.0 if int(record[ID][2:]) < 40 else 0.1, part=lambda worker: 1000 if worker == 0 else 1
    )
    assert run(transport, hops(2, timeout_s=5.0), batches(40, *[10] * 100)).rows == kept(1040)
    assert transport.killed == []


def test_what_waited_to_be_heard_while_the_driver_was_busy_counts() -> None:
    """The driver commits, or whoever takes the records takes an hour; meanwhile the workers have gone on."""
    transport = ScriptedTransport(lambda hop, record: 1.0, part=1)
    outcome = Outcome()
    for number, settled in enumerate(scheduler(transport, hops(3, timeout_s=5.0)).run(batches(*[10] * 9))):
        outcome.take(settled)
        if number % 10 == 3:
            transport.clock.now += 3600.0
    assert outcome.rows == kept(90)
    assert transport.killed == []


def test_the_time_without_work_does_not_count() -> None:
    transport = ScriptedTransport(lambda hop, record: 1.0)

    def slow_feed() -> Iterator[InputBatch]:
        for incoming in batches(1, 1, 1):
            transport.clock.now += 1000.0
            yield incoming

    assert run(transport, hops(1, timeout_s=2.0), slow_feed()).rows == kept(3)
    assert transport.killed == []


def test_where_nobody_can_be_killed_nobody_has_a_deadline() -> None:
    transport = ScriptedTransport(lambda hop, record: 1e6, can_kill=False)
    assert run(transport, hops(1), batches(2)).rows == kept(2)
    assert set(transport.waits) == {None}


def test_nobody_is_woken_up_in_vain() -> None:
    """While a worker gets on, the scheduler looks at it a few times within its time, and otherwise sleeps."""
    transport = ScriptedTransport(lambda hop, record: 10.0, part=1000)
    run(transport, hops(1, timeout_s=100.0), batches(100))
    assert len(transport.waits) <= 1000 / (100 / LOOKS) + 5


@pytest.mark.parametrize("timeout_s", [0.1, 0.3, 1 / 3, 7.7])
def test_the_end_of_a_time_is_reckoned_in_one_way(timeout_s: float) -> None:
    """Otherwise rounding makes "now" and "not yet" of the same moment, and the scheduler spins between them."""
    transport = ScriptedTransport(hangs(5, seconds=0.0123), part=1)
    assert run(transport, hops(1, timeout_s=timeout_s), batches(10)).codes == {"r:5": "timeout"}
    assert len(transport.waits) < 60


def test_whoever_is_killed_in_the_midst_leaves_the_batch_behind_untouched() -> None:
    transport = ScriptedTransport(hangs(2), in_flight=3)
    outcome = run(transport, hops(1, timeout_s=5.0), batches(5, 5))
    assert outcome.codes == {"r:2": "timeout"}
    assert set(transport.batches_of("r:7")) == {5}
