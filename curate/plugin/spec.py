"""The hooks that a plugin may answer, and nothing else: this page is the contract with a stranger's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from curate.engine.protocol.events import (
        RecordQuarantined,
        RunFinished,
        RunProgress,
        RunStarted,
        RunStopped,
        UnitCommitted,
    )
    from curate.plugin.references import CommandRef, ExecutorRef, RecogniserRef, StageRef

PROJECT = "curate"
"""pluggy's project name, the prefix of every hook, and the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

# What a plugin provides. Asked once, when the plugin is loaded, so an answer must cost nothing: references name a
# module, and the module is imported only when the thing is used.


@hookspec
def curate_stages() -> list[StageRef]:  # pyright: ignore[reportReturnType]
    """Announce stages that a pipeline can be composed of."""


@hookspec
def curate_executors() -> list[ExecutorRef]:  # pyright: ignore[reportReturnType]
    """Announce executors: places where workers can live."""


@hookspec
def curate_recognisers() -> list[RecogniserRef]:  # pyright: ignore[reportReturnType]
    """Announce recognisers that the stage `asr` can use as its engine."""


@hookspec
def curate_commands() -> list[CommandRef]:  # pyright: ignore[reportReturnType]
    """Announce verbs of the command line."""


# What a plugin observes of a run. Called in the driver, one plugin at a time, between two steps of the scheduler: keep
# it short. A plugin whose observer raises is reported and left out from then on, and the run goes on.


@hookspec
def curate_on_run_started(event: RunStarted) -> None:
    """A run begins, or goes on after it was interrupted."""


@hookspec
def curate_on_progress(event: RunProgress) -> None:
    """The run has come further: counts so far. Called every now and then, not for every record."""


@hookspec
def curate_on_unit_committed(event: UnitCommitted) -> None:
    """A commit unit is on disk; what it holds cannot be lost any more."""


@hookspec
def curate_on_record_quarantined(event: RecordQuarantined) -> None:
    """A record has failed for good and goes to quarantine."""


@hookspec
def curate_on_run_stopped(event: RunStopped) -> None:
    """The run has stopped before its end: interrupted, or by an error. What is committed stays."""


@hookspec
def curate_on_run_finished(event: RunFinished) -> None:
    """The run has reached its end, and its books balance."""
