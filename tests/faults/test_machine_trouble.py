"""Trouble of the machine stops a run with exit code 4 and names the file; the same command resumes it later."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOUND = ROOT / "pipelines/quickstart/data/audio/0001.flac"
COUNT = 400
EXECUTORS = ("local", "multiprocessing")

STAGES = """
import os
from curate import AudioBatch, processing_stage
from curate.engine.durability import commit as commit_module
from curate.io import failpoints

commit_module.UNIT_BYTES = 8000
failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))

@processing_stage(name="mischief", writes=[])
def mischief(batch: AudioBatch) -> AudioBatch:  # batches, so that none travel together and there are many units
    if "MISCHIEF" in os.environ and any(record["n"] == 250 for record in batch.data):
        exec(os.environ["MISCHIEF"])
    return batch
"""

PIPELINE = """\
stages:
  - {use: read_manifest, manifest: "in*.jsonl"}
  - {use: partition, max_records: 20, by_length: false}
  - use: mischief
    checkpoint: true
  - {use: merge, path: out.jsonl}
  - {use: merge, path: out.parquet}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(STAGES)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    rows = [{"audio_filepath": f"{n}.wav", "n": n, "text": "to be or not to be " * 4} for n in range(COUNT)]
    for name, some in (("in1.jsonl", rows[:300]), ("in2.jsonl", rows[300:])):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in some))
    return tmp_path


class Ended:
    """How a run has ended."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.code, self.err = process.returncode, process.stderr


def curate(
    project: Path,
    run_dir: Path | str,
    *options: str,
    executor: str = "local",
    before: Callable[[], None] | None = None,
    **environment: str,
) -> Ended:
    command = [sys.executable, "-m", "curate.cli", "-q", "--plugins-file", "mine.py", "run", "p.yaml"]
    return Ended(
        subprocess.run(
            [*command, "--executor", executor, "--run-dir", str(run_dir), *options],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            preexec_fn=before,
            timeout=120,
        )
    )


def digests(run_dir: Path) -> list[str]:
    return [hashlib.sha256((run_dir / name).read_bytes()).hexdigest() for name in ("out.jsonl", "out.parquet")]


@pytest.fixture
def well(project: Path) -> list[str]:
    ended = curate(project, "well")
    assert ended.code == 0, ended.err
    return digests(project / "well")


def goes_on(project: Path, run_dir: Path, well: list[str], executor: str = "local") -> None:
    ended = curate(project, run_dir, executor=executor)
    assert ended.code == 0, ended.err
    assert digests(run_dir) == well
    summary = json.loads((run_dir / "summary.json").read_bytes())
    assert (summary["records_in"], summary["quarantined"]) == (COUNT, 0)
    assert not [path for path in run_dir.rglob("*") if ".tmp-" in path.name]


PLACES = [
    "commit.after_temporary:{}@3",
    "commit.after_temporary_commit:{}@3",
    "publish.during:{}",
    "publish.after_temporary:{}@2",
]


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(
    ("place", "what", "says"),
    [
        *((place, "enospc", "No space left on device") for place in PLACES),
        (PLACES[0], "eacces", "Permission denied"),
        (PLACES[1], "erofs", "Read-only file system"),
    ],
)
def test_a_disk_that_refuses(project: Path, well: list[str], executor: str, place: str, what: str, says: str) -> None:
    run_dir = project / "run"
    ended = curate(project, run_dir, executor=executor, CURATE_FAILPOINT=place.format(what))
    assert ended.code == 4, ended.err
    folder = "out." if "publish" in place else "commits/" if "commit:" in place else "data/"
    assert f"error: cannot write {run_dir}/{folder}" in ended.err
    assert says in ended.err
    assert "Run the same command again to resume" in ended.err
    goes_on(project, run_dir, well, executor)


def test_files_that_may_not_become_large(project: Path, well: list[str]) -> None:
    run_dir = project / "run"
    ended = curate(
        project, run_dir, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
    )
    assert ended.code == 4, ended.err
    assert f"cannot write {run_dir}/out.jsonl: File too large" in ended.err
    goes_on(project, run_dir, well)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount(disk, "tmpfs", "-t", "tmpfs", "-o", "size=96k"):
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def mount(disk: Path, device: str, *options: str) -> bool:
    try:
        return subprocess.run(["mount", *options, device, str(disk)], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_a_disk_that_is_full(project: Path, well: list[str], small_disk: Path) -> None:
    run_dir = small_disk / "run"
    ended = curate(project, run_dir)
    assert ended.code == 4, ended.err
    assert f"{run_dir}/" in ended.err
    assert "No space left on device" in ended.err
    assert mount(small_disk, "tmpfs", "-o", "remount,size=4m")
    goes_on(project, run_dir, well)


def test_a_disk_that_may_not_be_written(project: Path, well: list[str], small_disk: Path) -> None:
    run_dir = small_disk / "run"
    assert mount(small_disk, "tmpfs", "-o", "remount,size=4m,ro")
    ended = curate(project, run_dir)
    assert ended.code == 4, ended.err
    assert f"cannot run in {run_dir}" in ended.err
    assert "Read-only file system" in ended.err
    assert mount(small_disk, "tmpfs", "-o", "remount,rw")
    # not a remount of the whole: the run has its log of events open there, so the kernel would refuse
    data = str(run_dir / "data")
    covers = f"import subprocess; subprocess.run(['mount', '-t', 'tmpfs', '-o', 'ro', 'tmpfs', {data!r}], check=True)"
    ended = curate(project, run_dir, MISCHIEF=covers)
    assert ended.code == 4, ended.err
    assert f"cannot write {data}/" in ended.err
    subprocess.run(["umount", data], check=True)
    goes_on(project, run_dir, well)


@pytest.mark.parametrize(
    "place",
    ["commit.before_write", "commit.after_temporary", "commit.after_data", "commit.after_rename@4", "publish.during"],
)
def test_sigterm_in_the_midst_of_a_commit_loses_nothing(project: Path, well: list[str], place: str) -> None:
    name, _, count = place.partition("@")
    ended = curate(project, "run", CURATE_FAILPOINT=f"{name}:term@{count or 1}")
    assert ended.code == 143, ended.err
    commits = len(list((project / "run/commits").glob("p0-*.json")))
    assert commits >= 1  # what was finished when it came
    goes_on(project, project / "run", well)


def test_an_input_that_vanishes(project: Path, well: list[str]) -> None:
    hides = "os.replace('in2.jsonl', 'hidden')"
    ended = curate(project, "run", MISCHIEF=hides)
    assert ended.code == 4, ended.err
    assert "cannot read the manifest in2.jsonl" in ended.err
    assert not (project / "run/out.jsonl").exists()
    (project / "hidden").rename(project / "in2.jsonl")
    goes_on(project, project / "run", well)


def test_an_input_that_is_cut_off(project: Path) -> None:
    cuts = "os.truncate('in2.jsonl', 3000)"
    ended = curate(project, "run", MISCHIEF=cuts)
    assert ended.code == 4, ended.err
    assert "in2.jsonl has changed while it was read" in ended.err
    assert not (project / "run/out.jsonl").exists()


def test_a_run_directory_that_vanishes(project: Path, well: list[str]) -> None:
    ended = curate(project, "run", MISCHIEF="os.rename('run', 'moved')")
    assert ended.code == 4, ended.err
    assert "run" in ended.err
    goes_on(project, project / "moved", well)


HEARD = """\
stages:
  - {use: read_manifest, manifest: in.jsonl, roots: audio}
  - {use: partition, max_records: 4, by_length: false}
  - use: mischief
  - use: audio_duration
  - {use: merge, path: out.jsonl}
"""


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_audio_root_that_vanishes_blames_no_record(project: Path, executor: str) -> None:
    (project / "audio").mkdir()
    rows = [{"audio_filepath": f"audio/{n}.flac", "n": 250 if n == 10 else n} for n in range(20)]
    for row in rows:
        shutil.copyfile(SOUND, project / str(row["audio_filepath"]))
    (project / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (project / "p.yaml").write_text(HEARD)
    ended = curate(project, "run", executor=executor, MISCHIEF="os.rename('audio', 'unmounted')")
    assert ended.code == 4, ended.err
    assert "has vanished: is its disk mounted?" in ended.err
    assert not list((project / "run/quarantine").iterdir())
    (project / "unmounted").rename(project / "audio")
    ended = curate(project, "run", executor=executor)
    assert ended.code == 0, ended.err
    assert json.loads((project / "run/summary.json").read_bytes())["kept"] == 20
