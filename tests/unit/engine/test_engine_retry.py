"""A retry moves records from quarantine to where they belong, as if they had never failed, and does no other work."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from curate import Gather, Pipeline, RecordError, RecordStage, Reject, UsageError
from curate.engine import RunResult
from curate.engine.durability import commit as commit_module
from curate.engine.durability.directory_store import DirectoryStore
from curate.engine.protocol.options import Retry, RunOptions
from curate.engine.run_reader import RunReader
from curate.records import Record
from curate.stages import Merge, Partition, QualityFilter, ReadRecords
from tests.shuffled_executor import ShuffledExecutor

COUNT = 60


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "UNIT_BYTES", 300)


class World:
    """What is wrong in the world of the stages, and what they have worked on."""

    def __init__(self) -> None:
        self.broken: set[tuple[str, int, int]] = set()
        self.log: list[tuple[str, str]] = []

    def __deepcopy__(self, _: object) -> World:
        return self


WORLD = World()


@pytest.fixture(autouse=True)
def _fresh_world() -> None:
    WORLD.broken, WORLD.log = set(), []


@dataclass
class Splits(RecordStage):
    cardinality = "splits"

    def process_record(self, record: Record) -> Any:
        if record["x"] % 11 == 0:
            return Reject("nothing in it")
        return [{**record, "k": 10 * record.get("k", 0) + k, "duration": 0.5} for k in range(1 + record["x"] % 3)]


@dataclass
class Works(RecordStage):
    """Fails on what is broken in the world."""

    step: str = "works"
    world: Any = field(default=None, repr=False)

    def process_record(self, record: Record) -> Record:
        WORLD.log.append((self.step, record["_id"]))
        if (self.step, record["x"], record.get("k", 0)) in WORLD.broken:
            raise RecordError("truncated" if record["x"] % 2 else "decode_error", f"{record['x']} is broken")
        return {**record, self.step: record["x"] ** 2}


class Backwards(Gather):
    def gather(self, records: Iterator[Record]) -> Iterator[Record]:
        yield from reversed([record for record in records if record["x"] % 13])


def pipeline(*, gather: bool) -> Pipeline:
    stages = [
        ReadRecords([{"x": x, "duration": 1.0} for x in range(COUNT)]),
        Partition(max_records=5, by_length=False),
        Splits(),
        Works("first").with_(checkpoint=True),
        Splits().with_(name="splits_again"),
        Works("second").with_(checkpoint=True, name="works_more"),
        *([Backwards()] if gather else []),
        Works("third").with_(name="works_last"),
        QualityFilter("x % 10 != 3"),
        Merge("out.jsonl"),
        Merge("out.parquet"),
    ]
    return Pipeline("p", stages)


def run(run_dir: Path, *, gather: bool = False, retry: Retry | None = None, executor: Any = "local") -> RunResult:
    return pipeline(gather=gather).run(executor, run_dir=run_dir, max_failures=1000, options=RunOptions(retry=retry))


def outcome(run_dir: Path) -> dict[str, Any]:
    """Return the files and the books, but nothing that a clock has measured."""
    summary = json.loads((run_dir / "summary.json").read_bytes())
    for name in ("wall_s", "rtfx", "outputs", "executor"):
        del summary[name]
    for stage in summary["by_stage"].values():
        del stage["busy_s"]
    return {"summary": summary} | {name: (run_dir / name).read_bytes() for name in ("out.jsonl", "out.parquet")}


def break_some(seed: int) -> None:
    lot = random.Random(seed)
    steps = ("first", "second", "third")
    WORLD.broken = {
        (step, x, k) for step in steps for x in range(COUNT) for k in (0, 1, 2, 10, 11, 21) if lot.random() < 0.08
    }


@pytest.mark.parametrize("gather", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_after_the_cause_is_mended_it_is_as_if_nothing_had_failed(tmp_path: Path, gather: bool, seed: int) -> None:
    run(tmp_path / "well", gather=gather)
    break_some(seed)
    failed = run(tmp_path / "run", gather=gather).summary["quarantined"]
    assert failed > 10

    still = run(tmp_path / "run", gather=gather, retry=Retry())  # nothing is mended yet
    assert still.summary["quarantined"] == failed

    WORLD.broken = {entry for entry in WORLD.broken if entry[1] % 4}  # some of it is
    run(tmp_path / "run", gather=gather, retry=Retry())
    run(tmp_path / "some", gather=gather)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "some")

    WORLD.broken = set()
    lives = 0
    while json.loads((tmp_path / "run/summary.json").read_bytes())["quarantined"]:
        run(tmp_path / "run", gather=gather, retry=Retry(), executor=ShuffledExecutor(seed))
        lives += 1
    assert lives == 1
    assert outcome(tmp_path / "run") == outcome(tmp_path / "well")


def test_only_the_records_that_failed_are_worked_on_again(tmp_path: Path) -> None:
    WORLD.broken = {("first", 7, 1), ("first", 20, 0), ("third", 30, 0)}
    run(tmp_path)
    failed = {note["_id"] for note in RunReader(tmp_path).failed()}
    assert failed == {"records:8/1", "records:21/0", "records:31/0/0"}
    WORLD.broken, WORLD.log = set(), []
    run(tmp_path, retry=Retry())
    roots = {identity.split("/")[0] for _, identity in WORLD.log}
    assert roots == {"records:8", "records:21", "records:31"}
    assert [step for step, identity in WORLD.log if identity.startswith("records:31")] == ["third"]


def test_code_and_stage_choose(tmp_path: Path) -> None:
    WORLD.broken = {("first", 7, 1), ("first", 20, 0), ("third", 30, 0)}
    run(tmp_path)
    WORLD.broken = set()
    assert run(tmp_path, retry=Retry(stage="works_last")).summary["failures"] == {"decode_error": 1, "truncated": 1}
    assert run(tmp_path, retry=Retry(code="truncated")).summary["failures"] == {"decode_error": 1}
    with pytest.raises(UsageError, match="no record has failed with --code truncated"):
        run(tmp_path, retry=Retry(code="truncated"))
    assert run(tmp_path, retry=Retry(code="decode_error", stage="works")).summary["failures"] == {}


class Stop(BaseException):
    """What no `except Exception` stops, as a SIGKILL."""


@pytest.mark.parametrize(
    ("gather", "after"), [*((False, after) for after in range(4)), *((True, after) for after in (0, 1, 2, 4, 6, 9))]
)
def test_a_retry_that_is_killed_is_finished_by_the_next_life_and_the_next_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gather: bool, after: int
) -> None:
    run(tmp_path / "well", gather=gather)
    break_some(7)
    run(tmp_path / "run", gather=gather)
    WORLD.broken = set()
    commit, left = DirectoryStore.commit, [after]

    def dies(*arguments: Any) -> Any:
        if not left[0]:
            raise Stop
        left[0] -= 1
        return commit(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryStore, "commit", dies)
        with pytest.raises(Stop):
            run(tmp_path / "run", gather=gather, retry=Retry())
    result = run(tmp_path / "run", gather=gather)  # goes on, and its books balance
    if result.summary["quarantined"]:
        run(tmp_path / "run", gather=gather, retry=Retry())
    assert outcome(tmp_path / "run") == outcome(tmp_path / "well")


def test_a_record_of_the_reader_is_not_mended_by_a_retry_but_nothing_breaks(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"x": 1}\nbroken\n{"x": 2}\n')
    from curate.stages import ReadManifest

    again = Pipeline("p", [ReadManifest(str(manifest)), Works(), Merge("out.jsonl")])
    again.run(run_dir=tmp_path / "run")
    result = again.run(run_dir=tmp_path / "run", options=RunOptions(retry=Retry()))
    assert result.summary["failures"] == {"bad_json": 1}
    assert [record["x"] for record in result.records()] == [1, 2]


def test_a_retry_that_is_stopped_before_it_has_published_goes_on_when_it_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "well")
    break_some(7)
    WORLD.broken = {what for what in WORLD.broken if what[0] == "third"}
    assert run(tmp_path / "run").summary["quarantined"]
    WORLD.broken = set()
    with monkeypatch.context() as patch:
        patch.setattr(Merge, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", retry=Retry())
    assert not list(RunReader(tmp_path / "run").failed())
    run(tmp_path / "run", retry=Retry())
    assert outcome(tmp_path / "run") == outcome(tmp_path / "well")
    with pytest.raises(UsageError, match="no record has failed"):
        run(tmp_path / "run", retry=Retry())


def interrupted(*_: Any) -> Any:
    raise KeyboardInterrupt
