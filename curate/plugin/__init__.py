"""Plugins: how third-party code becomes part of curate, and how curate's own does.

A plugin is a light module that answers the hooks of `curate.plugin.spec`, announced by its distribution as an entry
point of the group `curate`:

    from curate.plugin import StageRef, hookimpl

    @hookimpl
    def curate_stages():
        return [StageRef("dereverb", "my_package.dereverb:Dereverb", "Remove reverberation", extra="torch")]
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Generator

from curate.plugin.discovery import BUILTIN as CURATE
from curate.plugin.host import PluginHost
from curate.plugin.references import (
    AudioEngineRef,
    CommandRef,
    ExecutorRef,
    FormatRef,
    NormaliserRef,
    PanelRef,
    RecogniserRef,
    SchemeRef,
    StageRef,
    VoiceDetectorRef,
)
from curate.plugin.spec import hookimpl
from curate.plugin.status import PluginStatus
from curate.resolution import Resolved
from curate.stage import Stage

__all__ = [
    "CURATE",
    "AudioEngineRef",
    "CommandRef",
    "ExecutorRef",
    "FormatRef",
    "NormaliserRef",
    "PanelRef",
    "PluginHost",
    "PluginStatus",
    "RecogniserRef",
    "SchemeRef",
    "StageRef",
    "VoiceDetectorRef",
    "current_host",
    "default_host",
    "hookimpl",
    "resolved_setting",
    "use_host",
]

_current: contextvars.ContextVar[PluginHost] = contextvars.ContextVar("curate_plugin_host")


@functools.cache
def default_host() -> PluginHost:
    """Return the host of this process: the installed plugins, as the environment selects them."""
    return PluginHost()


def current_host() -> PluginHost:
    """Return the host of the pipeline that is being planned or run, or otherwise `default_host()`."""
    return _current.get(None) or default_host()


@contextlib.contextmanager
def use_host(host: PluginHost) -> Generator[None]:
    """Make `host` the current one: names are looked up there, so `--plugins-file` and `--no-plugin` hold."""
    token = _current.set(host)
    try:
        yield
    finally:
        _current.reset(token)


def resolved_setting(stage: Stage, name: str) -> Resolved:
    """Return the target of the name in a stage's setting: as planned or, in eager use, in the current host.

    In a worker, a stage gets the target that the planner has resolved, so workers look up no names.
    """
    planned = stage.resolved.get(name)
    return planned if planned is not None else stage.resolve(current_host()).resolved[name]
