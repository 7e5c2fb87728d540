"""How a measuring stage finds the engine that its setting names, checks it, and makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from curate.errors import PlanError, PluginError
from curate.plugin import resolved_setting
from curate.resolution import PluginLookup, Resolved
from curate.stage import Stage

S = TypeVar("S", bound=Stage)


def resolve_engine(stage: S, kind: str, engine: str, plugins: Mapping[str, str], host: PluginLookup) -> S:
    """Return the stage with the class of its engine.

    Args:
        stage: has the setting `engine`.
        kind: the stage for which plugins announce engines.
        engine: the name.
        plugins: known names → the distribution to install.

    Raises:
        PluginError: no plugin announces the engine; the message names the distribution where that is known.
    """
    try:
        reference = host.audio_engine(kind, engine)
    except PluginError as error:
        if engine not in plugins:
            raise
        raise PluginError(f"engine {engine!r} is not installed: pip install {plugins[engine]}\n{error}") from error
    return stage.with_resolved(engine=Resolved(reference.load(), reference.distribution))


def make_engine(stage: Stage, options: Mapping[str, Any]) -> Any:
    """Return the engine of a stage, made with its options and not set up.

    Raises:
        PlanError: it does not take these options.
    """
    make: Any = resolved_setting(stage, "engine").value
    try:
        return make(**options)
    except (TypeError, ValueError) as error:
        name = getattr(stage, "engine", "")
        raise PlanError(f"engine {name!r} does not take options={dict(options)!r}: {error}", stage.name) from error


def engine_fingerprint(stage: Stage, engine: Any) -> Mapping[str, Any]:
    """Return the version of the distribution that announced an engine, and what the engine adds."""
    return {"engine_version": resolved_setting(stage, "engine").version, **engine.fingerprint()}
