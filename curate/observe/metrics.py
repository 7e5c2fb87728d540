"""Writes the events of a run as lines of JSON, through all its attempts; charts over time are drawn from them.

Counts are of settled records, so they are exact; the number of lines is bounded. The books are kept in the commits: a
line that a crash tears off costs a point of a curve and nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, BinaryIO

import attrs

from curate._version import __version__
from curate.engine import EVENTS_FILE, RunFinished, RunProgress, RunStarted, RunStopped, UnitCommitted
from curate.machine import Machine
from curate.plugin import hookimpl
from curate.versions import installed_versions

_EVERY_S = 1.0
_LINES_AT_THIS_RATE = 600
"""The interval between two lines of progress; it doubles after each 600 lines, so a long run has a few thousand."""

_VERSIONS = ("nemo_toolkit", "torch", "ray", "numpy", "soundfile", "soxr", "jiwer", "whisper-normalizer", "pyarrow")


class MetricsWriter:
    """An observer that appends the events of a run to `<run_dir>/metrics/events.jsonl`.

    Args:
        clock: seconds that never go back.
        now: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._now = now
        self._file: BinaryIO | None = None
        self._every_s = _EVERY_S
        self._lines = 0
        self._noted_at = 0.0
        self._phase = -1

    @hookimpl
    def curate_on_run_started(self, event: RunStarted) -> None:
        self._close()
        if event.run_dir is None:
            return
        path = event.run_dir / EVENTS_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        self._end_torn_line(self._file)
        self._note(
            "run_started",
            {
                "name": event.name,
                "executor": event.executor,
                "stages": event.stages,
                "done": event.done,
                "machine": describe_machine(),
                "versions": _versions(),
            },
        )

    @hookimpl
    def curate_on_progress(self, event: RunProgress) -> None:
        begins = event.phase != self._phase
        if not (begins or event.ended) and self._clock() - self._noted_at < self._every_s:
            return
        self._phase = event.phase
        self._noted_at = self._clock()
        self._lines += 1
        if self._lines % _LINES_AT_THIS_RATE == 0:
            self._every_s *= 2
        fields = attrs.asdict(event, recurse=False)
        if not begins:
            del fields["stages"]
        self._note("progress", fields)

    @hookimpl
    def curate_on_unit_committed(self, event: UnitCommitted) -> None:
        self._note("unit_committed", attrs.asdict(event))

    @hookimpl
    def curate_on_run_stopped(self, event: RunStopped) -> None:
        self._note("run_stopped", {"interrupted": event.interrupted, "error": event.error[:2000]})
        self._close()

    @hookimpl
    def curate_on_run_finished(self, event: RunFinished) -> None:
        self._note("run_finished", {name: event.summary.get(name) for name in ("status", "wall_s", "rtfx")})
        self._close()

    def _note(self, event: str, fields: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        line = {"event": event, "at": round(self._now(), 3), **fields}
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    @staticmethod
    def _end_torn_line(file: BinaryIO) -> None:
        """End a line that a crash has torn off."""
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = None
        self._phase = -1


def describe_machine() -> dict[str, Any]:
    """Return the properties of this machine, and this process's number."""
    here = Machine.here()
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.machine(),
        "cpus": here.cpus,
        "gpus": here.gpus,
        "memory": here.memory,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _versions() -> dict[str, str]:
    """Return the versions of Python, curate and the packages that results depend on, where they are installed."""
    return {"python": platform.python_version(), "curate": __version__, **installed_versions(_VERSIONS)}
