"""Lazy references: what a plugin announces, by name, without importing it.

Reference
├── StageRef         a stage class, or an instance that is changed with `.with_()`
├── ExecutorRef      an executor class
├── RecogniserRef    a recogniser class
└── CommandRef       a click command, a verb of the command line
"""

from __future__ import annotations

import functools
import importlib
import re
from typing import Any, ClassVar, Self

import attrs

from curate.errors import PluginError


def canonical(distribution: str) -> str:
    """Return a distribution's name in the one spelling that pip compares: `Curate_Thing` is `curate-thing`."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _check_name(reference: Reference, _: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", value):
        raise PluginError(
            f"{type(reference).__name__}(name={value!r}): a name is made of letters, digits, '_', '-' and '.'"
        )


def _check_target(reference: Reference, _: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", value):
        raise PluginError(
            f"{type(reference).__name__}({reference.name!r}, target={value!r}): "
            "a target is written 'package.module:Name', with one colon"
        )


def _check_text(reference: Reference, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise PluginError(
            f"{type(reference).__name__}({reference.name!r}, {attribute.name}={value!r}): this must be a text"
        )


@attrs.frozen
class Reference:
    """The name of a thing, where it is found, and what it is for.

    Args:
        name: what users write; must be unique within a distribution.
        target: `package.module:Name`; imported by `load()`.
        summary: what it does, in one line, for listings.
        extra: the extra of the owning distribution that installs what the target imports.
        distribution: who announced it; filled in by the host.

    Raises:
        PluginError: a name or target that cannot be one.
    """

    kind: ClassVar[str] = "thing"

    name: str = attrs.field(validator=_check_name)
    target: str = attrs.field(validator=_check_target)
    summary: str = attrs.field(validator=_check_text)
    extra: str | None = attrs.field(default=None, validator=_check_text)
    distribution: str = attrs.field(default="", kw_only=True)

    @property
    def qualified_name(self) -> str:
        """`distribution/name`: unique, whoever else claims the plain name."""
        return f"{self.distribution}/{self.name}" if self.distribution else self.name

    def owned_by(self, distribution: str) -> Self:
        """Return this reference as announced by `distribution`."""
        return attrs.evolve(self, distribution=distribution)

    def load(self) -> Any:
        """Import the target and return it.

        Raises:
            PluginError: a dependency is missing (the message says what to install), the target does not exist, or it
                is not what was announced.
        """
        module, _, path = self.target.partition(":")
        try:
            # A module may import its names lazily, so reading one can raise whatever an import can.
            found = functools.reduce(getattr, path.split("."), importlib.import_module(module))
        except ImportError as error:
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            if missing is not None and f"{module}.".startswith(f"{missing}."):
                raise PluginError(f"{self}: there is no module {missing!r}, which its target names") from error
            raise PluginError(f"{self} cannot be imported: {error}{self._how_to_install(missing)}") from error
        except AttributeError as error:
            raise PluginError(f"{self} cannot be loaded: {error}") from error
        except (Exception, SystemExit) as error:
            raise PluginError(f"{self} fails while it is imported: {type(error).__name__}: {error}") from error
        wanted = self._unlike(found)
        if wanted is not None:
            raise PluginError(f"{self} must be {wanted}, not {found!r:.80}")
        return found

    def _how_to_install(self, missing: str | None) -> str:
        if self.extra is not None:
            return f". Install what it needs: pip install '{self.distribution or '<its distribution>'}[{self.extra}]'"
        if missing is not None:
            return f". {self.distribution or 'Its distribution'} needs {missing!r}, but did not install it"
        return ""

    def _unlike(self, found: Any) -> str | None:
        """Return what the target should have been, or None if it is that."""
        return None if isinstance(found, type) else "a class"

    def __str__(self) -> str:
        return f"{self.kind} {self.qualified_name!r} ({self.target})"


@attrs.frozen(str=False)
class StageRef(Reference):
    """A stage; `load()` returns a `Stage` class, or the instance that a decorated function is (for `.with_()`)."""

    kind: ClassVar[str] = "stage"

    def _unlike(self, found: Any) -> str | None:
        from curate.stage import Stage

        is_stage = issubclass(found, Stage) if isinstance(found, type) else isinstance(found, Stage)
        return None if is_stage else "a subclass of curate's Stage or the result of @processing_stage"


@attrs.frozen(str=False)
class ExecutorRef(Reference):
    """An executor; `load()` returns its class."""

    kind: ClassVar[str] = "executor"


@attrs.frozen(str=False)
class RecogniserRef(Reference):
    """A recogniser for the stage `asr`; `load()` returns its class."""

    kind: ClassVar[str] = "recogniser"


@attrs.frozen(str=False)
class CommandRef(Reference):
    """A verb of the command line; `load()` returns its `click.Command`."""

    kind: ClassVar[str] = "command"

    def _unlike(self, found: Any) -> str | None:
        import click

        return None if isinstance(found, click.Command) else "a click.Command"
