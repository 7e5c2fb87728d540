"""The invariant check is itself tested: whoever loses, repeats or invents a record, or cooks the books, is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import AudioBatch, Gather, InfrastructureError, Partitioner, Pipeline, ProcessingStage, Source
from curate.engine import RunResult
from curate.engine.accounting.counts import RecordCounts
from curate.engine.durability.commit_file import seal, unseal
from curate.engine.durability.directory_store import DirectoryStore
from curate.engine.scheduling.tracker import InFlightTracker
from curate.errors import AccountingError
from curate.records import Failed, Record
from curate.stages import Merge, Partition, QualityFilter, ReadRecords
from tests.shuffled_executor import ShuffledExecutor

COUNT = 60
EXECUTORS = ["local", "shuffled", "multiprocessing"]


@dataclass
class Cheats(ProcessingStage):
    """Does to the record 17 what it is told."""

    how: str = "loses"

    def writes(self) -> tuple[str, ...]:
        return ()

    def process(self, batch: AudioBatch) -> AudioBatch:
        batch.data = [kept for record in batch.data for kept in self._made(record)]
        return batch

    def _made(self, record: Record) -> list[Record]:
        if record["x"] != 17:
            return [record]
        made = {
            "loses": [],
            "repeats": [record, record],
            "repeats a copy": [record, dict(record)],
            "invents": [record, {"x": 99, "_id": "nobody:1"}],
            "renames": [{**record, "_id": "records:1"}],
            "forgets the name": [{"x": 17}],
        }
        return made[self.how]


def run(*stages: Any, run_dir: Path, executor: str = "local") -> RunResult:
    chosen: Any = ShuffledExecutor() if executor == "shuffled" else executor
    cut = Partition(max_records=10, by_length=False)
    first = () if stages and isinstance(stages[0], Source) else (ReadRecords([{"x": x} for x in range(COUNT)]), cut)
    return Pipeline("p", [*first, *stages, Merge("out.jsonl")]).run(chosen, run_dir=run_dir)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("loses", "contract_lost"),
        ("repeats", "contract_repeated"),
        ("repeats a copy", "contract_repeated"),
        ("invents", "contract_invented"),
        ("renames", "contract_"),
        ("forgets the name", "contract_"),
    ],
)
def test_a_stage_that_cheats_is_named_with_the_record(executor: str, how: str, code: str, tmp_path: Path) -> None:
    result = run(Cheats(how), run_dir=tmp_path, executor=executor)
    notes = [json.loads(line) for path in (tmp_path / "quarantine").iterdir() for line in path.open()]
    assert [(note["stage"], note["_id"]) for note in notes] == [("cheats", "records:18")]
    assert notes[0]["code"].startswith(code)
    assert "cheats" in notes[0]["message"]
    assert result.summary["kept"] == COUNT - 1
    assert [record["x"] for record in result.records()] == [x for x in range(COUNT) if x != 17]


class Forgets(Source):
    def read(self, after: str | None = None) -> Iterator[Record | Failed]:
        yield {"_id": "s:1", "x": 1}
        yield {"_id": "s:1", "x": 2}


class Drops(Partitioner):
    def partition(self, records: Iterator[Record]) -> Iterator[AudioBatch]:
        for record in records:
            if record["x"] != 17:
                yield AudioBatch([record])


class Doubles(Gather):
    def gather(self, records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            yield record
            if record["x"] == 17:
                yield record


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (Forgets(), "stage 'forgets' gave record 2 the `_id` 's:1'"),
        (Drops(), "partitioner 'drops' did not return 1 records, records:18 among them"),
        (Doubles(), "gather 'doubles' returned records:18 more than once"),
    ],
)
def test_what_works_in_the_driver_and_cheats_stops_the_run(stage: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError) as caught:
        run(stage, QualityFilter("x >= 0"), run_dir=tmp_path)  # for which the batches are cut
    assert says in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_an_engine_that_loses_a_root_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = InFlightTracker.settle

    def loses(self: InFlightTracker, *given: Any) -> Any:
        settled, forward = settle(self, *given)
        if settled is not None and 17 in settled.seqs:
            return None, forward
        return settled, forward

    monkeypatch.setattr(InFlightTracker, "settle", loses)
    with pytest.raises(AccountingError, match="some are lost or there twice"):
        run(Cheats("loses"), run_dir=tmp_path)
    assert not (tmp_path / "out.jsonl").exists()


def test_an_engine_that_counts_wrongly_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.engine.accounting.counts import FinishedInputs

    books = FinishedInputs.books

    def cooks(self: FinishedInputs) -> RecordCounts:
        cooked = books(self)
        cooked.kept += 1
        return cooked

    monkeypatch.setattr(FinishedInputs, "books", cooks)
    with pytest.raises(AccountingError, match=r"the books do not balance: .*\(\+\d\)"):
        run(Cheats("loses"), run_dir=tmp_path)
    assert not list((tmp_path / "commits").iterdir())


def test_a_unit_that_is_committed_twice_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an interrupt between the rename of a commit and the moment when the run knows of it."""
    commit = DirectoryStore.commit

    def twice(self: DirectoryStore, phase: int, unit: Any, busy_s: Any) -> Any:
        commit(self, phase, unit, busy_s)
        return commit(self, phase, unit, busy_s)

    monkeypatch.setattr(DirectoryStore, "commit", twice)
    monkeypatch.setattr("curate.engine.durability.commit.UNIT_BYTES", 300)
    assert run(Cheats("loses"), run_dir=tmp_path).summary["kept"] == COUNT - 1


@pytest.mark.parametrize("what", ["account", "ranges"])
def test_a_commit_that_somebody_has_changed_is_found_out(tmp_path: Path, what: str) -> None:
    run(Cheats("loses"), run_dir=tmp_path)
    (path,) = (tmp_path / "commits").glob("p0-*.json")
    commit = unseal(path.read_bytes())
    if what == "account":
        commit["account"]["books"]["kept"] -= 1
    else:
        commit["ranges"][0][1] -= 1
    path.write_text(json.dumps(commit) + "\n")
    with pytest.raises(InfrastructureError, match=rf"the commit .*{path.name} is damaged"):
        run(Cheats("loses"), run_dir=tmp_path)
    path.write_bytes(seal(commit))  # as a program with a mistake would write it
    with pytest.raises((AccountingError, InfrastructureError), match=r"not balance|gave other records"):
        run(Cheats("loses"), run_dir=tmp_path)


class Refuses(Partitioner):
    def partition(self, records: Iterator[Record]) -> Iterator[AudioBatch]:
        raise AssertionError("no worker waits for these batches")


def test_no_batches_are_cut_where_a_phase_has_no_workers(tmp_path: Path) -> None:
    result = run(Refuses(), run_dir=tmp_path)
    assert [record["x"] for record in result.records()] == list(range(COUNT))
