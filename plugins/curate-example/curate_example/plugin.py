"""The hooks of this distribution. curate imports them at every start, so they import nothing else."""

from __future__ import annotations

from curate.plugin import ExecutorRef, StageRef, hookimpl


@hookimpl
def curate_stages() -> list[StageRef]:
    """Register `characters_per_second`."""
    return [
        StageRef(
            "characters_per_second",
            "curate_example.stages:characters_per_second",
            "Measure how fast a record is spoken",
        )
    ]


@hookimpl
def curate_executors() -> list[ExecutorRef]:
    """Register `threads`."""
    return [
        ExecutorRef("threads", "curate_example.threads:ThreadsExecutor", "Work in threads of this process"),
    ]
