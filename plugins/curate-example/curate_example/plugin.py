"""What this distribution announces to curate. It is read at every start, so it imports nothing but the hooks."""

from __future__ import annotations

from curate.plugin import ExecutorRef, StageRef, hookimpl


@hookimpl
def curate_stages() -> list[StageRef]:
    """Announce `characters_per_second`."""
    return [
        StageRef(
            "characters_per_second",
            "curate_example.stages:characters_per_second",
            "Say how fast a record is spoken",
        )
    ]


@hookimpl
def curate_executors() -> list[ExecutorRef]:
    """Announce `threads`."""
    return [
        ExecutorRef("threads", "curate_example.threads:ThreadsExecutor", "Work in threads of this process"),
    ]
