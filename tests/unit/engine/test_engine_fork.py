"""Forks take over the phases before a change; a manifest that only grew at its end is continued."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate import Gather, Pipeline, processing_stage
from curate.engine import RunResult
from curate.engine.durability import commit as commit_module
from curate.engine.protocol.options import RunOptions
from curate.errors import RunDirectoryError
from curate.stages import Merge, QualityFilter, ReadManifest

LOG: list[int] = []


@pytest.fixture(autouse=True)
def _setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit_module, "UNIT_BYTES", 300)
    LOG.clear()


@processing_stage(name="asr", writes=["y"])
def asr(record: dict) -> dict:
    LOG.append(record["x"])
    return {**record, "y": record["x"] ** 2}


class Backwards(Gather):
    def gather(self, records: Any) -> Any:
        yield from reversed(list(records))


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    write(path, range(40))
    return path


def write(path: Path, numbers: range, mode: str = "w") -> None:
    with path.open(mode) as file:
        file.writelines(json.dumps({"audio_filepath": f"{n}.wav", "x": n}) + "\n" for n in numbers)


def run(manifest: Path, run_dir: Path, most: int = 100, *, gather: bool = False, **options: Any) -> RunResult:
    middle = [Backwards()] if gather else []
    stages = [ReadManifest(str(manifest)), asr.with_(checkpoint=True), *middle, QualityFilter(f"y < {most}")]
    return Pipeline("p", [*stages, Merge("out.jsonl")]).run(run_dir=run_dir, options=RunOptions(**options))


def xs(result: RunResult) -> list[int]:
    return [record["x"] for record in result.records()]


def test_a_threshold_is_reconsidered_without_doing_the_work_before_it_again(manifest: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    run(manifest, old)
    LOG.clear()
    with pytest.raises(RunDirectoryError, match=r"expression = 'y < 100'.*--fork NEW_DIR"):
        run(manifest, old, 400)
    before = {path: path.read_bytes() for path in old.rglob("*.json*") if path.is_file()}

    result = run(manifest, old, 400, fork=new)

    assert LOG == []
    assert xs(result) == list(range(20))
    assert result.run_dir == new
    described, forked = (json.loads((path / "run.json").read_bytes()) for path in (new, old))
    assert described["forked_from"] == {"run": str(old), "phases": 1, "fingerprints": [forked["fingerprint"]]}
    assert {path: path.read_bytes() for path in before} == before
    assert xs(run(manifest, new, 400)) == list(range(20))  # it is a run of its own
    assert xs(run(manifest, old, 400, fork=new)) == list(range(20))  # and the same command goes on with it


def test_what_changed_first_decides(manifest: Path, tmp_path: Path) -> None:
    run(manifest, tmp_path / "old")
    stages = [ReadManifest(str(manifest)), asr.with_(checkpoint=True, name="other"), QualityFilter("y < 100")]
    LOG.clear()
    Pipeline("p", [*stages, Merge("out.jsonl")]).run(
        run_dir=tmp_path / "old", options=RunOptions(fork=tmp_path / "new")
    )
    assert len(LOG) == 40


def test_another_writer_changes_nothing_before_it(manifest: Path, tmp_path: Path) -> None:
    run(manifest, tmp_path / "old")
    LOG.clear()
    stages = [ReadManifest(str(manifest)), asr.with_(checkpoint=True), QualityFilter("y < 100"), Merge("o.parquet")]
    result = Pipeline("p", stages).run(run_dir=tmp_path / "old", options=RunOptions(fork=tmp_path / "new"))
    assert LOG == []
    assert result.outputs == (tmp_path / "new/o.parquet",)


def test_a_phase_that_is_not_complete_is_not_taken_over(manifest: Path, tmp_path: Path) -> None:
    run(manifest, tmp_path / "old")
    (tmp_path / "old/commits/complete-0.json").unlink()
    LOG.clear()
    run(manifest, tmp_path / "old", 400, fork=tmp_path / "new")
    assert len(LOG) == 40


def test_shards_are_copied_where_they_cannot_be_linked(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(manifest, tmp_path / "old")
    link = os.link

    def no_link(source: Path, target: Path) -> None:
        if "driver" not in str(target):
            raise OSError(18, "another device")
        link(source, target)

    monkeypatch.setattr(os, "link", no_link)
    assert xs(run(manifest, tmp_path / "old", 400, fork=tmp_path / "new")) == list(range(20))


def test_a_fork_needs_a_run_and_an_empty_place(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="holds no run"):
        run(manifest, tmp_path / "none", fork=tmp_path / "new")
    run(manifest, tmp_path / "old")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("precious")
    with pytest.raises(RunDirectoryError, match="is not empty and holds no run"):
        run(manifest, tmp_path / "old", 400, fork=tmp_path / "full")


def test_a_fork_of_another_input_is_refused(manifest: Path, tmp_path: Path) -> None:
    run(manifest, tmp_path / "old")
    write(manifest, range(40, 50), "a")
    with pytest.raises(RunDirectoryError, match="has changed since the run in"):
        run(manifest, tmp_path / "old", 400, fork=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("gather", [False, True])
@pytest.mark.parametrize("checksums", [False, True])
def test_a_manifest_that_only_grew_is_continued(manifest: Path, tmp_path: Path, gather: bool, checksums: bool) -> None:
    run(manifest, tmp_path / "run", gather=gather, checksums=checksums)
    write(manifest, range(40, 55), "a")
    LOG.clear()
    with pytest.raises(RunDirectoryError, match=r"has changed since the run began.*--grown"):
        run(manifest, tmp_path / "run", gather=gather)

    grown = run(manifest, tmp_path / "run", gather=gather, grown=True)

    assert list(range(40, 55)) == LOG
    assert grown.summary["records_in"] == 55
    run(manifest, tmp_path / "fresh", gather=gather)
    assert (tmp_path / "run/out.jsonl").read_bytes() == (tmp_path / "fresh/out.jsonl").read_bytes()
    run(manifest, tmp_path / "run", gather=gather)  # it has been written down


CHANGES: dict[str, Callable[[Path], Any]] = {
    "another first line": lambda path: path.write_text(path.read_text().replace('"x": 0', '"x": 9') + "{}\n"),
    "fewer lines": lambda path: write(path, range(30)),
    "the last line goes on": lambda path: path.write_text(path.read_text()[:-1] + " \n{}\n"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_that_changed_otherwise_is_refused_all_the_same(manifest: Path, tmp_path: Path, change: str) -> None:
    run(manifest, tmp_path / "run")
    CHANGES[change](manifest)
    with pytest.raises(RunDirectoryError, match=r"--grown: .* has changed before its old end"):
        run(manifest, tmp_path / "run", grown=True)


def test_only_the_last_input_may_grow(manifest: Path, tmp_path: Path) -> None:
    write(tmp_path / "in2.jsonl", range(40, 50))
    both = tmp_path / "in*.jsonl"
    run(both, tmp_path / "run")
    write(manifest, range(60, 61), "a")
    with pytest.raises(RunDirectoryError, match=r"only the last input may have grown, and the input .*in.jsonl has"):
        run(both, tmp_path / "run", grown=True)


def test_a_touched_input_is_the_same_if_its_checksum_was_taken(manifest: Path, tmp_path: Path) -> None:
    run(manifest, tmp_path / "plain")
    run(manifest, tmp_path / "summed", checksums=True)
    os.utime(manifest, (1, 1))
    with pytest.raises(RunDirectoryError, match="has changed"):
        run(manifest, tmp_path / "plain")
    run(manifest, tmp_path / "summed")
    run(manifest, tmp_path / "summed", checksums=True)


def test_a_change_that_keeps_size_and_time_is_found_by_the_checksum(tmp_path: Path) -> None:
    manifest = tmp_path / "in.jsonl"
    write(manifest, range(6000))
    status = manifest.stat()
    run(manifest, tmp_path / "run", checksums=True)
    manifest.write_text(manifest.read_text().replace('"x": 3000}', '"x": 3003}'))
    os.utime(manifest, ns=(status.st_atime_ns, status.st_mtime_ns))
    run(manifest, tmp_path / "run")  # in the middle of the file, it is not seen
    with pytest.raises(RunDirectoryError, match="has changed"):
        run(manifest, tmp_path / "run", checksums=True)
