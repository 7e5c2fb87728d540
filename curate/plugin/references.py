"""Lazy references: what a plugin announces, by name, without importing it.

Reference
├── StageRef         a stage class, or an instance that is changed with `.with_()`
├── ExecutorRef      an executor class
├── RecogniserRef    a recogniser class
├── NormaliserRef    a function from string to string
├── VoiceDetectorRef a voice detector class
├── AudioEngineRef   the class of a model that a measuring stage runs
├── FormatRef        a `curate.io.ManifestFormat`
├── SchemeRef        a storage scheme, such as `s3`
├── PanelRef         a function that makes panels of the report
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
            f"{type(reference).__name__}({reference.name!r}, {attribute.name}={value!r}): must be a string"
        )


ENGINE_STAGES = ("speech_quality", "audio_events", "spoken_language", "speaker_embedding")
"""The stages that measure audio with an engine of a plugin."""


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

    kind: ClassVar[str] = "reference"
    plural: ClassVar[str] = "references"

    name: str = attrs.field(validator=_check_name)
    target: str = attrs.field(validator=_check_target)
    summary: str = attrs.field(validator=_check_text)
    extra: str | None = attrs.field(default=None, validator=_check_text)
    distribution: str = attrs.field(default="", kw_only=True)

    @property
    def qualified_name(self) -> str:
        """`distribution/name`, which is unique even if another plugin claims the plain name."""
        return f"{self.distribution}/{self.name}" if self.distribution else self.name

    @property
    def label(self) -> str:
        """The name as listings show it; unique within a distribution and kind."""
        return self.name

    def owned_by(self, distribution: str) -> Self:
        """Return this reference as announced by `distribution`."""
        return attrs.evolve(self, distribution=distribution)

    def load(self) -> Any:
        """Import the target and return it.

        Raises:
            PluginError: a dependency is missing (the message names the package), the target does not exist, or it
                is not what was announced.
        """
        module, _, path = self.target.partition(":")
        try:
            # A module may import its names lazily, so reading one can raise whatever an import can.
            found = functools.reduce(getattr, path.split("."), importlib.import_module(module))
        except ImportError as error:
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            if missing is not None and f"{module}.".startswith(f"{missing}."):
                raise PluginError(f"{self}: the module {missing!r} of its target cannot be found") from error
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
        """Return a description of the target that was expected, or None if this is such a target."""
        return None if isinstance(found, type) else "a class"

    def __str__(self) -> str:
        return f"{self.kind} {self.qualified_name!r} ({self.target})"


@attrs.frozen(str=False)
class StageRef(Reference):
    """A stage; `load()` returns a `Stage` class, or the instance that a decorated function is (for `.with_()`)."""

    kind: ClassVar[str] = "stage"
    plural: ClassVar[str] = "stages"

    def _unlike(self, found: Any) -> str | None:
        from curate.stage import Stage

        is_stage = issubclass(found, Stage) if isinstance(found, type) else isinstance(found, Stage)
        return None if is_stage else "a subclass of curate's Stage or the result of @processing_stage"


@attrs.frozen(str=False)
class ExecutorRef(Reference):
    """An executor; `load()` returns its class."""

    kind: ClassVar[str] = "executor"
    plural: ClassVar[str] = "executors"


@attrs.frozen(str=False)
class RecogniserRef(Reference):
    """A recogniser for the stage `asr`; `load()` returns its class."""

    kind: ClassVar[str] = "recogniser"
    plural: ClassVar[str] = "recognisers"


@attrs.frozen(str=False)
class NormaliserRef(Reference):
    """A normaliser of transcripts; `load()` returns a function from string to string."""

    kind: ClassVar[str] = "normaliser"
    plural: ClassVar[str] = "normalisers"

    def _unlike(self, found: Any) -> str | None:
        return None if callable(found) and not isinstance(found, type) else "a function from string to string"


@attrs.frozen(str=False)
class VoiceDetectorRef(Reference):
    """An engine of the stage `voice_activity`; `load()` returns its class, a `curate.signal.VoiceDetector`."""

    kind: ClassVar[str] = "voice detector"
    plural: ClassVar[str] = "voice_detectors"

    def _unlike(self, found: Any) -> str | None:
        methods = (getattr(found, name, None) for name in ("check", "setup", "probabilities", "fingerprint"))
        known = isinstance(found, type) and all(map(callable, methods))
        return None if known else "a class that implements curate.signal.VoiceDetector"


@attrs.frozen(str=False)
class AudioEngineRef(Reference):
    """An engine of a stage that measures audio with a model; `load()` returns its class.

    Args:
        stage: the stage, one of `ENGINE_STAGES`. `docs/plugins.md` has what its engines must be able to do.
    """

    kind: ClassVar[str] = "audio engine"
    plural: ClassVar[str] = "audio_engines"

    stage: str = attrs.field(kw_only=True, validator=attrs.validators.in_(ENGINE_STAGES))

    @property
    def label(self) -> str:
        """The name with the stage, as one name may stand for an engine of each."""
        return f"{self.stage}:{self.name}"


def _check_suffixes(reference: Reference, _: attrs.Attribute[Any], value: Any) -> None:
    if not value or not all(isinstance(suffix, str) and suffix.startswith(".") for suffix in value):
        raise PluginError(
            f"{type(reference).__name__}({reference.name!r}, suffixes={value!r}): at least one, each with its dot"
        )


@attrs.frozen(str=False)
class FormatRef(Reference):
    """A format of manifests; `load()` returns its `curate.io.ManifestFormat`.

    Args:
        suffixes: those of the format. They are repeated here so that a file name alone decides which format is loaded.
        writable: whether the format has a `write` or a `write_with`.
    """

    kind: ClassVar[str] = "format"
    plural: ClassVar[str] = "formats"

    suffixes: tuple[str, ...] = attrs.field(kw_only=True, converter=tuple[str, ...], validator=_check_suffixes)
    writable: bool = attrs.field(default=True, kw_only=True)

    def fits(self, file_name: str) -> int:
        """Return the length of the longest suffix that a file name ends in; 0: none."""
        name = file_name.lower()
        return max((len(suffix) for suffix in self.suffixes if name.endswith(suffix)), default=0)

    def _unlike(self, found: Any) -> str | None:
        own = [getattr(found, name, None) for name in ("read_rows", "suffixes", "is_writable")]
        if not callable(own[0]):  # a look at the class would need curate.io, which knows nothing of plugins
            return "a curate.io.ManifestFormat"
        if (own[1], own[2]) != (self.suffixes, self.writable):
            return f"a format with the announced suffixes={self.suffixes!r} and writable={self.writable}"
        return None


@attrs.frozen(str=False)
class SchemeRef(Reference):
    """A storage scheme, the `s3` of `s3://bucket/key`; `load()` returns a class of `curate.storage.Scheme`.

    The class is called without arguments, in every process that opens a URL of this scheme.
    """

    kind: ClassVar[str] = "storage scheme"
    plural: ClassVar[str] = "schemes"

    def _unlike(self, found: Any) -> str | None:
        methods = (getattr(found, name, None) for name in ("open", "identity", "writing"))
        return None if all(map(callable, methods)) else "a class that implements curate.storage.Scheme"


@attrs.frozen(str=False)
class PanelRef(Reference):
    """Panels of the report; `load()` returns a function that makes them from the reader of a run."""

    kind: ClassVar[str] = "report panel"
    plural: ClassVar[str] = "panels"

    def _unlike(self, found: Any) -> str | None:
        return None if callable(found) and not isinstance(found, type) else "a function that takes the reader of a run"


@attrs.frozen(str=False)
class CommandRef(Reference):
    """A verb of the command line; `load()` returns its `click.Command`."""

    kind: ClassVar[str] = "command"
    plural: ClassVar[str] = "commands"

    def _unlike(self, found: Any) -> str | None:
        import click

        return None if isinstance(found, click.Command) else "a click.Command"


KINDS: tuple[type[Reference], ...] = (
    StageRef,
    ExecutorRef,
    RecogniserRef,
    NormaliserRef,
    VoiceDetectorRef,
    AudioEngineRef,
    FormatRef,
    SchemeRef,
    PanelRef,
    CommandRef,
)
"""Every kind of reference, in the order of listings."""
