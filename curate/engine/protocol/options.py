"""What can be said about one life of a run, beside what it does and where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from curate.engine.protocol.error_budget import ErrorBudget
from curate.stage import DEFAULT_AUDIO_MEMORY_BYTES


class StopRequest:
    """Asks a run from outside, such as from a signal handler, to finish what is in flight, commit it, and stop."""

    def __init__(self) -> None:
        self.asked = False
        """Whether it has been asked; looked at for every record, so it is a mere attribute."""

    def __call__(self) -> None:
        """Ask."""
        self.asked = True


@attrs.frozen
class Retry:
    """Which of the failed records are to be worked on again.

    Args:
        code: those with this code; None: with any.
        stage: those that failed at this stage; None: at any.
    """

    code: str | None = None
    stage: str | None = None

    def chooses(self, note: Mapping[str, Any]) -> bool:
        return self.code in (None, note["code"]) and self.stage in (None, note["stage"])

    def described(self) -> str:
        parts = [f"--{name} {value}" for name, value in attrs.asdict(self).items() if value is not None]
        return " with " + " ".join(parts) if parts else ""


@attrs.frozen
class RunOptions:
    """What can be said about one life of a run.

    Args:
        budget: how many records may fail.
        grown: whether the last input may have become longer since the run began.
        checksums: whether inputs are compared by their sha256.
        fork: a new run directory; it takes over the phases of the given one that have not changed.
        retry: failed records to work on again.
        origin: how the run was asked for, kept in `run.json` so that it can be asked for again.
        stop: asks the run to stop.
        unit_bytes: the size of a commit, in bytes of the driver's memory; None: 4 MB.
        audio_memory_bytes: the decoded audio that each worker holds at most; it changes the speed and no result.
    """

    budget: ErrorBudget = attrs.field(factory=ErrorBudget)
    grown: bool = False
    checksums: bool = False
    fork: Path | None = None
    retry: Retry | None = None
    origin: Mapping[str, Any] | None = None
    stop: StopRequest = attrs.field(factory=StopRequest)
    unit_bytes: int | None = None
    audio_memory_bytes: int = DEFAULT_AUDIO_MEMORY_BYTES
