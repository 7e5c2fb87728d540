"""What is known about one plugin after the host has tried to load it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from curate.plugin.references import CommandRef, ExecutorRef, RecogniserRef, Reference, StageRef

Status: TypeAlias = Literal["active", "failed", "disabled"]


@attrs.frozen
class PluginStatus:
    """One plugin: a row of `curate plugins`.

    Args:
        distribution: who ships it, in pip's spelling; for a plugins-file, its path.
        version: of the distribution, if known.
        entry: the name of its entry point; empty for a plugins-file.
        module: the module that answers the hooks.
        status: `failed` plugins take no part in anything; `disabled` ones were not even imported.
        error: why it is not active, in one line.
        traceback: the whole traceback of a failure.
        references: what it provides.
    """

    distribution: str
    version: str | None
    entry: str
    module: str
    status: Status = "active"
    error: str | None = None
    traceback: str | None = attrs.field(default=None, repr=False)
    references: tuple[Reference, ...] = ()

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages that it announces."""
        return self._names(StageRef)

    @property
    def executors(self) -> tuple[str, ...]:
        """The names of the executors that it announces."""
        return self._names(ExecutorRef)

    @property
    def recognisers(self) -> tuple[str, ...]:
        """The names of the recognisers that it announces."""
        return self._names(RecogniserRef)

    @property
    def commands(self) -> tuple[str, ...]:
        """The names of the commands that it announces."""
        return self._names(CommandRef)

    def _names(self, kind: type[Reference]) -> tuple[str, ...]:
        return tuple(reference.name for reference in self.references if isinstance(reference, kind))
