"""The names by which `--set` addresses stages: those that the plan and the report show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from curate.composite import CompositeStage, part_paths, unique_names
from curate.config.nodes import MappingNode, Node, ScalarNode, SequenceNode
from curate.config.variables import interpolate
from curate.errors import ConfigError
from curate.stage import Stage


def stage_nodes(document: MappingNode) -> tuple[Node, ...]:
    """Return the stages of a configuration, none if the key is missing or not a list."""
    stages = document.entries.get("stages")
    return stages.items if isinstance(stages, SequenceNode) else ()


def used_name(stage: Node) -> str:
    """Return the last part of a stage's `use:`; empty if it has none."""
    used = stage.entries.get("use") if isinstance(stage, MappingNode) else None
    if isinstance(used, ScalarNode) and isinstance(used.value, str):
        return used.value.rpartition("/")[2].rpartition(":")[2]
    return ""


@attrs.frozen
class StageAddresses:
    """Finds the names of stages before the configuration is complete, so a section that fails is not an error yet.

    Args:
        load: returns the class or instance that a stage's `use:` names; ConfigError if that fails.
        make: returns the stage of a section; ConfigError if that fails.
        folder: the folder of the configuration file, for `${here}`.
    """

    load: Callable[[Node], Any]
    make: Callable[[Node], Stage]
    folder: Path

    def names(self, document: MappingNode) -> list[str]:
        """Return the name of each stage in the plan; a plan numbers equal names."""
        return unique_names([self._name(stage) for stage in self._complete(document)])

    def parts(self, document: MappingNode, position: int) -> Mapping[str, tuple[str, ...]]:
        """Return the parts of a composite stage by their names below the stage's; none if it is not composite."""
        with suppress(ConfigError):
            stage = self.make(self._complete(document)[position])
            if isinstance(stage, CompositeStage):
                with suppress(Exception):  # the plan reports a composite that cannot be decomposed
                    return part_paths(stage)
        return {}

    def _complete(self, document: MappingNode) -> tuple[Node, ...]:
        """Return the stages with variables put in, or as written if that is not possible yet."""
        with suppress(ConfigError):
            return stage_nodes(interpolate(document, self.folder))
        return stage_nodes(document)

    def _name(self, stage: Node) -> str:
        given = stage.entries.get("name") if isinstance(stage, MappingNode) else None
        if isinstance(given, ScalarNode) and isinstance(given.value, str):
            return given.value
        with suppress(ConfigError):
            name = getattr(self.load(stage), "name", None)
            if isinstance(name, str):
                return name
        return used_name(stage)
