"""Shards are written whole, once, with the same bytes everywhere, whatever is killed or fails while they are."""

from __future__ import annotations

import json
import signal
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline
from curate.engine import Retry, RunOptions, RunProgress, repair_run
from curate.errors import PlanError
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.io.failpoints import FAILPOINTS
from curate.plugin import default_host, hookimpl
from curate.stages import NemoTarredWriter, ReadManifest, ReadRecords
from tests.faults.sharded import numbers, pipeline, published, run
from tests.unit.engine.hearing import write_noise

COUNT = 25
PLACES = [name for name in FAILPOINTS if name.startswith(("shard.", "set.", "commit.", "phase.", "summary."))]


def write_manifest(folder: Path, does: dict[int, str]) -> Path:
    with (folder / "in.jsonl").open("w") as lines:
        for number in range(COUNT):
            write_noise(folder / f"{number}.flac", 0.1, seed=number)
            row: dict[str, Any] = {"audio_filepath": f"{number}.flac", "number": number, "text": f"word {number}"}
            row["split"] = "dev" if number % 4 == 1 else "train"
            if number in does:
                row["does"] = does[number]
            lines.write(json.dumps(row) + "\n")
    return folder / "in.jsonl"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("corpus"), {7: "fail"})


@pytest.fixture(scope="module")
def undisturbed(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run("local", run_dir, manifest) == 0
    check_set(run_dir, left_out={7})
    return published(run_dir / "set")


def check_set(run_dir: Path, left_out: set[int]) -> None:
    """Check that every record is in one shard, that rows and members agree, and that nothing else is left."""
    folder = run_dir / "set"
    assert sorted(numbers(folder)) == [number for number in range(COUNT) if number not in left_out]
    for tar in sorted(folder.rglob("audio_*.tar")):
        rows = tar.parent / "sharded_manifests" / tar.name.replace("audio_", "manifest_").replace(".tar", ".json")
        names = [json.loads(line)["audio_filepath"] for line in rows.read_text().splitlines()]
        with tarfile.open(tar) as members:
            assert members.getnames() == names
    in_run = [path for path in (run_dir / "shards").rglob("*") if path.is_file()]
    assert len(in_run) == 3 * len(list(folder.rglob("audio_*.tar")))
    assert not list(run_dir.rglob("*.tmp-*"))


@pytest.mark.parametrize("executor", ["multiprocessing", "shuffled"])
def test_every_executor_writes_the_same_set(
    executor: str, manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    assert run(executor, tmp_path / "another" / "run", manifest) == 0
    check_set(tmp_path / "another" / "run", left_out={7})
    assert published(tmp_path / "another" / "run" / "set") == undisturbed


@pytest.mark.parametrize(("shards", "expected"), [(1, 1), (2, 2)])
def test_processes_that_write_shards_are_no_more_than_the_shards(
    shards: int, expected: int, manifest: Path, tmp_path: Path
) -> None:
    most = 0

    class WorkerCount:
        @hookimpl
        def curate_on_progress(self, event: RunProgress) -> None:
            nonlocal most
            most = max(most, *event.workers, 0)

    writer = NemoTarredWriter(tmp_path / "set", shards=shards, lang="en")
    with default_host().observed_by(WorkerCount()):
        result = Pipeline("few", [ReadManifest(manifest), writer]).run(
            MultiprocessingExecutor(cpus=4), run_dir=tmp_path / "run"
        )
    assert most == expected
    assert result.summary["kept"] == COUNT
    assert len(list((tmp_path / "set").rglob("*.tar"))) == shards


@pytest.mark.ray
def test_ray_writes_the_same_set(manifest: Path, undisturbed: dict[str, str], tmp_path: Path, ray_cluster: str) -> None:
    result = pipeline(manifest).run("ray", run_dir=tmp_path / "run", max_failures=100)
    assert result.summary["quarantined"] == 1
    assert published(tmp_path / "run" / "set") == undisturbed


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_run_publishes_the_same_set(
    place: str, manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    killed = 0
    for nth in ("", "@3"):
        killed += run("local", run_dir, manifest, f"{place}:kill{nth}") == -signal.SIGKILL
    assert killed
    assert run("local", run_dir, manifest) == 0
    check_set(run_dir, left_out={7})
    assert published(run_dir / "set") == undisturbed


@pytest.mark.parametrize("place", ["commit.before_write:kill_child@2", "commit.after_rename:kill_child"])
def test_killed_workers_change_nothing(place: str, manifest: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    assert run("multiprocessing", run_dir, manifest, place) == 0
    check_set(run_dir, left_out={7})
    assert published(run_dir / "set") == undisturbed


def test_a_record_that_ends_its_worker_is_left_out_of_its_shard_alone(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, {4: "segfault", 6: "fail", 12: "segfault"})
    result = pipeline(manifest).run("multiprocessing", run_dir=tmp_path / "run", max_failures=100)
    codes = {note.record["number"]: note.code for note in result.quarantined}
    assert codes == {4: "worker_died", 6: "bad_value", 12: "worker_died"}
    check_set(tmp_path / "run", left_out={4, 6, 12})
    alike = write_manifest(tmp_path, {4: "fail", 6: "fail", 12: "fail"})
    pipeline(alike).run("local", run_dir=tmp_path / "alike", max_failures=100)

    def members(run_dir: str) -> dict[str, list[str]]:
        tars = sorted((tmp_path / run_dir / "set").rglob("*.tar"))
        return {str(tar.relative_to(tmp_path / run_dir)): tarfile.open(tar).getnames() for tar in tars}

    assert members("run") == members("alike")


def test_a_retry_writes_the_shard_of_the_record_again_and_no_other(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, {6: "fail_while_broken"})
    broken, log = tmp_path / "broken", tmp_path / "log"
    broken.touch()
    made = pipeline(manifest, log=str(log), broken=str(broken))
    made.run(run_dir=tmp_path / "run", max_failures=100)
    check_set(tmp_path / "run", left_out={6})
    broken.unlink()
    log.unlink()
    result = made.run(run_dir=tmp_path / "run", max_failures=100, options=RunOptions(retry=Retry()))
    assert (result.summary["kept"], result.summary["quarantined"]) == (COUNT, 0)
    check_set(tmp_path / "run", left_out=set())
    redone = Counter(log.read_text().split())
    assert "6" in redone
    assert len(redone) <= 4
    log.unlink()
    made.run(run_dir=tmp_path / "fresh", max_failures=100)
    assert published(tmp_path / "run" / "set") == published(tmp_path / "fresh" / "set")


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_shard_is_found_by_its_checksum_and_it_alone_is_written_again(
    damage: str, manifest: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    made = pipeline(manifest, log=str(log))
    made.run(run_dir=tmp_path / "run", max_failures=100)
    log.unlink()
    shard = sorted((tmp_path / "run" / "shards").rglob("*.tar"))[1]
    content = bytearray(shard.read_bytes())
    if damage == "missing":
        shard.unlink()
    else:
        content[600] ^= 1
        shard.write_bytes(content)  # of the same size
    named = str(shard.relative_to(tmp_path / "run"))
    repaired = repair_run(tmp_path / "run")
    assert [each.path for each, _ in repaired if each.kind == "shard"] == [named]
    if damage == "flipped":
        assert (tmp_path / "run" / "damaged" / named).read_bytes() == content
    made.run(run_dir=tmp_path / "run", max_failures=100)
    beside = {"4", "6", "7"}  # the shard of a record that fails is packed with it first, and so has to be packed again
    assert 1 <= len({*log.read_text().split()} - beside) <= 3
    check_set(tmp_path / "run", left_out={7})
    assert published(tmp_path / "run" / "set") == undisturbed
    assert repair_run(tmp_path / "run") == []


def test_a_fork_finds_the_shards_that_have_not_changed(manifest: Path, tmp_path: Path) -> None:
    from curate.stages import QualityFilter

    log = tmp_path / "log"
    made = pipeline(manifest, log=str(log))
    made.run(run_dir=tmp_path / "old", max_failures=100)
    log.unlink()
    before = published(tmp_path / "old" / "set")
    made.stages.insert(2, QualityFilter("number != 24"))
    made.run(run_dir=tmp_path / "old", max_failures=100, options=RunOptions(fork=tmp_path / "new"))
    assert published(tmp_path / "old" / "set") == before
    check = sorted(numbers(tmp_path / "new" / "set"))
    assert check == [number for number in range(COUNT) if number not in (7, 24)]


@pytest.mark.parametrize("shards", [16, pytest.param(1024, marks=pytest.mark.soak)])
def test_every_record_is_a_member_of_one_shard_and_a_row_of_its_manifest(shards: int, tmp_path: Path) -> None:
    count, lengths_s = 1023, (0.02, 0.04, 0.08, 0.1)
    for length_s in lengths_s:
        write_noise(tmp_path / f"{length_s}.wav", length_s)
    rows = [
        {"audio_filepath": str(tmp_path / f"{length_s}.wav"), "duration": length_s, "number": number}
        for number in range(count)
        for length_s in [lengths_s[number % 4]]
    ]
    writer = NemoTarredWriter("set", shards=shards, buckets=[0.03, 0.05, 0.06, 0.09], codec="wav", lang="en")
    Pipeline("buckets", [ReadRecords(rows), writer]).run(run_dir=tmp_path / "run")
    folder = tmp_path / "run" / "set"
    buckets = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert buckets == ["bucket1", "bucket2", "bucket4", "bucket5"]  # nothing is between 0.05 and 0.06 s
    found: list[int] = []
    for name in buckets:
        tars = list((folder / name).glob("audio_*.tar"))
        assert len(tars) == min(shards, len(rows[int(name[-1]) - 1 - (name > "bucket3") :: 4]))
        for tar in tars:
            rows_of = folder / name / "sharded_manifests" / tar.name.replace("audio_", "manifest_")
            lines = [json.loads(line) for line in rows_of.with_suffix(".json").read_text().splitlines()]
            with tarfile.open(tar) as members:
                assert members.getnames() == [line["audio_filepath"] for line in lines]
            found.extend(line["number"] for line in lines)
    assert sorted(found) == list(range(count))


def test_a_changed_path_costs_no_work(manifest: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    made = pipeline(manifest, log=str(log))
    made.run(run_dir=tmp_path / "run", max_failures=100)
    log.unlink()
    made.stages[-1] = made.stages[-1].with_(path=tmp_path / "elsewhere")
    made.run(run_dir=tmp_path / "run", max_failures=100)
    assert not log.exists()
    assert published(tmp_path / "elsewhere") == published(tmp_path / "run" / "set")


def test_without_a_run_directory_shards_cannot_be_packed(manifest: Path) -> None:
    from curate import InfrastructureError
    from curate.stages.write.nemo_tarred import NemoFormat
    from curate.stages.write.packing import PackShards

    with pytest.raises(InfrastructureError, match="needs a run directory"):
        PackShards(NemoFormat()).setup()


def test_a_folder_that_is_not_the_runs_own_is_refused_before_any_work(manifest: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    made = pipeline(manifest, log=str(log))
    made.run(run_dir=tmp_path / "run", max_failures=100)
    log.unlink()
    place = tmp_path / "place"
    made.stages[-1] = made.stages[-1].with_(path=place)
    place.mkdir()
    (place / "thesis.txt").write_text("years of work")
    with pytest.raises(PlanError, match="not a data set that curate has published: choose another path"):
        made.run(run_dir=tmp_path / "other", max_failures=100)
    (place / "thesis.txt").unlink()
    made.run(run_dir=tmp_path / "run", max_failures=100)  # an empty folder is nobody's loss
    with pytest.raises(PlanError, match=f"the data set of another run, {tmp_path / 'run'}"):
        made.run(run_dir=tmp_path / "other", max_failures=100)
    assert not log.exists()
