"""The options of one attempt of a run, in addition to its plan and its directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from curate.engine.protocol.error_budget import ErrorBudget
from curate.stage import DEFAULT_AUDIO_MEMORY_BYTES


class StopRequest:
    """A request to a run, for example from a signal handler, to finish the work in flight, commit it, and stop."""

    def __init__(self) -> None:
        self.asked = False
        """Whether it was made; a plain attribute, because it is read for every record."""

    def __call__(self) -> None:
        """Make the request."""
        self.asked = True


@attrs.frozen
class Retry:
    """The choice of failed records that are to be processed again.

    Args:
        code: only records with this code; None: any code.
        stage: only records that failed at this stage; None: any stage.
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
    """The options of one attempt of a run.

    Args:
        budget: the number of records that may fail.
        grown: whether the last input may have become longer since the run began.
        checksums: whether inputs are compared by their sha256.
        fork: a new run directory, which takes over the unchanged phases of the given one.
        retry: the failed records to process again.
        origin: the command or call that started the run, kept in `run.json` so that it can be repeated.
        stop: the request to stop the run.
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
