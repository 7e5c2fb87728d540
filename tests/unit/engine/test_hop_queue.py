"""The batches that wait for a hop are bounded in bytes, and so are those that travel together."""

from __future__ import annotations

from curate.engine.protocol.messages import BatchTask
from curate.engine.scheduling.hop_state import QUEUE_BYTES, HopQueue
from curate.engine.scheduling.worker_pool import IN_FLIGHT_BYTES

MB = 1024 * 1024


def batch(number: int, megabytes: int, records: int = 16) -> BatchTask:
    text = "z" * (megabytes * MB // records - 3)  # one string, so the test itself needs little memory
    return BatchTask(number, [{"_id": f"a:{n % 10}", "text": text} for n in range(records)], "audio_filepath", "", "")


def test_size_of_batches_from_the_source_is_estimated_from_their_strings() -> None:
    queue = HopQueue()
    for number in range(4):
        queue.put(batch(number, 16))
    assert queue.bytes == 64 * MB
    assert not queue.is_full(workers=2)
    for number in range(4, 8):
        queue.put(batch(number, 48))
    assert queue.bytes >= QUEUE_BYTES
    assert queue.is_full(workers=100)


def test_large_batches_travel_alone_and_small_ones_together() -> None:
    queue = HopQueue()
    for number in range(40):
        queue.put(batch(number, 16))
    taken = [len(queue.take_mergeable(32)) for _ in range(10)]
    assert taken == [IN_FLIGHT_BYTES // (16 * MB)] * 10
    assert (len(queue), queue.bytes) == (0, 0)
    queue.put(batch(0, 200, records=1))
    assert [task.number for task in queue.take_mergeable(32)] == [0], "one that is larger goes all the same"
    for number in range(40):
        queue.put(batch(number, 1))
    assert len(queue.take_mergeable(32)) == 32
    queue.clear()
    assert (len(queue), queue.bytes) == (0, 0)
