"""The status of a run as a sentence, with what a person can do about it."""

from __future__ import annotations

from curate.engine import RunReader, RunStatus

_RESUME = "Run the same command again to resume it."


def status_sentence(run: RunReader) -> str:
    """Return the status of a run for a person."""
    match run.status:
        case RunStatus.RUNNING:
            driver = run.driver
            by = "" if driver is None else f" ({driver.described()})"
            return f"The run is still at work{by}. This is what was finished when the report was written."
        case RunStatus.FINISHED:
            return "The run is finished, and its books balance."
        case RunStatus.INTERRUPTED:
            return f"The run was interrupted. What was finished is below. {_RESUME}"
        case RunStatus.FAILED:
            return f"The run failed: {run.error}. What was finished is below. {_RESUME}"
        case RunStatus.CRASHED:
            return f"The run crashed: its driver was killed. What was finished is below. {_RESUME}"
        case RunStatus.UNFINISHED:
            return f"The run has not reached its end, and no driver is at work. What was finished is below. {_RESUME}"
