"""The outcome of loading one plugin: what it provides, or why it is not active."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

from curate.plugin.references import KINDS, CommandRef, ExecutorRef, RecogniserRef, Reference, StageRef

FILE_MODULE = "curate_plugins_file_"
"""How the names of the modules begin that plugins-files become."""

Status: TypeAlias = Literal["active", "failed", "disabled"]


@attrs.frozen
class PluginStatus:
    """One plugin: a row of `curate plugins`.

    Args:
        distribution: the distribution that ships it, in pip's spelling; of a plugins-file, its path.
        version: of the distribution, if known.
        entry: the name of its entry point; empty for a plugins-file.
        module: the module that answers the hooks.
        status: `failed` plugins take no part in anything; `disabled` ones were not even imported.
        error: why it is not active, in one line.
        traceback: the whole traceback of a failure.
        references: what it provides.
        error_codes: the codes that its stages give to bad records, with their meanings.
    """

    distribution: str
    version: str | None
    entry: str
    module: str
    status: Status = "active"
    error: str | None = None
    traceback: str | None = attrs.field(default=None, repr=False)
    references: tuple[Reference, ...] = ()
    error_codes: Mapping[str, str] = attrs.field(factory=dict[str, str])

    @property
    def is_file(self) -> bool:
        """Whether it is a plugins-file, and not an installed distribution."""
        return self.module.startswith(FILE_MODULE)

    def provides(self) -> dict[str, list[str]]:
        """Return the names of what it announces, by kind: `stages`, `executors`, …, `error_codes`."""
        found: dict[str, list[str]] = {kind.plural: list(self._names(kind)) for kind in KINDS}
        found["error_codes"] = list(self.error_codes)
        return found

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
        return tuple(reference.label for reference in self.references if isinstance(reference, kind))
