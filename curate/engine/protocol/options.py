"""The options of one attempt of a run, in addition to its plan and its directory: error budget, retries, and others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from curate.stage import DEFAULT_AUDIO_MEMORY_BYTES, DEFAULT_SPOOL_BYTES

DEFAULT_FAILURES = 100
DEFAULT_RATIO = 0.01
"""By default, the larger of these two is allowed."""

LOOKED_AT = 200
"""The minimum number of records on which a ratio is judged."""


@attrs.frozen
class ErrorBudget:
    """The number of records that may fail before the run stops.

    Args:
        max_failures: the maximum number of failed records.
        max_failure_ratio: the maximum share of the processed records, once these are at least `LOOKED_AT`.
            Without either, the run stops when more than `DEFAULT_FAILURES` records and more than `DEFAULT_RATIO` of
            them have failed.
    """

    max_failures: int | None = None
    max_failure_ratio: float | None = None

    def __attrs_post_init__(self) -> None:
        if self.max_failures is not None and self.max_failures < 0:
            raise ValueError(f"max_failures={self.max_failures!r} is below 0; 0 stops at the first record that fails")
        ratio = self.max_failure_ratio
        if ratio is not None and not 0 <= ratio <= 1:
            raise ValueError(
                f"max_failure_ratio={ratio!r} is not a ratio: write a number from 0 to 1, such as 0.01 for 1 %"
            )

    def exceeded(self, failures: int, records: int) -> str:
        """Return the limit that `failures` of `records` exceed, and "" while they exceed none."""
        share = DEFAULT_RATIO if self.max_failure_ratio is None else self.max_failure_ratio
        too_many = self.max_failures is not None and failures > self.max_failures
        too_large = records >= LOOKED_AT and failures > share * records
        if too_many:
            return f"max_failures = {self.max_failures}"
        if too_large and self.max_failure_ratio is not None:
            return f"max_failure_ratio = {self.max_failure_ratio:g}"
        if too_large and self.max_failures is None and failures > DEFAULT_FAILURES:
            return f"the larger of {DEFAULT_FAILURES} records and {DEFAULT_RATIO:.0%}"
        return ""


@attrs.define(eq=False)
class StopRequest:
    """A request to a run, for example from a signal handler, to finish the work in flight, commit it, and stop.

    Args:
        asked: whether it was made; a plain attribute, because it is read for every record.
    """

    asked: bool = attrs.field(default=False, init=False)

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
        spool_directory: where the spools of runs lie, a folder on a disk of each node; None: in the run directory.
        spool_bytes: the decoded audio in the spool of each node at most; it changes the speed and no result.
        clock: seconds that never go back, for deadlines, the age of commit units and progress; a simulated cluster has
            its own.
    """

    budget: ErrorBudget = ErrorBudget()
    grown: bool = False
    checksums: bool = False
    fork: Path | None = None
    retry: Retry | None = None
    origin: Mapping[str, Any] | None = None
    stop: StopRequest = attrs.field(factory=StopRequest)
    unit_bytes: int | None = None
    audio_memory_bytes: int = DEFAULT_AUDIO_MEMORY_BYTES
    spool_directory: Path | None = None
    spool_bytes: int = DEFAULT_SPOOL_BYTES
    clock: Callable[[], float] = time.monotonic
