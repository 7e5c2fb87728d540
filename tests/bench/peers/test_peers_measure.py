"""The instruments of the comparison with the peers: they must count what the programs under comparison hide."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.peers.material import make_material
from tests.bench.peers.opened import OpenedFiles
from tests.bench.peers.programs import JOBS, PROGRAMS, count_lines

REPOSITORY = Path(__file__).resolve().parents[3]

MEASURED = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from tests.bench.peers import measure
measure.GRACE_S = 1.0
folder = Path(sys.argv[1])
work = (
    "import os, sys\\n"
    "if os.fork() == 0:\\n"  # a daemon that its parent does not wait for
    "    os.setsid()\\n"
    "    held = b'x' * 150_000_000\\n"
    "    begun = os.times()\\n"
    "    while sum(os.times()[:2]) - sum(begun[:2]) < 0.5: pass\\n"
    "    open(sys.argv[1] + '/ready', 'w').close()\\n"
    "    while True: os.read(0, 1) or __import__('time').sleep(0.05)\\n"
    "while not os.path.exists(sys.argv[1] + '/ready'): __import__('time').sleep(0.05)\\n"
    "sys.exit(3)\\n"
)
kill_when = (folder / "ready").exists if sys.argv[2] == "kill" else lambda: False
env = {"PATH": "/usr/bin:/bin"}
used = measure.run([sys.executable, "-c", work, str(folder)], folder / "log", env, kill_when=kill_when)
print(json.dumps(asdict(used) | {"left": len(measure.descendants())}))
"""


def measured(folder: Path, how: str) -> dict[str, float]:
    """Measure in a process of its own: it reaps all its children, which would be those of pytest."""
    command = [sys.executable, "-c", MEASURED, str(folder), how]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=60)
    return json.loads(done.stdout)


IGNORED = """
import sys
from pathlib import Path
from tests.bench.peers import measure
work = (
    "import os, signal\\n"
    "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\\n"  # the kernel reaps the child, and counts its time nowhere
    "read, write = os.pipe()\\n"
    "if os.fork() == 0:\\n"
    "    os.close(read)\\n"
    "    while sum(os.times()[:2]) < 1.5: pass\\n"
    "    os._exit(0)\\n"
    "os.close(write)\\n"
    "os.read(read, 1)\\n"  # until the child has ended
)
print(measure.run([sys.executable, "-c", work], Path(sys.argv[1]) / "log", {"PATH": "/usr/bin:/bin"}).cpu_s)
"""


@pytest.mark.processes
def test_measure_counts_the_cpu_of_a_process_whose_parent_ignores_its_end(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", IGNORED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=60)
    assert 1.0 <= float(done.stdout) < 5


@pytest.mark.processes
def test_measure_counts_the_cpu_and_memory_of_a_daemon_and_ends_it(tmp_path: Path) -> None:
    used = measured(tmp_path, "wait")
    assert used["returncode"] == 3
    assert not used["killed"]
    assert 0.5 <= used["cpu_s"] < 5
    assert 140 < used["peak_mb"] < 400
    assert used["left"] == 0


@pytest.mark.processes
def test_measure_kill_ends_every_process(tmp_path: Path) -> None:
    used = measured(tmp_path, "kill")
    assert used["killed"]
    assert used["left"] == 0


def test_opened_files_are_those_whose_content_was_read(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    opened = OpenedFiles(tmp_path)
    (tmp_path / "a").read_text()
    (tmp_path / "b").stat()
    assert opened.names() == {"a"}
    (tmp_path / "c").read_text()
    assert opened.names() == {"a", "c"}
    opened.close()


def test_lines_are_counted_without_comments_blank_lines_and_docstrings(tmp_path: Path) -> None:
    script = tmp_path / "a.py"
    script.write_text(
        '"""Of\ntwo lines."""\n\nimport os  # used\n# not\n\ndef f():\n    """Doc."""\n    return (\n        1\n    )\n'
    )
    assert count_lines(script) == 5
    document = tmp_path / "a.yaml"
    document.write_text("# not\na: 1\n\nb:\n  - 2\n")
    assert count_lines(document) == 3


def test_every_job_of_a_program_exists() -> None:
    for program in PROGRAMS:
        assert all((JOBS / name).is_file() for name in program.job), program.name
        assert program.lines() > 10


def test_material_says_what_a_run_should_publish(tmp_path: Path) -> None:
    material = make_material(tmp_path / "made", 20, with_broken=True)
    assert len(material.ids) == 25
    assert len(material.good) == 18
    assert len(material.broken) == 5
    assert material.broken < material.ids
    assert not material.broken & material.good
    parts = sorted(material.parts(4).iterdir())
    assert "".join(part.read_text() for part in parts) == material.manifest.read_text()
