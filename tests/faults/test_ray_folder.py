"""What a killed driver leaves of its private Ray cluster is removed by the next one: its own, and nothing else."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curate.executors.ray_folder import ClusterFolder, sweep_abandoned_folders

OWNS = """
import sys, time
from curate.executors.ray_folder import ClusterFolder
print(ClusterFolder().path, flush=True)
time.sleep(3600)
"""

STAYS = "import time; print('started', flush=True); time.sleep(3600)"

DRIVER = """
import os, signal, sys
from curate import Pipeline, RecordStage
from curate.executors.ray import RayExecutor
from curate.stages import ReadRecords

class Kills(RecordStage):
    def process_record(self, record):
        if record["driver"] is not None:
            os.kill(record["driver"], signal.SIGKILL)
        return record

driver = os.getpid() if sys.argv[1] == "killed" else None
Pipeline("p", [ReadRecords([{"driver": driver}]), Kills().with_(workers=1)]).run(RayExecutor(num_cpus=1))
"""


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of this test and of the processes that it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def test_folder_of_a_killed_driver_is_removed_with_its_processes(folders: Path) -> None:
    driver = started(OWNS)
    assert driver.stdout is not None
    folder = Path(driver.stdout.readline().strip())
    agent = started(STAYS, f"--temp-dir={folder}")
    named_alike = started(STAYS, f"--temp-dir={folder}-of-another")
    try:
        for process in (agent, named_alike):  # its command line is there
            assert process.stdout is not None and process.stdout.readline()
        sweep_abandoned_folders()
        assert folder.is_dir()
        driver.kill()
        driver.wait()
        sweep_abandoned_folders()
        assert not folder.exists()
        assert agent.wait(timeout=10) == -9
        assert named_alike.poll() is None
    finally:
        for process in (driver, agent, named_alike):
            process.kill()
            process.communicate()


def test_folders_that_are_in_use_or_not_ours_stay(folders: Path) -> None:
    own = ClusterFolder()
    foreign = folders / "curate-ray-by-hand"
    foreign.mkdir()
    target = folders / "data"
    target.mkdir()
    (target / "curate-owner.lock").touch()
    (folders / "curate-ray-link").symlink_to(target)
    sweep_abandoned_folders()
    assert own.path.is_dir() and foreign.is_dir() and target.is_dir()
    own.remove()
    assert not own.path.exists()
    lock = os.open(foreign, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock)


def test_folder_that_is_being_made_is_not_taken_for_abandoned(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock, swept = fcntl.flock, list[int]()

    def sweep_before(descriptor: int, operation: int) -> None:
        """Let another driver start between the making of the owner's file and its lock."""
        if not swept:
            swept.append(descriptor)
            sweep_abandoned_folders()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_before)
    own = ClusterFolder()
    assert swept
    assert [path.name for path in own.path.iterdir()] == ["curate-owner.lock"]
    sweep_abandoned_folders()
    assert own.path.is_dir()
    own.remove()


@pytest.mark.ray
@pytest.mark.slow
def test_next_start_removes_the_cluster_of_a_driver_killed_by_sigkill(monkeypatch: pytest.MonkeyPatch) -> None:
    short = Path(f"/tmp/c{os.getpid()}")  # the paths of Ray's sockets must be short
    short.mkdir()
    monkeypatch.setenv("TMPDIR", str(short))
    try:
        assert started(DRIVER, "killed").wait(timeout=120) == -9
        assert len(list(short.glob("curate-ray-*"))) == 1
        assert started(DRIVER, "spared").wait(timeout=120) == 0
        assert list(short.glob("curate-ray-*")) == []
        end = time.monotonic() + 20
        while (left := processes_naming(short)) and time.monotonic() < end:
            time.sleep(0.1)
        assert left == []
    finally:
        subprocess.run(["rm", "-rf", str(short)], check=True)


def processes_naming(folder: Path) -> list[str]:
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) + b"/" in command:
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found
