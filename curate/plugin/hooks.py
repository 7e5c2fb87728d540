"""Checks a plugin's hook functions for misspelt hooks, missing decorators and wrong answers when it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, cast

import pluggy

from curate.errors import PluginError
from curate.plugin import spec
from curate.plugin.references import (
    AudioEngineRef,
    CommandRef,
    ExecutorRef,
    FormatRef,
    NormaliserRef,
    PanelRef,
    RecogniserRef,
    Reference,
    SchemeRef,
    StageRef,
    VoiceDetectorRef,
    canonical,
)
from curate.suggest import closest

ANNOUNCING: Mapping[str, type[Reference]] = MappingProxyType(
    {
        "curate_stages": StageRef,
        "curate_executors": ExecutorRef,
        "curate_recognisers": RecogniserRef,
        "curate_normalisers": NormaliserRef,
        "curate_voice_detectors": VoiceDetectorRef,
        "curate_audio_engines": AudioEngineRef,
        "curate_formats": FormatRef,
        "curate_storage_schemes": SchemeRef,
        "curate_report_panels": PanelRef,
        "curate_commands": CommandRef,
    }
)
"""Hooks that announce references: hook → the type of reference in its list."""

ERROR_CODES = "curate_error_codes"
"""The hook that announces codes, which are plain strings with a meaning."""

HOOKS = tuple(name for name in vars(spec) if name.startswith("curate_"))
"""All hooks."""


def new_manager() -> pluggy.PluginManager:
    """Return pluggy's manager with our hooks and no plugin."""
    manager = pluggy.PluginManager(spec.PROJECT)
    manager.add_hookspecs(spec)
    return manager


def register(manager: pluggy.PluginManager, plugin: object, identity: str) -> None:
    """Register a plugin under a name of our own.

    Raises:
        PluginError: a hook that does not exist, takes other arguments, lacks its decorator or is a wrapper.
    """
    if isinstance(plugin, type):
        raise PluginError(f"a plugin is a module or an object, but its entry point names the class {plugin.__name__}")
    other = manager.get_name(plugin)
    if other is not None:
        raise PluginError(f"it is registered already, as {other}, and cannot be registered twice")
    _check_hooks(manager, plugin)
    try:
        manager.register(plugin, identity)
    except BaseException as error:
        unregister(manager, identity)
        if isinstance(error, pluggy.PluginValidationError):
            raise PluginError(" ".join(str(error).split())) from error
        raise


def unregister(manager: pluggy.PluginManager, identity: str) -> None:
    """Remove a plugin, even one whose registration stopped half-way."""
    if manager.has_plugin(identity):
        manager.unregister(name=identity)


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    for name in dir(plugin):
        if name.startswith("__"):
            continue
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            if name in HOOKS and callable(getattr(plugin, name, None)):
                raise PluginError(
                    f"{name} lacks its decorator: put @hookimpl above it (from curate.plugin import hookimpl)"
                )
            continue
        hook = options.get("specname") or name
        if hook not in HOOKS:
            raise PluginError(f"unknown hook {hook}: {closest(hook, HOOKS)}")
        if options.get("wrapper") or options.get("hookwrapper"):
            raise PluginError(f"{name} is a hook wrapper, which is not supported: plugins are called one at a time")


def functions(manager: pluggy.PluginManager, hook: str, plugin: object | None = None) -> list[pluggy.HookImpl]:
    """Return the functions that answer a hook in the order of pluggy's calls; only those of `plugin`, if given."""
    caller = cast("pluggy.HookCaller", getattr(manager.hook, hook))
    return [impl for impl in reversed(caller.get_hookimpls()) if plugin is None or impl.plugin is plugin]


def announced(manager: pluggy.PluginManager, plugin: object, distribution: str) -> tuple[Reference, ...]:
    """Return the references that a plugin announces.

    Raises:
        PluginError: an answer of the wrong type, or a name announced twice.
    """
    found: list[Reference] = []
    for hook, kind in ANNOUNCING.items():
        mine: list[Reference] = []
        for implementation in functions(manager, hook, plugin):
            function = cast("Callable[[], Any]", implementation.function)
            mine.extend(_checked(hook, kind, function()))
        _check_unique(hook, mine)
        found.extend(reference.owned_by(distribution) for reference in mine)
    return tuple(found)


def error_codes(manager: pluggy.PluginManager, plugin: object, distribution: str, *, owned: bool) -> dict[str, str]:
    """Return the codes that a plugin announces, with their meanings.

    Args:
        owned: whether the codes must begin with the distribution's name, as those of installed plugins must.

    Raises:
        PluginError: an answer of the wrong type, or a code that belongs to another distribution.
    """
    found: dict[str, str] = {}
    for implementation in functions(manager, ERROR_CODES, plugin):
        answer: Any = cast("Callable[[], Any]", implementation.function)()
        if not isinstance(answer, Mapping):
            raise PluginError(f"{ERROR_CODES}() must return a dict, code → meaning, not {type(answer).__name__}")
        for code, meaning in cast("Mapping[Any, Any]", answer).items():
            if not isinstance(code, str) or not isinstance(meaning, str) or not meaning:
                raise PluginError(
                    f"{ERROR_CODES}() must return code → meaning, both strings, not {code!r}: {meaning!r:.80}"
                )
            owner = code.partition("/")[0]
            if owned and canonical(owner) != canonical(distribution):
                raise PluginError(f"{ERROR_CODES}() announces {code!r}: a code of this plugin begins {distribution}/")
            found[code] = meaning
    return found


def _checked(hook: str, kind: type[Reference], answer: Any) -> list[Reference]:
    if not isinstance(answer, list | tuple):
        hint = " (is its `return` missing?)" if answer is None else ""
        raise PluginError(f"{hook}() must return a list of {kind.__name__}, not {type(answer).__name__}{hint}")
    for reference in cast("list[Any]", answer):
        if not isinstance(reference, kind):
            raise PluginError(f"{hook}() must return a list of {kind.__name__}, but it holds {reference!r:.80}")
    return list(cast("list[Reference]", answer))


def _check_unique(hook: str, references: Iterable[Reference]) -> None:
    seen: set[str] = set()
    for reference in references:
        if reference.label in seen:
            raise PluginError(f"{hook}() announces {reference.label!r} twice")
        seen.add(reference.label)
