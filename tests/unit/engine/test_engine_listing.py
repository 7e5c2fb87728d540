"""What folders and patterns hold is listed once: later files move no record, and `--grown` reads them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline, processing_stage
from curate.engine import RunResult
from curate.engine.durability import commit as commit_module
from curate.engine.protocol.options import RunOptions
from curate.errors import RunDirectoryError
from curate.stage import Source
from curate.stages import FolderReader, Merge, MixReader, Partition, ReadManifest

STOP_AT: list[str] = []


class Crash(GeneratorExit):
    """What no `except Exception` stops, as a SIGKILL."""


@pytest.fixture(autouse=True)
def _setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "UNIT_BYTES", 200)
    STOP_AT.clear()


@processing_stage(name="works", reads=["text"], writes=["length"])
def works(record: dict) -> dict:
    if record["text"] in STOP_AT:
        raise Crash
    return {**record, "length": len(record["text"])}


def run(source: Source, run_dir: Path, **options: Any) -> RunResult:
    stages = [source, Partition(max_records=2), works, Merge("out.jsonl")]
    return Pipeline("listed", stages).run(run_dir=run_dir, options=RunOptions(**options))


def texts(run_dir: Path) -> list[str]:
    return [json.loads(line)["text"] for line in (run_dir / "out.jsonl").read_bytes().splitlines()]


def recording(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.wav").write_bytes(b"RIFF")
    (folder / f"{name}.txt").write_bytes(name.encode(errors="replace"))


def lines(path: Path, *found: str) -> None:
    path.write_text("".join(json.dumps({"duration": 1.0, "text": text}) + "\n" for text in found))


def test_folder_that_gains_a_file_between_two_attempts_ends_as_it_began(tmp_path: Path, warnings: list[str]) -> None:
    folder, run_dir = tmp_path / "speech", tmp_path / "run"
    for name in ("b/1", "b/2", "c/1", "c/2", "d\n/odd \udcff"):
        recording(folder, name)
    STOP_AT.append("c/2")
    with pytest.raises(Crash):
        run(FolderReader(folder), run_dir)
    STOP_AT.clear()
    recording(folder, "a/first")  # it would come first, and move every record
    recording(folder, "c/0")
    result = run(FolderReader(folder), run_dir)
    assert texts(run_dir)[:4] == ["b/1", "b/2", "c/1", "c/2"] and result.summary["records_in"] == 5
    assert "2 files have appeared since the run began, a/first.wav among them" in warnings[0]
    kept = (run_dir / "listing.jsonl").read_bytes()
    assert [json.loads(line) for line in kept.splitlines()][-1] == "d\n/odd \udcff.wav"
    described = json.loads((run_dir / "run.json").read_bytes())
    assert described["listing"]["count"] == 5 and described["inputs"] == []

    grown = run(FolderReader(folder), run_dir, grown=True)
    assert grown.summary["records_in"] == 7 and texts(run_dir)[-2:] == ["a/first", "c/0"]
    assert len(warnings) == 1
    run(FolderReader(folder), run_dir)  # it has been written down
    assert len(warnings) == 1 and len((run_dir / "copies/listing.jsonl").read_bytes().splitlines()) == 7


def test_recording_that_has_gone_since_costs_its_record(tmp_path: Path) -> None:
    folder, run_dir = tmp_path / "speech", tmp_path / "run"
    for name in ("a", "b", "c"):
        recording(folder, name)
    STOP_AT.append("c")
    with pytest.raises(Crash):
        run(FolderReader(folder), run_dir)
    STOP_AT.clear()
    (folder / "a.wav").unlink()
    assert run(FolderReader(folder), run_dir).summary["records_in"] == 3
    assert texts(run_dir) == ["a", "b", "c"]


def test_pattern_that_finds_more_reads_what_was_there_and_grown_reads_the_rest(
    tmp_path: Path, warnings: list[str]
) -> None:
    run_dir, source = tmp_path / "run", ReadManifest(str(tmp_path / "*.jsonl"))
    lines(tmp_path / "b.jsonl", "b1", "b2", "b3")
    lines(tmp_path / "c.jsonl", "c1", "c2", "c3")
    STOP_AT.append("c2")
    with pytest.raises(Crash):
        run(source, run_dir)
    STOP_AT.clear()
    lines(tmp_path / "a.jsonl", "a1")
    run(source, run_dir)
    assert texts(run_dir) == ["b1", "b2", "b3", "c1", "c2", "c3"]
    assert "a.jsonl among them" in warnings[0]
    with (tmp_path / "c.jsonl").open("a") as file:
        file.write('{"duration": 1.0, "text": "c4"}\n')
    with pytest.raises(RunDirectoryError, match=r"c.jsonl has changed since the run began"):
        run(source, run_dir)
    run(source, run_dir, grown=True)
    assert texts(run_dir) == ["b1", "b2", "b3", "c1", "c2", "c3", "c4", "a1"]
    (tmp_path / "b.jsonl").unlink()
    with pytest.raises(RunDirectoryError, match=r"b.jsonl is gone since the run began"):
        run(source, run_dir)


def test_manifest_that_is_named_needs_no_listing(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", "a1")
    run(ReadManifest(tmp_path / "a.jsonl"), tmp_path / "run")
    assert not (tmp_path / "run/listing.jsonl").exists()


@pytest.mark.parametrize("lost", ["listing.jsonl", "inputs.jsonl"])
def test_damaged_listing_is_read_from_its_copy_and_without_one_refused(tmp_path: Path, lost: str) -> None:
    for number in range(120):
        lines(tmp_path / f"{number:03}.jsonl", f"t{number}")
    run_dir, source = tmp_path / "run", ReadManifest(str(tmp_path / "*.jsonl"))
    STOP_AT.append("t118")
    with pytest.raises(Crash):
        run(source, run_dir)
    STOP_AT.clear()
    described = json.loads((run_dir / "run.json").read_bytes())
    assert len(described["inputs"]) == 100 and described["all_inputs"]["count"] == 120
    (run_dir / lost).write_bytes(b'"000.jsonl"\n')
    lines(tmp_path / "aaa.jsonl", "new")
    run(source, run_dir)
    assert texts(run_dir) == [f"t{number}" for number in range(120)]
    (run_dir / lost).unlink()
    (run_dir / "copies" / lost).write_bytes(b"")
    with pytest.raises(RunDirectoryError, match=rf"{lost} is damaged or missing, and so is its copy"):
        run(source, run_dir)


def test_change_of_one_of_many_inputs_is_named(tmp_path: Path) -> None:
    for number in range(120):
        lines(tmp_path / f"{number:03}.jsonl", f"t{number}")
    source = ReadManifest(str(tmp_path / "*.jsonl"))
    run(source, tmp_path / "run")
    lines(tmp_path / "111.jsonl", "changed")
    with pytest.raises(RunDirectoryError, match=r"111.jsonl has changed since the run began"):
        run(source, tmp_path / "run")


def test_crash_between_the_longer_listing_and_its_description_leaves_the_old_one(tmp_path: Path) -> None:
    folder, run_dir = tmp_path / "speech", tmp_path / "run"
    for name in ("b", "c"):
        recording(folder, name)
    run(FolderReader(folder), run_dir)
    with (run_dir / "listing.jsonl").open("a") as file:
        file.write('"a.wav"\n')
    recording(folder, "a")
    run(FolderReader(folder), run_dir)
    assert texts(run_dir) == ["b", "c"]
    run(FolderReader(folder), run_dir, grown=True)
    assert texts(run_dir) == ["b", "c", "a"]
    assert len((run_dir / "listing.jsonl").read_bytes().splitlines()) == 3


def test_fork_reads_what_the_run_before_has_listed(tmp_path: Path, warnings: list[str]) -> None:
    folder = tmp_path / "speech"
    for name in ("b", "c"):
        recording(folder, name)

    def forked(most: int, run_dir: Path, **options: Any) -> None:
        @processing_stage(name="least", reads=["length"], writes=["long"])
        def least(record: dict) -> dict:
            return {**record, "long": record["length"] > most}

        stages = [FolderReader(folder), works.with_(checkpoint=True), least, Merge("out.jsonl")]
        Pipeline("forked", stages).run(run_dir=run_dir, options=RunOptions(**options))

    forked(1, tmp_path / "run")
    recording(folder, "a")
    forked(2, tmp_path / "run", fork=tmp_path / "new")
    assert texts(tmp_path / "new") == ["b", "c"] and warnings
    assert (tmp_path / "new/listing.jsonl").read_bytes() == (tmp_path / "run/listing.jsonl").read_bytes()


def test_mixture_resumes_over_what_its_sources_have_listed(tmp_path: Path) -> None:
    for name in ("b", "c"):
        recording(tmp_path / "speech", name)
    lines(tmp_path / "m1.jsonl", "m1", "m2")
    both: list[Source] = [
        FolderReader(tmp_path / "speech", dataset_name="f"),
        ReadManifest(str(tmp_path / "m*.jsonl"), dataset_name="m"),
    ]
    STOP_AT.append("m2")
    with pytest.raises(Crash):
        run(MixReader(both), tmp_path / "run")
    STOP_AT.clear()
    recording(tmp_path / "speech", "a")
    lines(tmp_path / "m0.jsonl", "m0")
    run(MixReader(both), tmp_path / "run")
    assert texts(tmp_path / "run") == ["b", "c", "m1", "m2"]
    with pytest.raises(RunDirectoryError, match="draws from all its inputs"):
        run(MixReader(both), tmp_path / "run", grown=True)


def test_relative_names_are_those_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines(Path("a.jsonl"), "a1")
    lines(Path("b.jsonl"), "b1")
    run(ReadManifest("*.jsonl"), Path("run"))
    assert [json.loads(line) for line in Path("run/listing.jsonl").read_bytes().splitlines()] == ["a.jsonl", "b.jsonl"]
    assert os.fspath(tmp_path) not in Path("run/listing.jsonl").read_text()
