"""`state.json`: where a run is, for those who look from outside. The run itself never reads it."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from curate.engine.protocol.events import RunProgress
from curate.io.atomic import TEMPORARY

STATE = "state.json"


class ProgressFile:
    """Writes where a run is, now and then; what cannot be written is left out, as it is needed for nothing.

    Args:
        directory: the run directory.
        executor: the executor's name.
        phases: how many phases there are.
        count: returns how many records the input has, if that can be known; asked once, from the heartbeat's thread.
    """

    def __init__(self, directory: Path, executor: str, phases: int, count: Callable[[], int | None]) -> None:
        self._directory = directory
        self._about = {"executor": executor, "phases": phases, "started": time.time()}
        self._count = count
        self._expected: int | None = None
        self._first: RunProgress | None = None
        self._latest: RunProgress | None = None
        self._status = "running"

    def begin(self, expected: int | None) -> None:
        """A phase begins; `expected` is how many records it has, if that is known already."""
        self._expected, self._first = expected, None

    def note(self, event: RunProgress) -> None:
        """Take in how far the phase is."""
        first = self._first is None
        self._latest = event
        if first:
            self._first = event
        if first or event.ended:
            self.write()

    def end(self, status: str) -> None:
        """The run is over, or stops."""
        self._status = status
        self.write()

    def write(self) -> None:
        """Write the file; not synced, because after a crash of the machine it says nothing true anyway."""
        first, latest = self._first, self._latest
        if latest is None or first is None:
            return
        state: dict[str, Any] = {
            **self._about,
            **attrs.asdict(latest),
            "status": self._status,
            "written": time.time(),
            "expected": self._expected,
            "since": {"records_in": first.records_in, "audio_s": first.audio_s, "elapsed_s": first.elapsed_s},
        }
        temporary = self._directory / f"{STATE}{TEMPORARY}{os.getpid()}-{threading.get_ident()}"
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(state))
            temporary.replace(self._directory / STATE)

    def beat(self) -> None:
        """Write the file from the heartbeat's thread."""
        latest = self._latest
        if latest is not None and latest.phase == 0 and self._expected is None:
            with contextlib.suppress(OSError):  # the run finds out by itself
                self._expected = self._count()
        self.write()
