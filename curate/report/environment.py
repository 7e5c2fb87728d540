"""Describes a run's settings and machine, and its failures with an example of each."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from curate.durations import duration_text
from curate.engine import RunReader
from curate.plugin import PluginHost
from curate.report.figures import count
from curate.report.flow import ExitReason
from curate.report.samples import Sample
from curate.report.sanitize import printable
from curate.report.scan import Survey
from curate.report.speed import Speed

_HIDDEN = frozenset({"class", "code"})


def facts(run: RunReader, speed: Speed) -> list[str]:
    """Return a line about the run, in pieces."""
    attempts = run.attempts()
    found: list[str] = []
    if attempts:
        found.append(f"begun {_date(attempts[0].get('at'))}")
        executors = dict.fromkeys(str(each.get("executor")) for each in attempts if each.get("executor"))
        found.append(f"on {', '.join(executors)}" if executors else "")
        machine = attempts[-1].get("machine", {})
        found.append(f"{machine.get('host')}, {machine.get('cpus')} cores" if machine.get("host") else "")
    elif run.summary is not None:
        found.append(f"on {run.summary.get('executor')}")
    if speed.worked_s:
        found.append(f"{duration_text(speed.worked_s)} of work")
    return [printable(fact, 120) for fact in found if fact]


def failures(left: Sequence[ExitReason], survey: Survey, host: PluginHost) -> list[dict[str, Any]]:
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
            "meaning": host.error_codes.get(one.because) or host.unannounced(one.because),
            "example": examples.get((printable(one.stage, 80), printable(one.because, 80))),
        }
        for one in left
        if one.fate == "quarantined"
    ]
    return sorted(found, key=lambda failure: -failure["records"])


def stage_settings(run: RunReader) -> list[dict[str, Any]]:
    """Return the settings of each stage as text."""
    return [
        {
            "name": printable(name, 80),
            "cls": printable(own.get("class", ""), 120),
            "rows": [(printable(key, 80), printable(value, 600)) for key, value in own.items() if key not in _HIDDEN],
        }
        for name, own in run.settings.items()
    ]


def next_commands(run: RunReader) -> list[tuple[str, str]]:
    """Return what can be done with the run now, as pairs of a sentence and a command."""
    run_dir = shlex.quote(printable(str(run.run_dir.absolute()), 1000))
    filters = [name for name, own in run.settings.items() if isinstance(own.get("expression"), str)]
    found: list[tuple[str, str]] = []
    if filters and run.origin.get("file"):
        last = shlex.quote(" ".join(printable(run.settings[filters[-1]]["expression"], 1000).split()))
        before = phases_before(run, filters[-1])
        repeated = f"takes over {before}" if before else "all stages run again"
        what = f"Another threshold: filters again into a new run ({repeated})."
        found.append((what, f"curate refilter {run_dir} {last}"))
    found.append(
        ("All records: to look at, to hear, to label, with the thresholds as sliders.", f"curate explore {run_dir}")
    )
    return found


def phases_before(run: RunReader, stage: str) -> str:
    """Return the phases that a fork with a change of the stage takes over, such as "phases 0 to 2"; "" for none."""
    last = run.phase_of(stage) - 1
    return "" if last < 0 else f"phases 0 to {last}" if last else "phase 0"


def boxes(run: RunReader) -> list[dict[str, Any]]:
    """Return the properties of the run, the machine and the versions, a box for each."""
    plan, attempts = run.description, run.attempts()
    last: Mapping[str, Any] = attempts[-1] if attempts else {}
    about: list[tuple[str, Any]] = [
        ("directory", str(run.run_dir.absolute())),
        ("fingerprint", plan.get("fingerprint")),
        *(("input", f"{one.get('path')} ({count(one.get('size', 0))} bytes)") for one in plan.get("inputs", ())[:20]),
        *(("output", path) for path in (run.summary or {}).get("outputs", ())[:20]),
        *(("audio root", root) for root in (plan.get("audio_roots") or ())[:20]),
    ]
    history: list[tuple[str, Any]] = [(f"attempt {n}", _attempt(one)) for n, one in enumerate(attempts, start=1)]
    machine: Mapping[str, Any] = last.get("machine", {})
    memory = machine.get("memory")
    here: list[tuple[str, Any]] = [
        ("host", machine.get("host")),
        ("system", machine.get("system")),
        ("processor", machine.get("processor")),
        ("cores", machine.get("cpus")),
        ("GPUs", machine.get("gpus")),
        ("memory", f"{memory / 1024**3:,.1f} GiB" if isinstance(memory, int) else None),
    ]
    versions: Mapping[str, Any] = last.get("versions", {"curate": plan.get("curate")})
    found = (("Run", about), ("Attempts", history[-20:]), ("Machine", here), ("Versions", list(versions.items())))
    return [
        {"title": title, "rows": [(name, printable(value, 400)) for name, value in rows if value is not None]}
        for title, rows in found
        if any(value is not None for _, value in rows)
    ]


def _attempt(started: Mapping[str, Any]) -> str:
    done = started.get("done", 0)
    begun = f"{_date(started.get('at'))} on {started.get('executor')}"
    return f"{begun}, {done:,} records were finished before" if done else begun


def _date(at: Any) -> str:
    if not isinstance(at, int | float):
        return "at an unknown time"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
