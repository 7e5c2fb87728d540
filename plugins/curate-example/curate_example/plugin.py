"""What this distribution announces to curate. It is read at every start, so it imports nothing but the hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curate.plugin import (
    CommandRef,
    ExecutorRef,
    FormatRef,
    NormaliserRef,
    PanelRef,
    RecogniserRef,
    StageRef,
    hookimpl,
)

if TYPE_CHECKING:
    from curate.engine import RunFinished


@hookimpl
def curate_stages() -> list[StageRef]:
    """Announce a stage, a source and a writer."""
    return [
        StageRef(
            "characters_per_second",
            "curate_example.stages:characters_per_second",
            "Say how fast a record is spoken",
        ),
        StageRef("read_text_files", "curate_example.sources:ReadTextFiles", "Read `name<TAB>text` lists"),
        StageRef("write_text", "curate_example.writers:WriteText", "Write the texts, one a line"),
    ]


@hookimpl
def curate_executors() -> list[ExecutorRef]:
    """Announce `threads`."""
    return [
        ExecutorRef("threads", "curate_example.threads:ThreadsExecutor", "Run in threads of this process"),
    ]


@hookimpl
def curate_recognisers() -> list[RecogniserRef]:
    """Announce `loudness`."""
    return [RecogniserRef("loudness", "curate_example.recognisers:Loudness", "Detect sound, without words")]


@hookimpl
def curate_normalisers() -> list[NormaliserRef]:
    """Announce `letters`."""
    return [NormaliserRef("letters", "curate_example.normalisers:letters", "Lower case, and nothing but letters")]


@hookimpl
def curate_formats() -> list[FormatRef]:
    """Announce tab-separated values."""
    return [FormatRef("tab", "curate_example.formats:TSV", "Tab-separated values", suffixes=(".tab",))]


@hookimpl
def curate_error_codes() -> dict[str, str]:
    """Announce the codes of this distribution's stages."""
    return {
        "curate-example/no_duration": "the record has no duration, so it has no speed",
        "curate-example/no_tab": "the line has no tab between name and text",
        "curate-example/cells": "the row has more or fewer cells than the heading",
    }


@hookimpl
def curate_report_panels() -> list[PanelRef]:
    """Announce a panel of the report."""
    return [PanelRef("speed-of-speech", "curate_example.panels:speed_of_speech", "Characters per second, as a chart")]


@hookimpl
def curate_commands() -> list[CommandRef]:
    """Announce `curate kept`."""
    return [CommandRef("kept", "curate_example.commands:kept", "Print the texts of kept records")]


@hookimpl
def curate_on_run_finished(event: RunFinished) -> None:
    """Log one line when a run has reached its end."""
    from loguru import logger

    logger.info("curate-example has seen a run of {} records", event.summary["records_in"])
