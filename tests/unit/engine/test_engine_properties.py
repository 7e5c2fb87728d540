"""The laws, over random pipelines: the books balance, bytes are the same everywhere, and nothing is ever lost."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from random_pipelines import ByBatch, ByRecord, Drawn, Rule, drawn_pipelines

from curate.engine.durability import commit as commit_module
from curate.plugin import hookimpl
from curate.storage import atomic
from tests.properties import costly
from tests.shuffled_executor import ShuffledExecutor

UNIT_BYTES = st.sampled_from([1, 300, 64_000_000])
BATCH = st.sampled_from([None, 1, 2, 7, 100])
EXAMPLES = costly()


class Crash(GeneratorExit):
    """What no `except Exception` stops."""


class Disk:
    """Counts the moments at which a run could be killed while it writes, and kills it at one of them."""

    def __init__(self, die_at: int | None = None) -> None:
        self.moments = 0
        self._die_at = die_at

    def moment(self, *_: Any) -> None:
        self.moments += 1
        if self.moments == self._die_at:
            raise Crash


@contextmanager
def on(disk: Disk, unit_bytes: int) -> Iterator[None]:
    with (
        mock.patch.object(commit_module, "UNIT_BYTES", unit_bytes),
        mock.patch.object(atomic.os, "fsync", disk.moment),  # before the rename
        mock.patch.object(atomic, "sync_directory", disk.moment),  # after it
    ):
        yield


def notes(run_dir: Path, folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for path in (run_dir / folder).iterdir() for line in path.read_bytes().splitlines()]


def check(drawn: Drawn, run_dir: Path) -> None:
    """Compare a finished run with the reference."""
    expected = drawn.expected()
    published = run_dir / "out.jsonl"  # not, if nothing was kept
    assert (published.read_bytes() if published.exists() else b"") == expected.lines
    filtered = [(note["_id"], note["stage"]) for note in notes(run_dir, "filtered")]
    assert sorted(filtered) == sorted(expected.filtered)
    quarantined = [(note["_id"], note["stage"], note["code"]) for note in notes(run_dir, "quarantine")]
    assert sorted(quarantined) == sorted(expected.quarantined)
    summary = json.loads((run_dir / "summary.json").read_bytes())
    assert summary["records_in"] == drawn.count
    assert summary["kept"] == len(expected.kept)
    assert (summary["children"], summary["split_parents"]) == (expected.children, expected.split)
    out = summary["kept"] + summary["filtered"] + summary["quarantined"] + summary["split_parents"]
    assert summary["records_in"] + summary["children"] == out
    assert summary["by_stage"]["merge"]["records_out"] == summary["kept"]


@EXAMPLES
@given(drawn_pipelines(), BATCH, UNIT_BYTES)
def test_a_run_comes_to_what_plain_python_comes_to(drawn: Drawn, batch: int | None, unit_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder, on(Disk(), unit_bytes):
        drawn.pipeline(batch=batch).run(run_dir=folder)
        check(drawn, Path(folder))


@EXAMPLES
@given(drawn_pipelines(), BATCH)
def test_a_run_in_memory_comes_to_the_same(drawn: Drawn, batch: int | None) -> None:
    expected = drawn.expected()
    result = drawn.pipeline(batch=batch, output=None).run()
    assert [(record.pop("_id"), record) for record in result.records()] == expected.kept
    assert sorted((note.record["_id"], note.stage) for note in result.filtered) == sorted(expected.filtered)
    codes = [(note.record["_id"], note.stage, note.code) for note in result.quarantined]
    assert sorted(codes) == sorted(expected.quarantined)


@EXAMPLES
@given(drawn_pipelines(), BATCH, st.integers(0, 99), st.integers(1, 4))
def test_workers_that_answer_in_any_order_come_to_the_same(
    drawn: Drawn, batch: int | None, seed: int, workers: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, on(Disk(), 300):
        drawn.pipeline(batch=batch).run(ShuffledExecutor(seed, workers), run_dir=folder)
        check(drawn, Path(folder))


@EXAMPLES
@given(drawn_pipelines(max_records=25), st.lists(st.integers(1, 60), max_size=4), st.data())
def test_a_run_that_is_killed_again_and_again_comes_to_the_same(
    drawn: Drawn, deaths: list[int], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for die_at in deaths:
            with on(Disk(die_at), data.draw(UNIT_BYTES)):
                try:
                    executor = data.draw(st.sampled_from(["local", ShuffledExecutor(die_at)]))
                    drawn.pipeline(batch=data.draw(BATCH)).run(executor, run_dir=folder)
                except Crash:
                    continue
        with on(Disk(), 300):
            drawn.pipeline(batch=3).run(run_dir=folder)
        check(drawn, Path(folder))


def test_a_run_may_be_killed_at_every_single_moment() -> None:
    drawn = Drawn(12)
    drawn.stages = [
        ByRecord(Rule(1, "splits", raising=10)).with_(name="split", checkpoint=True),
        ByBatch(Rule(2, "filters", raising=10, leaving=30)).with_(name="judge"),
    ]
    whole = Disk()
    with tempfile.TemporaryDirectory() as folder, on(whole, 300):
        drawn.pipeline(batch=3).run(run_dir=folder)
    assert whole.moments > 40
    for moment in range(1, whole.moments + 1):
        with tempfile.TemporaryDirectory() as folder:
            try:
                with on(Disk(moment), 300):
                    drawn.pipeline(batch=3).run(run_dir=folder)
            except Crash:
                with on(Disk(), 300):
                    drawn.pipeline(batch=3).run(run_dir=folder)
            check(drawn, Path(folder))


@costly()
@given(drawn_pipelines(max_records=25), st.integers(1, 30))
def test_a_crash_while_observers_are_told_does_no_harm(drawn: Drawn, countdown: int) -> None:
    from curate.plugin import default_host

    class Fatal:
        left = countdown

        @hookimpl
        def curate_on_progress(self, event: Any) -> None:
            self.left -= 1
            if self.left == 0:
                raise Crash

    with tempfile.TemporaryDirectory() as folder, on(Disk(), 300):
        try:
            with default_host().observed_by(Fatal()):
                drawn.pipeline(batch=2).run(run_dir=folder)
        except Crash:
            drawn.pipeline(batch=5).run(run_dir=folder)
        check(drawn, Path(folder))
