"""curate and its peers on the same job, in turns on one machine; see README.md.

    python -m tests.bench.peers.compare speed     # the job, three times in turns
    python -m tests.bench.peers.compare measures  # duration and bandwidth, three times in turns
    python -m tests.bench.peers.compare broken    # the job with five broken files
    python -m tests.bench.peers.compare kill      # SIGKILL in the middle of the job, and the same command again

Prints Markdown tables, and writes them and the figures of every single run, as JSON, into the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.peers.material import make_material
from tests.bench.peers.measure import Usage, run
from tests.bench.peers.opened import OpenedFiles
from tests.bench.peers.programs import (
    CURATE,
    CURATOR_WITH_CHECKPOINT,
    MODEL,
    PROGRAMS,
    SDP_CHECKED,
    Outcome,
    Program,
    hub_with_model,
)

CLIPS = 300
REPEATS = 3
BROKEN_CLIPS = 100
KILL_CLIPS = 600
KILL_AT = 0.6
"""The share of the clips that a program has opened when it is killed."""

START = f"""
import torch
from nemo.collections.asr.models import ASRModel
ASRModel.restore_from({str(MODEL)!r}, map_location="cpu")
"""
"""What all programs have to do before the first clip."""


class Bench:
    """Runs of programs, each in a new folder, and their figures.

    Args:
        work: an empty folder with a short path: Ray's sockets lie below it.
    """

    def __init__(self, work: Path) -> None:
        self.work = work
        self.runs: list[dict[str, Any]] = []
        self._number = 0
        self.hub = work / "hf"
        hub_with_model(self.hub)

    def folder(self) -> Path:
        """Return a new folder for the output of a run."""
        self._number += 1
        folder = self.work / str(self._number)
        folder.mkdir()
        return folder

    def start(self, what: str, program: Program, command: Sequence[str], out: Path, **options: Any) -> Usage:
        """Run a program and note what it used."""
        interpreter = program.interpreter()
        assert interpreter is not None
        log = out / "log.txt"
        used = run([interpreter, *command], log, program.environment(self.hub), **options)
        self.runs.append({"what": what, "program": program.name, "out": str(out), **asdict(used)})
        note = f"{what}, {program.name}: exit code {used.returncode}, {used.wall_s:.1f} s, {used.cpu_s:.1f} CPU s"
        print(f"{note}, {used.peak_mb:.0f} MB", file=sys.stderr, flush=True)
        return used


def speed(bench: Bench, programs: Sequence[Program], clips: int, repeats: int) -> list[str]:
    """Compare time and memory for the job."""
    material = make_material(bench.work / "speed", clips)
    runs: dict[str, list[tuple[Usage, Outcome]]] = {}
    starts: list[Usage] = []
    for _ in range(repeats):
        starts.append(bench.start("start", CURATE, ["-c", START], bench.folder()))
        for program in programs:
            out = bench.folder()
            used = bench.start("job", program, program.command(material, out), out)
            runs.setdefault(program.name, []).append((used, program.outcome(out)))
            shutil.rmtree(out, ignore_errors=True)
    lines = [f"{clips} clips, {material.audio_s:.0f} s of audio; {counted(repeats)}.", ""]
    lines += table("program", "CPU s", "wall s", "peak MB", "CPU to curate's", "lines", "kept", "good clips lost")
    lines.append(row("import of NeMo and the model alone", *medians(starts), "", "", "", ""))
    own = medians([used for used, _ in next(iter(runs.values()))])[0]
    for program in programs:
        found = runs[program.name]
        used = medians([each for each, _ in found])
        published = [outcome.published.keys() for _, outcome in found]
        lost = max(len(material.good - each) for each in published)
        lines.append(row(program.name, *used, used[0] / own, program.lines(), len(published[-1]), lost))
    return [*lines, ""]


def measures(bench: Bench, programs: Sequence[Program], clips: int, repeats: int) -> list[str]:
    """Compare time and memory for duration and bandwidth alone."""
    material = make_material(bench.work / "measures", clips)
    runs: dict[str, list[tuple[Usage, Outcome]]] = {}
    programs = [program for program in programs if program.measures is not None]
    for _ in range(repeats):
        for program in programs:
            assert program.measures is not None
            out = bench.folder()
            used = bench.start("measures", program, program.measures(material, out), out)
            runs.setdefault(program.name, []).append((used, program.outcome(out)))
            shutil.rmtree(out, ignore_errors=True)
    lines = [f"{clips} clips, {material.audio_s:.0f} s of audio; {counted(repeats)}.", ""]
    lines += table("program", "CPU s", "wall s", "peak MB", "CPU to curate's", "rows")
    own = medians([used for used, _ in next(iter(runs.values()))])[0]
    for program in programs:
        used = medians([each for each, _ in runs[program.name]])
        lines.append(row(program.name, *used, used[0] / own, len(runs[program.name][-1][1].published)))
    return [*lines, ""]


def broken(bench: Bench, programs: Sequence[Program], clips: int) -> list[str]:
    """Compare what happens with five broken files."""
    lines = [f"{clips} clips, {clips - clips // 10} of them good, and five broken files.", ""]
    lines += table("program", "exit code", "published", "good clips lost", "broken files named", "not named anywhere")
    for number, program in enumerate(programs):
        material = make_material(bench.work / f"broken{number}", clips, with_broken=True)  # SDP moves files
        out = bench.folder()
        used = bench.start("broken", program, program.command(material, out), out)
        outcome = program.outcome(out)
        published = outcome.published.keys()
        silent = len(material.ids - published - outcome.explained)
        named = f"{len(material.broken & outcome.explained)} of {len(material.broken)}"
        lost = len(material.good - published)
        lines.append(row(program.name, used.returncode, len(published), lost, named, silent))
    return [*lines, ""]


def killed(bench: Bench, programs: Sequence[Program], clips: int) -> list[str]:
    """Compare what happens after SIGKILL of all processes and the same command again."""
    material = make_material(bench.work / "killed", clips)
    lines = [f"{clips} clips, killed when {KILL_AT:.0%} of them were opened; then the same command.", ""]
    lines += table(
        "program", "opened before", "again", "exit code", "clips lost", "kept twice", "CPU s before", "CPU s after"
    )
    for program in programs:
        out = bench.folder()
        command = program.command(material, out)
        opened = OpenedFiles(material.clips)
        first = bench.start("killed", program, command, out, kill_when=partial(enough_opened, opened, KILL_AT * clips))
        before = set(opened.names())
        opened.close()
        again = OpenedFiles(material.clips)
        second = bench.start("resumed", program, command, out)
        repeated = len(before & again.names())
        again.close()
        outcome = program.outcome(out)
        twice = sum(count > 1 for count in outcome.published.values())
        lost = len(material.good - outcome.published.keys())
        cells = (len(before), repeated, second.returncode, lost, twice, first.cpu_s, second.cpu_s)
        lines.append(row(program.name, *cells))
        print(lines[-1], file=sys.stderr, flush=True)
    return [*lines, ""]


def counted(repeats: int) -> str:
    """Return how often each program ran, in words."""
    return "one run each" if repeats == 1 else f"medians of {repeats} runs in turns"


def fill(page: Path, what: str, lines: Sequence[str]) -> None:
    """Replace what stands between `<!-- peers: WHAT -->` and `<!-- end of WHAT -->` on a page."""
    before, begin, rest = page.read_text().partition(f"<!-- peers: {what} -->\n")
    _, end, after = rest.partition(f"<!-- end of {what} -->")
    if not (begin and end):
        raise ValueError(f"{page} has no marks of {what}")
    page.write_text(before + begin + "\n" + "\n".join(lines).strip() + "\n\n" + end + after)


def enough_opened(opened: OpenedFiles, count: float) -> bool:
    """Return whether a program has opened that number of clips."""
    return len(opened.names()) >= count


def medians(runs: Sequence[Usage]) -> tuple[float, float, float]:
    """Return the medians of CPU time, wall time and peak memory."""
    return (
        statistics.median(used.cpu_s for used in runs),
        statistics.median(used.wall_s for used in runs),
        statistics.median(used.peak_mb for used in runs),
    )


def table(*heads: str) -> list[str]:
    """Return the head of a Markdown table."""
    return [row(*heads), "|" + "---|" * len(heads)]


def row(*cells: object) -> str:
    """Return a row of a Markdown table; three significant digits are enough for a measured figure."""
    shown = [f"{cell:.2f}" if isinstance(cell, float) and cell < 10 else cell for cell in cells]
    shown = [f"{cell:.0f}" if isinstance(cell, float) else str(cell) for cell in shown]
    return f"| {' | '.join(shown)} |"


def versions(program: Program) -> str:
    """Return the versions of a program, or why it is left out."""
    if program.interpreter() is None:
        return f"not installed: {program.python} is not set"
    return ", ".join(f"{name} {version}" for name, version in program.found_versions().items())


def machine() -> str:
    """Return one line about this machine."""
    model = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    name = model.partition(":")[2].strip()
    return f"{os.cpu_count()} cores ({name}), {memory_gb:.0f} GB, Python {platform.python_version()}, load {load:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("speed", "measures", "broken", "kill"))
    parser.add_argument("--out", type=Path, default=Path("build/peers"), help="folder for the tables and the figures")
    parser.add_argument("--clips", type=int, help=f"default: {CLIPS}; {BROKEN_CLIPS} for broken, {KILL_CLIPS} for kill")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--only", default="", help="names of programs, separated by semicolons")
    parser.add_argument("--page", type=Path, help="a page whose part between the marks of this comparison is replaced")
    parser.add_argument("--keep", action="store_true", help="keep the folders of the runs")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no program runs on
    more = {"broken": [SDP_CHECKED], "kill": [CURATOR_WITH_CHECKPOINT]}
    everything = [*PROGRAMS, *more.get(given.what, [])]
    wanted = [name.strip() for name in given.only.split(";") if name.strip()]
    everything = [program for program in everything if not wanted or program.name in wanted]
    programs = [program for program in everything if program.interpreter()]
    used = [f"{program.name} ({versions(program)})" for program in everything]
    lines = [f"{time.strftime('%d %B %Y')}; {machine()}; {'; '.join(used)}.", ""]
    bench = Bench(Path(tempfile.mkdtemp(prefix="cmp-", dir="/tmp")))
    try:
        if given.what == "speed":
            lines += speed(bench, programs, given.clips or CLIPS, given.repeats)
        elif given.what == "measures":
            lines += measures(bench, programs, given.clips or CLIPS, given.repeats)
        elif given.what == "broken":
            lines += broken(bench, programs, given.clips or BROKEN_CLIPS)
        else:
            lines += killed(bench, programs, given.clips or KILL_CLIPS)
    finally:
        given.out.mkdir(parents=True, exist_ok=True)
        figures = {"lines": lines, "runs": bench.runs}
        (given.out / f"{given.what}.json").write_text(json.dumps(figures, indent=1) + "\n")
        if not given.keep:
            shutil.rmtree(bench.work, ignore_errors=True)
    (given.out / f"{given.what}.md").write_text("\n".join(lines))
    if given.page is not None:
        fill(given.page, given.what, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
