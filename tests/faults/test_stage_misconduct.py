"""What a stage may do to its process: the verdict is the same on every executor, and the run finds its files again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from curate import AudioBatch, Pipeline, ProcessingStage, RecordStage
from curate.errors import InfrastructureError
from curate.executors.local import LocalExecutor
from curate.executors.multiprocessing import MultiprocessingExecutor
from curate.executors.ray import RayExecutor
from curate.records import Record
from curate.stages import Merge, Partition, ReadManifest

EXECUTORS: list[Any] = [
    pytest.param(LocalExecutor(), id="local"),
    pytest.param(MultiprocessingExecutor(cpus=2), id="multiprocessing"),
    pytest.param(RayExecutor(), id="ray"),
]


class RaisesInterrupt(RecordStage):
    """Raises what only Ctrl-C should."""

    def process_record(self, record: Record) -> Record:
        if record["x"] == 3:
            raise KeyboardInterrupt("not from a keyboard")
        return record


class RaisesInterruptInBatch(ProcessingStage):
    def process(self, batch: AudioBatch) -> AudioBatch:
        if any(record["x"] == 3 for record in batch.data):
            raise KeyboardInterrupt("not from a keyboard")
        return batch


class RaisesInterruptInSetup(RecordStage):
    def setup(self) -> None:
        raise KeyboardInterrupt("not from a keyboard")

    def process_record(self, record: Record) -> Record:
        return record


@dataclass
class ChangesDirectory(RecordStage):
    """Changes the working directory, and says for every record where it is."""

    to: str
    removes: bool = False

    def writes(self) -> tuple[str, ...]:
        return ("cwd",)

    def setup(self) -> None:
        Path(self.to).mkdir(exist_ok=True)
        os.chdir(self.to)
        if self.removes:
            Path(self.to).rmdir()

    def process_record(self, record: Record) -> Record:
        return {**record, "cwd": "" if self.removes else Path.cwd().name}


def write_manifest(folder: Path, count: int = 20) -> None:
    folder.joinpath("in.jsonl").write_text("".join(f'{{"x": {x}, "duration": 1.0}}\n' for x in range(count)))


@pytest.mark.parametrize("place", EXECUTORS, indirect=True)
@pytest.mark.parametrize("stage", [RaisesInterrupt(), RaisesInterruptInBatch()])
def test_keyboard_interrupt_raised_by_a_stage_costs_the_record(place: Any, stage: Any, tmp_path: Path) -> None:
    write_manifest(tmp_path)
    stages = [ReadManifest(tmp_path / "in.jsonl"), Partition(max_records=5), stage.with_(workers=1)]
    result = Pipeline("p", stages).run(place, run_dir=tmp_path / "run")
    assert [(note.record["x"], note.code) for note in result.quarantined] == [(3, "stage_error")]
    assert result.summary["kept"] == 19
    (note,) = result.quarantined
    assert (note.message, note.attempts) == ("KeyboardInterrupt: not from a keyboard", 1)


@pytest.mark.parametrize("place", EXECUTORS, indirect=True)
def test_keyboard_interrupt_raised_in_setup_names_the_stage(place: Any, tmp_path: Path) -> None:
    write_manifest(tmp_path)
    stages = [ReadManifest(tmp_path / "in.jsonl"), RaisesInterruptInSetup().with_(workers=1)]
    with pytest.raises(InfrastructureError, match="cannot be set up: KeyboardInterrupt: not from a keyboard"):
        Pipeline("p", stages).run(place, run_dir=tmp_path / "run")


INTERRUPTED = """
import os, signal, sys
from curate import Pipeline, RecordStage
from curate.stages import ReadRecords

class Interrupts(RecordStage):
    def process_record(self, record):
        if record["x"] == 3:
            os.kill(os.getpid(), signal.SIGINT)
            sum(range(10**7))  # the handler runs between two instructions of this stage
        return record

try:
    Pipeline("p", [ReadRecords([{"x": x} for x in range(9)]), Interrupts()]).run(run_dir=sys.argv[1])
except KeyboardInterrupt:
    print("interrupted")
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


def test_real_interrupt_during_a_stage_on_local_ends_the_run(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "run")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == "interrupted\n"
    assert not (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize("place", EXECUTORS, indirect=True)
@pytest.mark.parametrize("removes", [False, True])
def test_stage_that_changes_the_directory_leaves_relative_paths_of_the_run(
    place: Any, removes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_manifest(tmp_path)
    for start in (0, 1):  # the second one resumes
        elsewhere = ChangesDirectory(str(tmp_path / "elsewhere"), removes)
        stages = [ReadManifest("in.jsonl"), Partition(max_records=5), elsewhere.with_(workers=1), Merge("out.jsonl")]
        result = Pipeline("p", stages).run(place, run_dir=Path("runs/one"))
        assert Path.cwd() == tmp_path, start
        assert result.summary["kept"] == 20
    rows = [json.loads(line) for line in (tmp_path / "runs" / "one" / "out.jsonl").read_text().splitlines()]
    assert {row["cwd"] for row in rows} == {"" if removes else "elsewhere"}


LEAVES_THREAD = """
import threading
from curate import RecordStage, processing_stage

@processing_stage(name="leaves_thread")
def leaves_thread(record: dict):
    threading.Thread(target=threading.Event().wait, args=(60,), name="keeps listening").start()
    return record
"""


def test_leftover_thread_of_a_local_run_does_not_keep_the_command_from_ending(tmp_path: Path) -> None:
    write_manifest(tmp_path, 1)
    (tmp_path / "stages.py").write_text(LEAVES_THREAD)
    (tmp_path / "p.yaml").write_text(
        "name: p\nstages:\n  - {use: read_manifest, manifest: in.jsonl}\n  - use: leaves_thread\n"
    )
    command = [sys.executable, "-m", "curate.cli", "--plugins-file", "stages.py", "run", "p.yaml", "--run-dir", "run"]
    began = time.monotonic()
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 0, ended.stderr
    assert "'keeps listening'" in ended.stderr
    assert time.monotonic() - began < 40


SLOW_IMPORT = """
import os, signal, sys, time
open(os.environ["SIGN"], "w").close()
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "term")]
)
@pytest.mark.parametrize("verb", ["run", "plan", "--help"])
def test_signal_during_imports_ends_with_its_exit_code_and_no_traceback(
    number: int, code: int, word: str, verb: str, tmp_path: Path
) -> None:
    """The plugins-file stands for a library that takes seconds to import, and swallows what is raised meanwhile."""
    (tmp_path / "slow.py").write_text(f"try:\n    exec({SLOW_IMPORT!r})\nexcept BaseException:\n    raise ImportError")
    (tmp_path / "p.yaml").write_text("name: p\nstages:\n  - {use: read_manifest, manifest: in.jsonl}\n")
    write_manifest(tmp_path)
    sign = tmp_path / "sign"
    command = [sys.executable, "-m", "curate.cli", "--plugins-file", "slow.py", verb]
    command += [] if verb == "--help" else ["p.yaml"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "SIGN": str(sign)}, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    while not sign.exists():
        assert process.poll() is None, process.communicate()
    began = time.monotonic()
    while process.poll() is None:  # Python notices none that comes in the instant before it begins to sleep
        assert time.monotonic() - began < 20
        process.send_signal(number)
        time.sleep(0.5)
    _, printed = process.communicate()
    assert process.returncode == code, printed
    assert b"Traceback" not in printed
    assert word in printed.decode()
