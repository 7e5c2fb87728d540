"""SIGTERM at moments drawn by a seeded lot: exit code 143 within the grace, and what is committed stays as it is."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import processes_left

COUNT = 600
BATCH = 10

STAGES = """
import time
from pathlib import Path

from curate import processing_stage
from curate.engine.durability import commit as commit_module
from curate.executors.multiprocessing import MultiprocessingTransport
from curate.executors.ray_transport import RayTransport

commit_module.UNIT_BYTES = 3000
MultiprocessingTransport.max_in_flight = RayTransport.max_in_flight = 2


@processing_stage(name="works", reads=["n"], writes=["y"])
def works(record: dict) -> dict:
    with Path({log!r}).open("ab", buffering=0) as log:
        log.write(b"%d\\n" % record["n"])
    time.sleep(0.002)
    return {{**record, "y": record["n"] ** 2}}
"""

PIPELINE = """\
executor: {executor}
run_dir: {run_dir}
stages:
  - {{use: read_manifest, manifest: m.jsonl}}
  - {{use: partition, max_records: {batch}}}
  - {{use: works, workers: 2}}
  - {{use: merge, path: out.jsonl}}
"""


class Project:
    """A pipeline file, and its lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.run_dir = folder / "run"
        rows = [json.dumps({"audio_filepath": f"{n}.wav", "n": n}) for n in range(COUNT)]
        (folder / "m.jsonl").write_text("\n".join(rows) + "\n")
        (folder / "mine.py").write_text(STAGES.format(log=str(self.log)))

    def start(self, executor: str, run_dir: str = "run") -> subprocess.Popen[str]:
        pipeline = PIPELINE.format(executor=executor, run_dir=run_dir, batch=BATCH)
        (self.folder / "p.yaml").write_text(pipeline)
        command = [sys.executable, "-m", "curate.cli", "--plugins-file", "mine.py", "run", "p.yaml"]
        return subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ
        )

    def run(self, run_dir: str = "run") -> bytes:
        """Run to the end and return what is published."""
        _, err = (process := self.start("{use: local}", run_dir)).communicate(timeout=120)
        assert process.returncode == 0, err
        return (self.folder / run_dir / "out.jsonl").read_bytes()

    def touched(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def committed(self) -> dict[Path, bytes]:
        """Return the commits that there are now, and the shards that they name."""
        commits = {path: path.read_bytes() for path in (self.run_dir / "commits").glob("p*.json")}
        shards = {path: path.read_bytes() for path in (self.run_dir / "data").glob("p*") if ".tmp-" not in path.name}
        return {**shards, **commits}


@pytest.mark.parametrize(("name", "draws", "seed"), [("local", 4, 1), ("multiprocessing", 4, 2), ("ray", 1, 3)])
def test_sigterm_at_random_moments(
    name: str, draws: int, seed: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    executor = f"{{use: {name}}}"
    if name == "ray":
        executor = f"{{use: ray, address: '{request.getfixturevalue('ray_cluster').address}'}}"
    lot = random.Random(seed)
    project = Project(tmp_path)
    undisturbed = project.run("undisturbed")
    project.log.unlink()
    committed: dict[Path, bytes] = {}
    for _ in range(draws):
        moment = len(project.touched()) + lot.randrange(1, COUNT // (draws + 2))
        process = project.start(executor)
        while process.poll() is None and len(project.touched()) < moment:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
        before = project.committed()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 143, err
        assert "has not let go" not in err  # which is said as the grace ends
        assert "Traceback" not in err
        committed |= before | project.committed()
        assert project.committed() == committed  # nothing that counted is gone or different

    assert committed
    assert project.run() == undisturbed
    assert {path: path.read_bytes() for path in committed} == committed
    again = len(project.touched()) - COUNT
    print(f"\n{name}: {draws} times SIGTERM; {again} of {COUNT} records done again")
    assert again <= draws * 2 * 2 * BATCH
    assert processes_left() == []
