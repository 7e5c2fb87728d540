"""The hooks that a plugin may answer, and nothing else: this page is the contract with third-party code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from curate.engine import (
        RecordQuarantined,
        RunFinished,
        RunProgress,
        RunStarted,
        RunStopped,
        UnitCommitted,
    )
    from curate.plugin.references import (
        AudioEngineRef,
        CommandRef,
        ExecutorRef,
        FormatRef,
        NormaliserRef,
        PanelRef,
        RecogniserRef,
        SchemeRef,
        StageRef,
        VoiceDetectorRef,
    )

PROJECT = "curate"
"""pluggy's project name, the prefix of every hook, and the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

# What a plugin provides. Each hook is called once, when the plugin is loaded, so an answer must cost nothing: a
# reference names a module, which is imported when it is used for the first time.


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


@hookspec
def curate_normalisers() -> list[NormaliserRef]:  # pyright: ignore[reportReturnType]
    """Announce normalisers of transcripts, for stages with a `normaliser` setting."""


@hookspec
def curate_voice_detectors() -> list[VoiceDetectorRef]:  # pyright: ignore[reportReturnType]
    """Announce voice detectors that the stage `voice_activity` can use as its engine."""


@hookspec
def curate_audio_engines() -> list[AudioEngineRef]:  # pyright: ignore[reportReturnType]
    """Announce engines of `speech_quality`, `audio_events`, `spoken_language` and the stages with speakers."""


@hookspec
def curate_formats() -> list[FormatRef]:  # pyright: ignore[reportReturnType]
    """Announce formats of manifests that `read_manifest` reads and `merge` writes."""


@hookspec
def curate_storage_schemes() -> list[SchemeRef]:  # pyright: ignore[reportReturnType]
    """Announce stores for URL schemes (`curate.storage.Scheme`); runs open local paths only so far."""


@hookspec
def curate_error_codes() -> Mapping[str, str]:  # pyright: ignore[reportReturnType]
    """Announce the codes `<distribution>/<code>` that this plugin's stages give to bad records, with their meanings."""


@hookspec
def curate_report_panels() -> list[PanelRef]:  # pyright: ignore[reportReturnType]
    """Announce panels that are added to the report of every run."""


# What a plugin observes of a run. Called in the driver, one plugin at a time, between two steps of the scheduler: keep
# it short. A plugin whose observer raises is reported and removed, and the run continues.


@hookspec
def curate_on_run_started(event: RunStarted) -> None:
    """A run begins, or resumes after it was interrupted."""


@hookspec
def curate_on_progress(event: RunProgress) -> None:
    """The run has progressed: counts so far. Called at intervals, not for every record."""


@hookspec
def curate_on_unit_committed(event: UnitCommitted) -> None:
    """A commit unit is on disk; its records cannot be lost any more."""


@hookspec
def curate_on_record_quarantined(event: RecordQuarantined) -> None:
    """A record has failed for good and goes to quarantine."""


@hookspec
def curate_on_run_stopped(event: RunStopped) -> None:
    """The run has stopped before its end: interrupted, or by an error. What is committed stays."""


@hookspec
def curate_on_run_finished(event: RunFinished) -> None:
    """The run has reached its end, and its books balance."""
