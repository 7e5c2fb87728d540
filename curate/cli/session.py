"""The state of one call of the command line: the plugin host and the consoles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from curate.plugin import PluginHost

if TYPE_CHECKING:
    from rich.console import Console


@attrs.frozen
class Session:
    """One call of the command line; a verb takes it with `@pass_session`, or as `ctx.obj`.

    Args:
        host: the plugins, as the global options select them.
        console: standard output, for results. Strings are printed as they are: markup in a file name has no effect.
        messages: standard error, for progress and notes, so that results can be piped.
        quiet: print results and errors only.
        json_lines: write progress as lines of JSON, as the log does.
    """

    host: PluginHost
    console: Console
    messages: Console
    quiet: bool = False
    json_lines: bool = False


pass_session = click.make_pass_decorator(Session)


def new_console(*, stderr: bool = False) -> Console:
    """Return a console that colours on a terminal only, and never reads markup in what it prints."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)
