"""New audio that stages write is committed with its records: same files everywhere, none lost, none left over."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import soundfile

from curate.engine import Retry, RunOptions
from curate.io.failpoints import FAILPOINTS
from tests.faults.new_audio import pipeline, results, run
from tests.unit.engine.hearing import write_noise

COUNT = 21
AUDIO = [name for name in FAILPOINTS if name.startswith("audio.")]
DRIVER = [name for name in FAILPOINTS if name.startswith(("commit.", "phase.", "publish.", "summary."))]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    with (folder / "in.jsonl").open("w") as lines:
        for number in range(COUNT):
            write_noise(folder / f"{number}.flac", 0.1, seed=number)
            lines.write(json.dumps({"audio_filepath": f"{number}.flac", "number": number}) + "\n")
    return folder / "in.jsonl"


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run("local", run_dir, manifest) == 0
    found = results(run_dir)
    assert len(found) == 1 + COUNT  # the first of the two stages' files are gone: nothing refers to them
    return found


def test_the_published_manifest_names_the_new_audio_relative_to_itself(manifest: Path, tmp_path: Path) -> None:
    result = pipeline(manifest).run(run_dir=tmp_path / "run", max_failures=100)
    rows = [json.loads(line) for line in (tmp_path / "run" / "out.jsonl").read_bytes().splitlines()]
    assert len(rows) == result.summary["kept"] == 15
    for row in rows:
        assert row["audio_filepath"].startswith("audio/")
        assert soundfile.info(tmp_path / "run" / row["audio_filepath"]).duration == row["duration"] == 0.1
    kept = next(iter(result.records()))
    assert kept["audio_filepath"].startswith("run:audio/")


@pytest.mark.parametrize("executor", ["multiprocessing", "shuffled"])
def test_every_executor_and_every_run_directory_has_the_same_files(
    executor: str, manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    assert run(executor, tmp_path / "another" / "place", manifest) == 0
    assert results(tmp_path / "another" / "place") == undisturbed


def test_on_ray_the_files_are_the_same_after_a_killed_driver(
    ray_cluster: Any, manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    executor = f"ray@{ray_cluster.address}"
    assert run(executor, tmp_path / "killed", manifest, "commit.after_rename:kill@3") == -signal.SIGKILL
    assert run(executor, tmp_path / "killed", manifest) == 0
    assert results(tmp_path / "killed") == undisturbed


@pytest.mark.parametrize("place", [*AUDIO, *DRIVER])
def test_a_killed_run_is_resumed_with_the_same_files_and_no_orphan(
    place: str, manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    killed = 0
    for nth in ("", "@3"):
        killed += run("local", run_dir, manifest, f"{place}:kill{nth}") == -signal.SIGKILL
    assert killed
    assert run("local", run_dir, manifest) == 0
    assert results(run_dir) == undisturbed


@pytest.mark.parametrize(
    "place", ["commit.before_write:kill_child@2", "commit.after_data:kill_child,commit.after_rename:kill@4"]
)
def test_killed_workers_leave_no_orphan(
    place: str, manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    if run("multiprocessing", run_dir, manifest, place) != 0:
        assert run("multiprocessing", run_dir, manifest) == 0
    assert results(run_dir) == undisturbed


def test_a_retry_keeps_the_audio_of_the_phases_before(manifest: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    run_dir = tmp_path / "run"
    options = RunOptions(unit_bytes=2000)
    pipeline(manifest, str(broken)).run(run_dir=run_dir, max_failures=100, options=options)
    before = results(run_dir)
    broken.unlink()
    retried = RunOptions(unit_bytes=2000, retry=Retry())
    result = pipeline(manifest, str(broken)).run(run_dir=run_dir, max_failures=100, options=retried)
    assert result.summary["quarantined"] == 0
    after = results(run_dir)
    del before["out.jsonl"], after["out.jsonl"]
    assert after == before


def test_a_fork_links_the_audio_of_the_phases_that_it_takes_over(manifest: Path, tmp_path: Path) -> None:
    pipeline(manifest).run(run_dir=tmp_path / "old", max_failures=100)
    before = results(tmp_path / "old")
    changed = pipeline(manifest)
    changed.stages[-2] = changed.stages[-2].with_(name="judged-anew")
    forked = RunOptions(fork=tmp_path / "new")
    changed.run(run_dir=tmp_path / "old", max_failures=100, options=forked)
    assert results(tmp_path / "new") == before
    names = sorted((tmp_path / "new" / "audio").rglob("*.flac"))
    assert all(path.samefile(tmp_path / "old" / path.relative_to(tmp_path / "new")) for path in names)


def test_a_fork_that_changes_the_audio_writes_its_own(manifest: Path, tmp_path: Path) -> None:
    pipeline(manifest).run(run_dir=tmp_path / "old", max_failures=100)
    before = results(tmp_path / "old")
    pipeline(manifest, gain=0.25).run(
        run_dir=tmp_path / "old", max_failures=100, options=RunOptions(fork=tmp_path / "new")
    )
    assert results(tmp_path / "old") == before
    assert not set(results(tmp_path / "new")) & (set(before) - {"out.jsonl"})


def test_without_a_run_directory_new_audio_is_refused(manifest: Path) -> None:
    from curate import InfrastructureError

    stages = pipeline(manifest).stages[:3]
    from curate import Pipeline

    with pytest.raises(InfrastructureError, match="needs a run directory"):
        Pipeline("in-memory", stages).run()
