"""Long recordings in any format: decoded about twice per node in bounded memory, and a kill costs micro-batches."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.long_recordings import BATCH

ROOT = Path(__file__).parents[2]
CODECS = {"mp3": "libmp3lame", "m4a": "aac", "opus": "libopus", "flac": "flac"}
MOST_DECODES = 2.3
MOST_MB = 400.0

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg, which makes the recordings")


def write_recording(path: Path, hours: float) -> Path:
    """Write a tone that slowly rises, with noise, and return its path."""
    if path.suffix == ".m4a":
        pytest.importorskip("av")
    source = f"aevalsrc='0.2*sin(2*PI*(200+0.1*t)*t)+0.05*(random(0)-0.5)':s=16000:d={round(3600 * hours)}"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-c:a", CODECS[path.suffix[1:]], str(path)]
    subprocess.run(command, check=True, timeout=1200)
    return path


def run(executor: str, run_dir: Path, audio: Path, windows: int, place: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.contract.long_recordings", executor, str(run_dir), str(audio), str(windows)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        [*command, place], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=3000, check=False
    )


def require_bounded(executor: str, folder: Path, kind: str, hours: float, windows: int) -> None:
    audio = write_recording(folder / f"long.{kind}", hours)
    done = run(executor, folder / "run", audio, windows)
    assert done.returncode == 0, done.stderr
    driver_mb = float(done.stdout.splitlines()[-1])
    workers = [line.split() for line in (folder / "run.log").read_text().splitlines()]
    decoded_s = sum({name: float(seconds) for name, seconds, _ in workers}.values())
    worker_mb = max(float(grown) for _, _, grown in workers)
    decodes = decoded_s / (3600 * hours)
    print(
        f"\n{kind}, {hours} h, {executor}: {decodes:.2f} decodes, driver {driver_mb:.0f} MB, worker {worker_mb:.0f} MB"
    )
    assert decodes <= MOST_DECODES
    assert max(driver_mb, worker_mb) <= MOST_MB
    assert not (folder / "run" / "spool").exists()


@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
@pytest.mark.parametrize("kind", ["mp3", "opus"])
def test_minutes_in_windows_are_decoded_twice_in_bounded_memory(tmp_path: Path, kind: str, executor: str) -> None:
    require_bounded(executor, tmp_path, kind, 0.1, 60)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
@pytest.mark.parametrize("kind", CODECS)
def test_an_hour_in_500_windows_is_decoded_twice_in_bounded_memory(tmp_path: Path, kind: str, executor: str) -> None:
    require_bounded(executor, tmp_path, kind, 1.0, 500)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", CODECS)
def test_ten_hours_take_the_memory_of_one(tmp_path: Path, kind: str) -> None:
    require_bounded("multiprocessing", tmp_path, kind, 10.0, 5000)


def require_little_rework(folder: Path, hours: float, windows: int) -> None:
    audio = write_recording(folder / "long.mp3", hours)
    killed = run("multiprocessing", folder / "run", audio, windows, "commit.after_rename:kill@4")
    assert killed.returncode == -signal.SIGKILL
    units = [json.loads(path.read_bytes()) for path in (folder / "run" / "commits").glob("p*.json")]
    done = run("multiprocessing", folder / "run", audio, windows)
    assert done.returncode == 0, done.stderr
    worked = (folder / "run.worked").read_text().splitlines()
    assert {int(number) for number in worked} == set(range(windows))
    again = len(worked) - windows
    largest = max(unit["account"]["books"].get("records_in", 0) for unit in units)
    in_flight = (os.cpu_count() or 1) * 2 * 2 * BATCH  # two batches for each worker of two hops
    bound = largest + in_flight
    print(f"\n{hours} h: {again} of at most {bound} windows were done again")
    assert again <= bound
    assert not (folder / "run" / "spool").exists()


def test_a_kill_in_a_long_recording_costs_a_unit_and_what_was_in_flight(tmp_path: Path) -> None:
    require_little_rework(tmp_path, 0.2, 600)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_kill_in_ten_hours_costs_a_unit_and_what_was_in_flight(tmp_path: Path) -> None:
    require_little_rework(tmp_path, 10.0, 5000)
