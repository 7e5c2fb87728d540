"""The states of a run: the one vocabulary of `state.json`, `summary.json`, `curate status`, the report and compare."""

from __future__ import annotations

from enum import StrEnum


class RunStatus(StrEnum):
    """The state of a run, as its directory shows it."""

    RUNNING = "running"
    """A driver is at work in the directory."""

    FINISHED = "finished"
    """The last attempt has finished every phase, published all files and balanced the books."""

    INTERRUPTED = "interrupted"
    """The last attempt was asked to stop, by Ctrl-C or SIGTERM."""

    FAILED = "failed"
    """The last attempt was stopped by an error."""

    CRASHED = "crashed"
    """The last attempt did not end in order: its driver was killed, or its machine went down."""

    UNFINISHED = "unfinished"
    """No attempt has reached the end, and the last one left no error: a fork not yet started, or a grown input."""
