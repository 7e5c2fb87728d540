"""`state.json`: the progress and the state of a run, for readers outside of the driver, which never reads it itself."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from curate.engine.protocol.events import RunProgress
from curate.engine.protocol.run_status import RunStatus
from curate.storage import temporary_path

STATE = "state.json"


class ProgressFile:
    """Writes the progress of an attempt, now and then. A write that fails is passed over: no result depends on it.

    Args:
        directory: the run directory.
        executor: the executor's name.
        phases: the number of phases.
        count: returns the number of records of the input, None if it is not known; called once, from the heartbeat's
            thread.
    """

    def __init__(self, directory: Path, executor: str, phases: int, count: Callable[[], int | None]) -> None:
        self._directory = directory.absolute()  # a stage of this process may change the working directory
        self._about = {"executor": executor, "phases": phases, "started": time.time()}
        self._count = count
        self._expected: int | None = None
        self._first: RunProgress | None = None
        self._latest: RunProgress | None = None
        self._status, self._error = RunStatus.RUNNING, ""
        self._writing = threading.Lock()

    def begin(self, expected: int | None) -> None:
        """Begin a phase of `expected` records; None: their number is not known yet."""
        self._expected, self._first = expected, None

    def note(self, event: RunProgress) -> None:
        """Record the progress of the phase."""
        first = self._first is None
        self._latest = event
        if first:
            self._first = event
        if first or event.ended:
            self.write()

    def end(self, status: RunStatus, error: str = "") -> None:
        """Record the end of the attempt, and the error that stopped it."""
        self._status, self._error = status, error
        self.write()

    def write(self) -> None:
        """Write the file; it is not synced, because after a crash of the machine it is out of date anyway."""
        with self._writing:  # or the heartbeat's thread could write an older state over the end of the run
            self._write()

    def _write(self) -> None:
        first, latest = self._first, self._latest
        state: dict[str, Any] = {**self._about, "status": self._status, "error": self._error, "written": time.time()}
        if latest is not None and first is not None:
            state |= {
                **attrs.asdict(latest),
                "expected": self._expected,
                "since": {
                    "records_in": first.records_in,
                    "audio_s": first.audio_s,
                    "elapsed_s": max(first.elapsed_s, latest.ready_s or 0.0),  # a speed does not count loading
                },
            }
        temporary = temporary_path(self._directory / STATE)
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(state))
            temporary.replace(self._directory / STATE)

    def beat(self) -> None:
        """Write the file from the heartbeat's thread, if there is progress to report."""
        latest = self._latest
        if latest is None:
            return
        if latest.phase == 0 and self._expected is None:
            with contextlib.suppress(OSError):  # the driver meets the same error
                self._expected = self._count()
        self.write()
