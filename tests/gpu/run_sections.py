"""Runs the measurements on a GPU: `python -m tests.gpu.run_sections [seconds]`. `make bench-gpu` does the same.

Each section is a process of its own with a time limit of its own, the most valuable first. Those that time something
run alone; others run with those next to them. Results are appended, one JSON object a line, to `results.jsonl` in the
output folder as soon as they are known, and a section's whole output to `logs.txt` when it ends, so that a run that is
cut short keeps what it has. The output folder is `$CURATE_BENCH_OUT`, `build/bench-gpu` without it.

    python -m tests.gpu.run_sections 540                  # everything that fits into nine minutes
    python -m tests.gpu.run_sections 200 --only equality,oom_in_capture
    python -m tests.gpu.run_sections 100 --device cpu --small   # shows only that the sections run
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attrs import frozen

DEFAULT_BUDGET_S = 560.0
_START_S = 15.0
"""Less time than this is not enough to import NeMo and to measure anything."""


@frozen
class Section:
    """One section.

    Args:
        name: of the function in `tests.gpu.sections`.
        limit_s: the most time that it gets.
        times: whether it times anything, so that nothing else may run meanwhile.
        needs_gpu: whether it means nothing on the CPU.
    """

    name: str
    limit_s: float
    times: bool = False
    needs_gpu: bool = False


SECTIONS = (
    Section("machine", 60),
    Section("model", 120),
    Section("released_memory", 100),
    Section("equality", 120),
    Section("knee", 40, times=True),
    Section("stage", 75, times=True),
    Section("decoder_slices", 50, times=True),
    Section("short_of_memory", 100, needs_gpu=True),
    Section("two_workers", 100, needs_gpu=True),
    Section("oom_in_capture", 100, needs_gpu=True),
    Section("side_stream", 80, times=True),
    Section("encoder_graphs", 40, times=True),
    Section("decoder_several", 50, times=True),
    Section("neighbour", 50, times=True, needs_gpu=True),
    Section("command_line", 50, times=True),
    Section("whisper", 60, times=True),
    Section("error_messages", 60, needs_gpu=True),
    Section("restore_again", 60),
)
"""Whether graphs keep their memory, the texts, the knee, the stage and the decoder first: about four minutes. Then what
loses texts where memory is short, all at once; then what is off by default; then what is known from an earlier run."""


def out_folder() -> Path:
    """Return the folder for results, which exists."""
    folder = Path(os.environ.get("CURATE_BENCH_OUT") or "build/bench-gpu")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def keep(section: str, **row: object) -> None:
    """Append one result to the file of results, and print it."""
    line = json.dumps({"section": section, **row}, default=str)
    with (out_folder() / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    print(line, flush=True)


@frozen
class Running:
    """A section that has been started."""

    section: Section
    process: subprocess.Popen[bytes]
    log: Path
    started: float
    limit_s: float

    def finish(self) -> None:
        """Wait for its end, end it at its limit, and keep how it ended and what it printed."""
        try:
            code = self.process.wait(max(0.1, self.started + self.limit_s - time.monotonic()))
            ended = "done" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)  # its group: children of its own as well
            self.process.wait()
            ended = f"cut off after {self.limit_s:.0f} s"
        printed = self.log.read_text("utf-8", "replace")
        with (out_folder() / "logs.txt").open("a", encoding="utf-8") as logs:
            logs.write(f"{'=' * 30} {self.section.name}: {ended}\n{printed[-2_000_000:]}\n")
        for line in (out_folder() / "results.jsonl").read_text("utf-8").splitlines():
            if json.loads(line)["section"] == self.section.name:
                print(line[:400], flush=True)
        tail = {} if ended == "done" else {"log": printed[-1500:]}
        keep(self.section.name, ended=ended, wall_s=round(time.monotonic() - self.started, 1), **tail)


def start(section: Section, left_s: float, arguments: argparse.Namespace, folder: Path) -> Running:
    """Start one section in a process group of its own."""
    limit_s = min(section.limit_s, left_s)
    log = folder / f"{section.name}.log"
    command = [sys.executable, "-u", "-m", "tests.gpu.sections", section.name, "--device", arguments.device]
    command += ["--small"] if arguments.small else []
    environment = {**os.environ, "CURATE_BENCH_LIMIT_S": f"{limit_s:.0f}", "PYTHONFAULTHANDLER": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    return Running(section, process, log, time.monotonic(), limit_s)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=DEFAULT_BUDGET_S, help="for all sections together")
    parser.add_argument("--only", default="", help="names of sections, separated by commas")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to see that the sections run")
    parser.add_argument("--small", action="store_true", help="with toy models")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds
    only = set(filter(None, arguments.only.split(",")))
    unknown = only - {section.name for section in SECTIONS}
    if unknown:
        parser.error(f"there are no sections {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="curate-bench-") as logs:
        running: list[Running] = []
        for section in SECTIONS:
            if only and section.name not in only:
                continue
            if section.times or any(one.section.times for one in running):
                while running:
                    running.pop(0).finish()
            left_s = deadline - time.monotonic()
            if section.needs_gpu and arguments.device == "cpu":
                keep(section.name, ended="skipped: needs a GPU")
            elif left_s < _START_S:
                keep(section.name, ended=f"skipped: {left_s:.0f} s left")
            else:
                running.append(start(section, left_s, arguments, Path(logs)))
        while running:
            running.pop(0).finish()
    results = (out_folder() / "results.jsonl").read_text("utf-8").splitlines()
    ended = [json.loads(line) for line in results if '"ended"' in line]
    return int(any(row["ended"].startswith("failed") for row in ended))


if __name__ == "__main__":
    sys.exit(main())
