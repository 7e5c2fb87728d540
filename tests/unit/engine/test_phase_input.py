"""The feed numbers a phase's input, leaves out what is done, and watches sources, partitioners and gathers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from curate import Gather, InfrastructureError, Partitioner, RecordError
from curate.engine.accounting.counts import FinishedInputs
from curate.engine.durability.commit import id_checksum
from curate.engine.durability.positions import InputPositions, Intervals
from curate.engine.phase_input import DEFAULT_BATCH_RECORDS, InputBatches, run_gather
from curate.engine.protocol.messages import Filtered
from curate.engine.protocol.options import StopRequest
from curate.errors import PlanError
from curate.records import AudioBatch, Failed, Record
from curate.stages import Partition


def rows(count: int) -> list[Record]:
    return [{"_id": f"r:{number}", "duration": 1.0} for number in range(count)]


def run(
    items: Iterable[Any],
    partitioner: Partitioner | None = None,
    done: Iterable[tuple[int, int]] = (),
    done_ids: Iterable[str] = (),
) -> tuple[list[list[int]], list[FinishedInputs]]:
    settled: list[FinishedInputs] = []
    batches = InputBatches(
        iter(items),
        first_stage="read",
        partitioner=partitioner,
        positions=InputPositions(),
        done=Intervals(done),
        done_checksum=id_checksum(done_ids),
        settle=lambda each: settled.append(each) is None,
        stop=StopRequest(),
    )
    return [list(batch.seqs) for batch in batches], settled


def partitioner(cut: Callable[[Iterator[Record]], Iterator[list[Record]]]) -> Partitioner:
    class Cuts(Partitioner):
        def partition(self, records: Iterator[Record]) -> Iterator[AudioBatch]:
            for data in cut(records):
                yield AudioBatch(data)

    return Cuts()


def test_without_a_partitioner_batches_are_cut_by_number() -> None:
    seqs, _ = run(rows(2 * DEFAULT_BATCH_RECORDS + 1))
    assert list(map(len, seqs)) == [DEFAULT_BATCH_RECORDS, DEFAULT_BATCH_RECORDS, 1]


def test_what_is_done_is_left_out_and_positions_stay() -> None:
    seqs, _ = run(
        rows(10),
        Partition(max_records=3, by_length=False),
        done=[(0, 3), (6, 6)],
        done_ids=[f"r:{n}" for n in (0, 1, 2, 3, 6)],
    )
    assert seqs == [[4, 5, 7], [8, 9]]


def test_a_row_that_failed_in_the_reader_is_settled_without_work() -> None:
    items = [rows(1)[0], Failed({"_id": "r:1", "duration": 2.0}, RecordError("bad_json", "line 2"))]
    seqs, (settled,) = run(items)
    assert seqs == [[0]]
    ((seq, note),) = settled.quarantined
    assert (seq, note.code, note.stage, note.message) == (1, "bad_json", "read", "line 2")
    assert settled.in_ms == 2000


def test_what_failed_already_is_not_settled_again() -> None:
    items = [Failed({"_id": "r:0"}, RecordError("bad_json", "line 1"))]
    assert run(items, done=[(0, 0)], done_ids=["r:0"]) == ([], [])


def test_a_source_that_gives_another_order_than_before_is_found_out_before_more_is_worked_on() -> None:
    settled: list[FinishedInputs] = []
    batches = InputBatches(
        iter(rows(10)[::-1]),
        first_stage="read",
        partitioner=None,
        positions=InputPositions(),
        done=Intervals([(0, 3)]),
        done_checksum=id_checksum(f"r:{n}" for n in range(4)),
        settle=lambda each: settled.append(each) is None,
        stop=StopRequest(),
    )
    with pytest.raises(InfrastructureError, match="stage 'read' gave other records, or another order, than in an ear"):
        next(iter(batches))


def test_ids_that_share_their_digits_have_other_sums() -> None:
    assert id_checksum(["r:10", "r:23"]) == id_checksum(["r:23", "r:10"]) != id_checksum(["r:13", "r:20"])


def test_a_partitioner_that_stops_early_is_named() -> None:
    with pytest.raises(InfrastructureError, match="partitioner 'cuts' did not return"):
        run(rows(5), partitioner(lambda records: iter([[next(records)]])))


def test_a_partitioner_may_reorder() -> None:
    seqs, _ = run(rows(4), partitioner(lambda records: iter([list(records)[::-1]])))
    assert seqs == [[3, 2, 1, 0]]


def test_a_partitioner_that_loses_a_record_is_named() -> None:
    with pytest.raises(InfrastructureError, match="partitioner 'cuts' did not return 1 records, r:0 among them"):
        run(rows(3), partitioner(lambda records: iter([list(records)[1:]])))


@pytest.mark.parametrize("extra", [lambda data: data[:1], lambda data: [{"_id": "x"}]])
def test_a_partitioner_that_repeats_or_invents_a_record_is_named(extra: Any) -> None:
    def cut(records: Iterator[Record]) -> Iterator[list[Record]]:
        data = list(records)
        yield data
        yield extra(data)

    with pytest.raises(
        InfrastructureError, match=r"partitioner 'cuts' returned (r:0|x), which it was not given or has"
    ):
        run(rows(3), partitioner(cut))


def test_a_partitioner_that_raises_is_named() -> None:
    def cut(records: Iterator[Record]) -> Iterator[list[Record]]:
        raise KeyError("duration")
        yield

    with pytest.raises(InfrastructureError, match="stage 'cuts': KeyError: 'duration'"):
        run(rows(1), partitioner(cut))


def test_a_source_that_raises_is_named() -> None:
    def items() -> Iterator[Record]:
        yield rows(1)[0]
        raise ConnectionError("the server is gone")

    with pytest.raises(InfrastructureError, match="stage 'read': ConnectionError: the server is gone"):
        run(items(), Partition())


def test_errors_that_say_what_to_do_pass_as_they_are() -> None:
    def items() -> Iterator[Record]:
        raise PlanError("the manifest is gone")
        yield

    with pytest.raises(PlanError, match="the manifest is gone"):
        run(items())


@pytest.mark.parametrize("bad", [{"x": 1}, {"_id": 7}, {"_id": None}, {"_id": "r:0"}])
def test_a_source_must_give_every_record_an_id_of_its_own(bad: Record) -> None:
    with pytest.raises(
        InfrastructureError, match=r"stage 'read' gave record 2 the `_id` .*; it must give every record"
    ):
        run([rows(1)[0], bad])


def test_empty_batches_are_passed_over() -> None:
    seqs, _ = run(rows(2), partitioner(lambda records: iter([[], list(records), []])))
    assert seqs == [[0, 1]]


# Gathers.


class Reader:
    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Record]:
        return ({"_id": f"r:{number}", "x": number} for number in range(self.count))

    def lines(self) -> Iterator[bytes]:
        raise NotImplementedError


def gather(change: Callable[[Iterator[Record]], Iterator[Record]], count: int = 5) -> list[Any]:
    class Gathers(Gather):
        def gather(self, records: Iterator[Record]) -> Iterator[Record]:
            return change(records)

    return list(run_gather(Gathers(), Reader(count)))


def test_a_gather_may_reorder_and_leave_out() -> None:
    items = gather(lambda records: iter([record for record in list(records)[::-1] if record["x"] % 2]))
    assert items[:2] == [{"_id": "r:3", "x": 3}, {"_id": "r:1", "x": 1}]
    assert [(item.record, item.stage, item.reason) for item in items[2:]] == [
        ({"_id": f"r:{x}", "x": x}, "gathers", "left out by gathers") for x in (0, 2, 4)
    ]


def test_a_gather_may_stop_reading_early() -> None:
    items = gather(lambda records: iter([next(records)]), count=20)
    assert len(items) == 20
    assert sum(isinstance(item, Filtered) for item in items) == 19


def test_a_gather_may_copy_records() -> None:
    assert gather(lambda records: ({**record, "new": 1} for record in records), 1) == [{"_id": "r:0", "x": 0, "new": 1}]


def test_a_gather_that_repeats_a_record_is_named() -> None:
    with pytest.raises(InfrastructureError, match="gather 'gathers' returned r:0 more than once"):
        gather(_twice)


def _twice(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        copy = dict(record)
        yield record
        yield copy


def test_a_gather_that_yields_the_same_dict_twice_is_named() -> None:
    with pytest.raises(InfrastructureError, match="gather 'gathers' returned r:0 more than once"):
        gather(lambda records: (record for record in records for _ in range(2)))


@pytest.mark.parametrize("invented", [{"_id": "x"}, {"_id": "x", "_gathered_from": 99}])
def test_a_gather_that_invents_a_record_is_named(invented: Record) -> None:
    with pytest.raises(InfrastructureError, match="gather 'gathers' returned x, which it was not given"):
        gather(lambda records: iter([invented]))


def test_a_gather_remembers_one_bit_a_record() -> None:
    import tracemalloc

    def through(count: int) -> int:
        class Passes(Gather):
            def gather(self, records: Iterator[Record]) -> Iterator[Record]:
                return records

        tracemalloc.start()
        for _ in run_gather(Passes(), Reader(count)):
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    assert through(60_000) - through(1_000) < 60_000
