"""Records of damaged units that end differently when they are processed again: what depends on them follows, no more.

The stages read a word from a file that is not in the fingerprint, so that a second attempt can have other results.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import Gather, Pipeline, RecordError, RecordStage, Reject
from curate.engine import RunOptions, repair_run
from curate.records import Record
from curate.stages import Merge, Partition, ReadRecords

COUNT = 60


@dataclass
class Reads(RecordStage):
    """Writes the word of the file into every record, and treats record 3 of ten as the word says."""

    folder: str
    cardinality = "splits"
    tuning = frozenset({"folder"})

    def writes(self) -> tuple[str, ...]:
        return ("word",)

    def process_record(self, record: Record) -> Any:
        note(self.folder, "reads", record)
        word = Path(self.folder, "word").read_text()
        if record["n"] % 10 == 7:
            return Reject("seven") if "keep seven" not in word else {**record, "word": ""}
        if record["n"] % 10 == 5 and "keep five" not in word:
            raise RecordError("bad_value", "five")
        if record["n"] % 10 == 3 and "two" in word:
            return [{**record, "word": word}, {**record, "word": word}]
        return {**record, "word": word if record["n"] % 10 == 3 else ""}


@dataclass
class Copies(RecordStage):
    """Copies the word to another column."""

    folder: str
    tuning = frozenset({"folder"})

    def writes(self) -> tuple[str, ...]:
        return ("copy",)

    def process_record(self, record: Record) -> Record:
        note(self.folder, "copies", record)
        return {**record, "copy": record["word"]}


class Backwards(Gather):
    def writes(self) -> tuple[str, ...]:
        return ()

    def gather(self, records: Iterator[Record]) -> Iterator[Record]:
        yield from reversed(list(records))


def note(folder: str, name: str, record: Record) -> None:
    with Path(folder, "log").open("a") as log:
        log.write(f"{name} {record['n']}\n")


def run(folder: Path, word: str, *, gather: bool = False) -> Counter[str]:
    """Run the pipeline and return what its stages have worked on, by stage and number."""
    (folder / "word").write_text(word)
    (folder / "log").write_text("")
    cut = Partition(max_records=5, by_length=False)
    stages = [
        ReadRecords([{"n": n} for n in range(COUNT)]),
        cut,
        Reads(str(folder)).with_(checkpoint=True),
        *([Backwards()] if gather else []),
        cut.with_(name="cut_again"),
        Copies(str(folder)),
        Merge("out.jsonl"),
    ]
    Pipeline("redo", stages).run(run_dir=folder / "run", max_failures=COUNT, options=RunOptions(unit_bytes=1500))
    return Counter((folder / "log").read_text().splitlines())


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run" / "out.jsonl").read_text().splitlines()]


def lose(folder: Path, kind: str) -> set[int]:
    """Delete a unit's file of a kind, have it repaired, and return the numbers of the records of its unit."""
    file = sorted((folder / "run" / kind).glob("p0-*.jsonl"))[1]
    commit = json.loads((folder / "run" / "commits" / f"{file.stem}.json").read_bytes())
    numbers = {n for first, last, _ in commit["ranges"] for n in range(first, last + 1)}
    file.unlink()
    ((damage, _),) = repair_run(folder / "run")
    assert damage.kind == kind
    return numbers


def expected(word: str, redone: set[int], *, twice: bool = False) -> list[tuple[int, str]]:
    """Return the number and the word of each row, in order, if the records in `redone` met another word than ''."""
    found: list[tuple[int, str]] = []
    for n in range(COUNT):
        if n % 10 in (5, 7):
            continue
        found += [(n, word if n in redone and n % 10 == 3 else "")] * (
            2 if twice and n in redone and n % 10 == 3 else 1
        )
    return found


def test_rows_that_differ_are_followed_by_the_units_that_hold_them_and_no_others(tmp_path: Path) -> None:
    run(tmp_path, "")
    redone = lose(tmp_path, "data")
    assert 0 < len(redone) < COUNT / 2
    work = run(tmp_path, "new")
    assert [(row["n"], row["copy"]) for row in rows(tmp_path)] == expected("new", redone)
    assert work.total() == len(work)  # nothing twice
    assert {name for name in work if name.startswith("reads")} == {f"reads {n}" for n in redone}
    followed = {int(name.split()[1]) for name in work if name.startswith("copies")}
    assert {n for n in redone if n % 10 == 3} <= followed
    assert len(followed) < COUNT / 2
    assert run(tmp_path, "newer") == Counter()


def test_rows_at_other_positions_are_followed_by_all_later_phases(tmp_path: Path) -> None:
    run(tmp_path, "")
    redone = lose(tmp_path, "data")
    work = run(tmp_path, "two")
    assert [(row["n"], row["copy"]) for row in rows(tmp_path)] == expected("two", redone, twice=True)
    assert {name for name in work if name.startswith("reads")} == {f"reads {n}" for n in redone}
    assert sum(count for name, count in work.items() if name.startswith("copies")) == len(rows(tmp_path))
    summary = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    assert summary["kept"] == len(rows(tmp_path))


@pytest.mark.parametrize("word", ["new", ""])
def test_a_gather_reads_again_only_if_rows_differ(word: str, tmp_path: Path) -> None:
    run(tmp_path, "", gather=True)
    redone = lose(tmp_path, "data")
    work = run(tmp_path, word, gather=True)
    assert [(row["n"], row["copy"]) for row in rows(tmp_path)] == expected(word, redone)[::-1]
    assert any(name.startswith("copies") for name in work) == bool(word)


def test_a_filtered_record_that_is_kept_now_has_its_whole_unit_processed_again(tmp_path: Path) -> None:
    run(tmp_path, "")
    redone = lose(tmp_path, "filtered")
    work = run(tmp_path, "keep seven")
    sevens = {n for n in redone if n % 10 == 7}
    assert sevens
    assert {row["n"] for row in rows(tmp_path) if row["n"] % 10 == 7} == sevens
    assert {name for name in work if name.startswith("reads")} == {f"reads {n}" for n in redone}
    summary = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    assert summary["filtered"] == COUNT // 10 - len(sevens)


def test_a_failed_record_that_passes_now_is_retried_and_costs_no_other(tmp_path: Path) -> None:
    run(tmp_path, "")
    redone = lose(tmp_path, "quarantine")
    work = run(tmp_path, "keep five")
    fives = {n for n in redone if n % 10 == 5}
    assert fives
    assert {name for name in work if name.startswith("reads")} == {f"reads {n}" for n in fives}
    assert {row["n"] for row in rows(tmp_path) if row["n"] % 10 == 5} == fives
    summary = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    assert summary["quarantined"] == COUNT // 10 - len(fives)


def test_a_lost_commit_whose_records_end_differently_is_followed_by_later_phases(tmp_path: Path) -> None:
    run(tmp_path, "")
    commit = sorted((tmp_path / "run" / "commits").glob("p0-*.json"))[1]
    ranges = json.loads(commit.read_bytes())["ranges"]
    redone = {n for first, last, _ in ranges for n in range(first, last + 1)}
    commit.unlink()
    (tmp_path / "run" / "copies" / commit.name).write_bytes(b"")
    repair_run(tmp_path / "run")
    work = run(tmp_path, "new")
    assert [(row["n"], row["copy"]) for row in rows(tmp_path)] == expected("new", redone)
    assert {name for name in work if name.startswith("reads")} == {f"reads {n}" for n in redone}
