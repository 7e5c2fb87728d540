"""What was run, with what, and where; and what failed, with an example of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from curate.errors import RECORD_ERROR_CODES
from curate.report.figures import count, seconds
from curate.report.flow import ExitReason
from curate.report.run_files import RunFiles
from curate.report.samples import Sample
from curate.report.sanitize import printable
from curate.report.scan import Survey
from curate.report.speed import Speed

_HIDDEN = frozenset({"class", "code"})


def facts(files: RunFiles, speed: Speed) -> list[str]:
    """Return a line about the run, in pieces."""
    lives = files.lives
    found: list[str] = []
    if lives:
        found.append(f"begun {_date(lives[0].get('at'))}")
        executors = dict.fromkeys(str(life.get("executor")) for life in lives if life.get("executor"))
        found.append(f"on {', '.join(executors)}" if executors else "")
        machine = lives[-1].get("machine", {})
        found.append(f"{machine.get('host')}, {machine.get('cpus')} cores" if machine.get("host") else "")
    elif files.summary is not None:
        found.append(f"on {files.summary.get('executor')}")
    if speed.worked_s:
        found.append(f"{seconds(speed.worked_s)} of work")
    return [printable(fact, 120) for fact in found if fact]


def failures(left: Sequence[ExitReason], survey: Survey) -> list[dict[str, Any]]:
    """Return the codes of a run with their meaning and an example, the most frequent first."""
    examples: dict[tuple[str, str], Sample] = {}
    for _, samples in survey.samples["quarantined"].groups():
        for sample in samples:
            examples.setdefault((sample.stage, sample.code), sample)
    found = [
        {
            "stage": printable(one.stage, 80),
            "code": printable(one.because, 80),
            "records": one.records,
            "meaning": RECORD_ERROR_CODES.get(one.because, ""),
            "example": examples.get((printable(one.stage, 80), printable(one.because, 80))),
        }
        for one in left
        if one.fate == "quarantined"
    ]
    return sorted(found, key=lambda failure: -failure["records"])


def stage_settings(files: RunFiles) -> list[dict[str, Any]]:
    """Return the settings of each stage as text."""
    return [
        {
            "name": printable(name, 80),
            "cls": printable(own.get("class", ""), 120),
            "rows": [(printable(key, 80), printable(value, 600)) for key, value in own.items() if key not in _HIDDEN],
        }
        for name, own in files.settings.items()
    ]


def boxes(files: RunFiles) -> list[dict[str, Any]]:
    """Return what is known of the run, the machine and the versions, a box for each."""
    run = files.run
    life: Mapping[str, Any] = files.lives[-1] if files.lives else {}
    about: list[tuple[str, Any]] = [
        ("directory", str(files.directory.absolute())),
        ("fingerprint", run.get("fingerprint")),
        *(("input", f"{one.get('path')} ({count(one.get('size', 0))} bytes)") for one in run.get("inputs", ())[:20]),
        *(("output", path) for path in (files.summary or {}).get("outputs", ())[:20]),
        *(("audio root", root) for root in (run.get("audio_roots") or ())[:20]),
    ]
    lives: list[tuple[str, Any]] = [(f"life {n}", _life(one)) for n, one in enumerate(files.lives, start=1)]
    machine: Mapping[str, Any] = life.get("machine", {})
    memory = machine.get("memory")
    here: list[tuple[str, Any]] = [
        ("host", machine.get("host")),
        ("system", machine.get("system")),
        ("processor", machine.get("processor")),
        ("cores", machine.get("cpus")),
        ("cards", machine.get("gpus")),
        ("memory", f"{memory / 1024**3:,.1f} GiB" if isinstance(memory, int) else None),
    ]
    versions: Mapping[str, Any] = life.get("versions", {"curate": run.get("curate")})
    found = (("Run", about), ("Lives", lives[-20:]), ("Machine", here), ("Versions", list(versions.items())))
    return [
        {"title": title, "rows": [(name, printable(value, 400)) for name, value in rows if value is not None]}
        for title, rows in found
        if any(value is not None for _, value in rows)
    ]


def _life(started: Mapping[str, Any]) -> str:
    done = started.get("done", 0)
    begun = f"{_date(started.get('at'))} on {started.get('executor')}"
    return f"{begun}, {done:,} records were done" if done else begun


def _date(at: Any) -> str:
    if not isinstance(at, int | float):
        return "at an unknown time"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
