"""Plugins: how a stranger's code becomes part of curate, and how curate's own does.

A plugin is a light module that answers the hooks of `curate.plugin.spec`, announced by its distribution as an entry
point of the group `curate`:

    from curate.plugin import StageRef, hookimpl

    @hookimpl
    def curate_stages():
        return [StageRef("denoise", "my_package.denoise:Denoise", "Remove background noise", extra="torch")]
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Generator

from curate.plugin.host import PluginHost
from curate.plugin.references import CommandRef, ExecutorRef, RecogniserRef, StageRef
from curate.plugin.spec import hookimpl
from curate.plugin.status import PluginStatus

__all__ = [
    "CommandRef",
    "ExecutorRef",
    "PluginHost",
    "PluginStatus",
    "RecogniserRef",
    "StageRef",
    "current_host",
    "default_host",
    "hookimpl",
    "use_host",
]

_current: contextvars.ContextVar[PluginHost] = contextvars.ContextVar("curate_plugin_host")


@functools.cache
def default_host() -> PluginHost:
    """Return the host that this process shares: the installed plugins, as the environment selects them."""
    return PluginHost()


def current_host() -> PluginHost:
    """Return the host of the pipeline that is being planned or run, or the process's."""
    return _current.get(None) or default_host()


@contextlib.contextmanager
def use_host(host: PluginHost) -> Generator[None]:
    """Make `host` the current one: stages that look up plugins by name ask it, and so respect what the user chose."""
    token = _current.set(host)
    try:
        yield
    finally:
        _current.reset(token)
