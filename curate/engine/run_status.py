"""What a run directory tells about its run, from its files alone, whether a driver is at work in it or not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curate.engine.accounting.counts import RecordCounts
from curate.engine.durability.directory_store import current_commits
from curate.engine.durability.lock import Holder, holder_of
from curate.engine.durability.progress_file import STATE
from curate.engine.durability.run_directory import read_run
from curate.engine.durability.unit_files import read_notes
from curate.io.atomic import read_json
from curate.records import Record

_TOP_FAILURES = 3


def failed_records(directory: Path) -> Iterator[Record]:
    """Yield the lines of `quarantine/` that count, phase by phase.

    Raises:
        RunDirectoryError: the directory holds no run.
        InfrastructureError: a file is damaged.
    """
    described = read_run(directory)
    for commits in current_commits(directory, described["gathers"]).values():
        for _, note in read_notes(directory, "quarantine", commits):
            yield note


def read_status(directory: Path) -> dict[str, Any]:
    """Return how a run is doing, as `curate status --json` prints it.

    Counts are of what is committed; `live` is what the driver said last, a few seconds ago at most while it works.

    Raises:
        RunDirectoryError: the directory holds no run.
        InfrastructureError: a file is damaged.
    """
    described = read_run(directory)
    commits = current_commits(directory, described["gathers"])
    state = read_json(directory / STATE)
    holder = holder_of(directory)
    phases: list[dict[str, Any]] = []
    for number, stages in enumerate(described["layout"]):
        books = RecordCounts()
        for commit in commits.get(number, ()):
            books.add(commit.books)
        phases.append(
            {
                "stages": stages,
                "complete": (directory / f"commits/complete-{number}.json").exists(),
                "records_in": books.records_in,
                "kept": books.kept,
                "filtered": books.filtered,
                "quarantined": books.quarantined,
                "audio_hours_in": round(books.in_ms / 3_600_000, 6),
            }
        )
    counted: dict[tuple[str, str], int] = {}
    for commit in (commit for each in commits.values() for commit in each):
        for stage, codes in commit.stage_codes.items():
            for code, (records, _) in codes.items():
                counted[stage, code] = counted.get((stage, code), 0) + records
    alive = holder is not None and holder.alive
    status = _status(holder, state, all(phase["complete"] for phase in phases), alive)
    return {
        "name": described["name"],
        "run_dir": str(directory),
        "status": status,
        "driver": _driver(holder),
        "phases": phases,
        "committed_at": max((path.stat().st_mtime for path in (directory / "commits").glob("p*.json")), default=None),
        "live": _live(state) if alive else None,
        "failures": [
            {"stage": stage, "code": code, "records": records}
            for (stage, code), records in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:_TOP_FAILURES]
        ],
    }


def _status(holder: Holder | None, state: Mapping[str, Any], complete: bool, alive: bool) -> str:
    """Return `running`, `done`, `dead` (the driver was killed) or `stopped: …`."""
    if alive:
        return "running"
    if holder is not None and not holder.released:
        return "dead"
    said = str(state.get("status", "stopped"))
    if said == "done":
        return "done" if complete else "stopped"
    return said if said.startswith("stopped") else "stopped"


def _driver(holder: Holder | None) -> dict[str, Any] | None:
    if holder is None:
        return None
    return {
        "host": holder.host,
        "pid": holder.pid,
        "since": holder.since,
        "alive": holder.alive,
        "silent_s": round(max(holder.silent_s, 0.0), 1),
    }


def _live(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the phase at work: counts, speeds in this life of the run, and when it may be done."""
    if "since" not in state:
        return None
    since = state["since"]
    elapsed_s = state["elapsed_s"] - since["elapsed_s"]
    rate = (state["records_in"] - since["records_in"]) / elapsed_s if elapsed_s > 0 else 0.0
    left = None if state["expected"] is None else max(0, state["expected"] - state["records_in"])
    return {
        "executor": state["executor"],
        "phase": state["phase"],
        "records_in": state["records_in"],
        "kept": state["kept"],
        "filtered": state["filtered"],
        "quarantined": state["quarantined"],
        "expected": state["expected"],
        "records_per_s": round(rate, 3),
        "rtfx": round((state["audio_s"] - since["audio_s"]) / elapsed_s, 3) if elapsed_s > 0 else 0.0,
        "eta_s": round(left / rate, 1) if left is not None and rate > 0 else None,
        "age_s": round(max(0.0, time.time() - state["written"]), 1),
    }
