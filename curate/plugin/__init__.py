"""Plugins: how a stranger's code becomes part of curate, and how curate's own does.

A plugin is a light module that answers the hooks of `curate.plugin.spec`, announced by its distribution as an entry
point of the group `curate`:

    from curate.plugin import StageRef, hookimpl

    @hookimpl
    def curate_stages():
        return [StageRef("denoise", "my_package.denoise:Denoise", "Remove background noise", extra="torch")]
"""

from __future__ import annotations

import functools

from curate.plugin.host import PluginHost
from curate.plugin.references import CommandRef, ExecutorRef, RecogniserRef, StageRef
from curate.plugin.row import PluginRow
from curate.plugin.spec import hookimpl

__all__ = [
    "CommandRef",
    "ExecutorRef",
    "PluginHost",
    "PluginRow",
    "RecogniserRef",
    "StageRef",
    "default_host",
    "hookimpl",
]


@functools.cache
def default_host() -> PluginHost:
    """Return the host that this process shares: the installed plugins, as the environment selects them."""
    return PluginHost()
