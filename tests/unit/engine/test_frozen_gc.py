"""During a run the garbage collector looks at nothing that was there before, and afterwards at everything again."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from curate import Pipeline, processing_stage
from curate.engine.run import frozen_gc
from curate.records import Record
from curate.stages import ReadRecords


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_a_run_sets_the_heap_aside_and_gives_it_back() -> None:
    seen: list[int] = []

    @processing_stage(name="looks", writes=[])
    def looks(record: Record) -> Record:
        seen.append(gc.get_freeze_count())
        return record

    Pipeline("p", [ReadRecords([{"x": 1}]), looks]).run()
    assert seen[0] > 1000
    assert gc.get_freeze_count() == 0


def test_it_is_given_back_after_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError), frozen_gc():
        raise ZeroDivisionError
    assert gc.get_freeze_count() == 0


def test_what_somebody_else_has_set_aside_stays_so() -> None:
    # In a process of its own: here, objects that other tests have left may end between the two counts.
    code = (
        "import gc; from curate.engine.run import frozen_gc; gc.freeze(); before = gc.get_freeze_count()\n"
        "with frozen_gc(): pass\n"
        "print(before, gc.get_freeze_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after == before > 1000


def test_the_records_of_a_run_are_gone_with_its_result() -> None:
    """Without a word from the garbage collector: a loop of runs would otherwise hold the records of many."""

    @processing_stage(name="same", writes=[])
    def same(record: Record) -> Record:
        return record

    gc.collect()
    gc.disable()
    try:
        result = Pipeline("p", [ReadRecords([{"x": 1}]), same]).run()
        store = weakref.ref(result._memory)  # pyright: ignore[reportPrivateUsage, reportArgumentType]
        assert store() is not None
        del result
        assert store() is None
    finally:
        gc.enable()
