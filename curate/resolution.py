"""Names that plugins announce, and the values they stand for.

A setting may name a thing that a plugin provides, such as a recogniser. The planner has the name looked up once, in the
driver, where it is known which plugins the user has chosen; the value found travels to the workers with the stage.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any, Protocol

import attrs


class Announced(Protocol):
    """A thing that a plugin has announced by name, not yet imported."""

    @property
    def distribution(self) -> str:
        """The distribution that announced it; a plugins-file's path."""
        ...

    def load(self) -> Any:
        """Import the thing and return it; PluginError if that fails."""
        ...


class PluginLookup(Protocol):
    """The plugins as a stage sees them: the driver's plugin host. Each method raises PluginError for unknown names."""

    def recogniser(self, name: str) -> Announced:
        """Return the recogniser of a plain or qualified name."""
        ...

    def normaliser(self, name: str) -> Announced:
        """Return the normaliser of a plain or qualified name."""
        ...

    def voice_detector(self, name: str) -> Announced:
        """Return the voice detector of a plain or qualified name."""
        ...

    def audio_engine(self, stage: str, name: str) -> Announced:
        """Return the engine of a measuring stage by its plain or qualified name."""
        ...


@attrs.frozen
class Resolved:
    """The value that a name stands for.

    Args:
        value: the class or function. It must be picklable by cloudpickle.
        distribution: the distribution that announced the name; a plugins-file's path.
    """

    value: Any
    distribution: str = ""

    @property
    def version(self) -> str:
        """The version of the distribution; empty for a plugins-file."""
        try:
            return metadata.version(self.distribution)
        except (metadata.PackageNotFoundError, ValueError):
            return ""
