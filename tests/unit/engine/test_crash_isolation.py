"""Who is a suspect when a worker is gone, and what is said about the guilty one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scripted import hops

from curate.engine.protocol.messages import BatchTask, PartialResult, RecordsAnnounced, WorkerDied
from curate.engine.scheduling.crash_isolation import CrashIsolation
from curate.engine.scheduling.worker_pool import InFlight, WorkerState
from curate.plan import Hop, PlannedStage
from curate.records import ID

DIED = WorkerDied(0, "killed by SIGSEGV\nits last words")


def flight(number: int = 1, size: int = 6, *, done: Sequence[int] = (), isolated: bool = False) -> InFlight:
    """Return a batch of which some records are acknowledged."""
    work = BatchTask(number, [{ID: f"r:{n}"} for n in range(size)], "audio_filepath", "", "")
    finished = [f"r:{n}" for n in done]
    return InFlight(
        work, 0, isolated, results=[PartialResult(number, [{} for _ in finished], finished, [0] * len(finished))]
    )


def worker(*flights: InFlight, announced: Mapping[int, Sequence[int] | None] | None = None, of: int = 1) -> WorkerState:
    """Return a worker with batches in flight, and what it was last heard to touch."""
    started = None if announced is None else RecordsAnnounced(0, of, announced)
    return WorkerState(0, 0, 0.0, ready=True, in_flight={each.task.number: each for each in flights}, announced=started)


def suspected(gone: WorkerState, of: InFlight, *, node_lost: bool = False) -> list[str]:
    return list(CrashIsolation().suspects(gone, of, node_lost=node_lost))


def test_the_suspects_are_those_announced_and_unfinished() -> None:
    there = flight(done=[0, 1, 2])
    assert suspected(worker(there, announced={0: [2, 3, 4]}), there) == ["r:3", "r:4"]


def test_every_stage_at_work_has_its_suspects() -> None:
    there = flight()
    assert suspected(worker(there, announced={0: [4, 5], 2: [1]}), there) == ["r:1", "r:4", "r:5"]


def test_a_stage_that_may_be_anywhere_makes_all_unfinished_ones_suspects() -> None:
    there = flight(done=[0])
    assert suspected(worker(there, announced={0: [1], 1: None}), there) == ["r:1", "r:2", "r:3", "r:4", "r:5"]


def test_nothing_announced_or_everything_announced_finished_means_any() -> None:
    there = flight(size=3, done=[0])
    assert suspected(worker(there), there) == ["r:1", "r:2"]
    assert suspected(worker(there, announced={}), there) == ["r:1", "r:2"]
    assert suspected(worker(there, announced={0: [0]}), there) == ["r:1", "r:2"]


def test_only_the_batch_at_work_has_suspects() -> None:
    first, second = flight(1), flight(2)
    assert suspected(worker(first, second), second) == []
    ahead = worker(first, second, announced={0: [5]}, of=2)
    assert suspected(ahead, second) == ["r:5"]
    assert suspected(ahead, first) == []


def test_what_was_announced_of_an_earlier_batch_says_nothing_about_this_one() -> None:
    there = flight(2, size=2)
    assert suspected(worker(there, announced={0: [0]}, of=1), there) == ["r:0", "r:1"]


def test_two_lost_nodes_make_no_suspects_and_a_finished_batch_is_forgotten() -> None:
    isolation, there = CrashIsolation(), flight()
    gone = worker(there, announced={0: [3]})
    assert [list(isolation.suspects(gone, there, node_lost=True)) for _ in range(3)] == [[], [], ["r:3"]]
    isolation.forget_batch(1)
    assert isolation.suspects(gone, there, node_lost=True) == {}


def fused() -> Hop:
    """Return a hop of two stages; the second one is tried twice."""
    one, two = (hop.stages[0] for hop in hops(1, 1))
    again = PlannedStage("again", "processing", two.stage.with_(name="again", retries=1), None)
    return Hop((one, again), hops(1)[0].resources, 1)


def test_the_verdict_names_the_first_stage_at_work() -> None:
    there = flight(size=1, isolated=True)
    note = CrashIsolation().judge(worker(there, announced={0: [0], 1: [0]}), there, fused(), DIED)
    assert note is not None
    assert (note.root, note.stage, note.code, note.attempts) == ("r:0", "a0", "worker_died", 1)
    assert note.message.endswith("killed by SIGSEGV\nits last words")


def test_the_retries_are_those_of_the_stage_at_work() -> None:
    isolation, there = CrashIsolation(), flight(size=1, isolated=True)
    gone = worker(there, announced={1: [0]})
    assert isolation.judge(gone, there, fused(), DIED) is None
    note = isolation.judge(gone, there, fused(), DIED)
    assert note is not None
    assert (note.stage, note.attempts) == ("again", 2)


def test_a_record_that_is_finished_has_a_clean_sheet() -> None:
    isolation, there, killed = (
        CrashIsolation(),
        flight(size=1, isolated=True),
        WorkerDied(0, "killed by SIGKILL", killed_externally=True),
    )
    gone = worker(there, announced={0: [0]})
    assert [isolation.judge(gone, there, fused(), killed) for _ in range(2)] == [None, None]
    isolation.clear(there.task.records[0])
    assert [isolation.judge(gone, there, fused(), killed) for _ in range(2)] == [None, None]
    assert isolation.judge(gone, there, fused(), killed) is not None


def test_a_hang_needs_no_second_proof_although_it_ends_with_a_kill() -> None:
    there = flight(size=1, isolated=True)
    gone = worker(there, announced={0: [0]})
    gone.timed_out = 2.5
    note = CrashIsolation().judge(gone, there, fused(), WorkerDied(0, "killed by SIGKILL", killed_externally=True))
    assert note is not None
    assert (note.code, note.message) == ("timeout", "the worker made no progress for 2.5 s with this record alone")
