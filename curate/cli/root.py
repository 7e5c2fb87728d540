"""The command `curate`: its global options, and its verbs, which plugins announce and which load when called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import curate
from curate.cli import logs
from curate.cli.session import Session, new_console
from curate.errors import EXIT_USAGE
from curate.plugin import PluginHost


class Verbs(click.Group):
    """A group whose commands come from the plugin host; listing them imports none of them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Accept `--plugins-file` behind the verb as well, where people write what belongs to a pipeline."""
        return super().parse_args(ctx, _plugins_files_first(args))

    def list_commands(self, ctx: click.Context) -> list[str]:
        commands = host_of(ctx).commands
        return [commands.shortest_name(reference) for reference in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return host_of(ctx).command(cmd_name).load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = host_of(ctx).commands
        with formatter.section("Commands"):
            formatter.write_dl([(commands.shortest_name(one), one.summary) for one in commands])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        commands = host_of(ctx).commands
        names = {commands.shortest_name(one): one.summary for one in commands}
        verbs = [CompletionItem(name, help=text) for name, text in names.items() if name.startswith(incomplete)]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]


_PLUGINS_FILE = "--plugins-file"


def _plugins_files_first(arguments: list[str]) -> list[str]:
    """Return arguments with the plugins-files before the verb."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    files: list[str] = []
    others: list[str] = []
    words = iter(arguments[:end])
    for word in words:
        if word == _PLUGINS_FILE:
            files += [word, *(value for value in (next(words, None),) if value is not None)]
        else:
            (files if word.startswith(f"{_PLUGINS_FILE}=") else others).append(word)
    return [*files, *others, *arguments[end:]]


def host_of(ctx: click.Context) -> PluginHost:
    """Return the call's plugin host, opened when it is first needed: for a verb, or for the list in `--help`."""
    host = ctx.meta.get("curate.host")
    if host is None:
        options = ctx.params
        level = _log_level(options.get("log_level"), bool(options.get("verbose")), bool(options.get("quiet")))
        logs.configure(level, options.get("log_format") or "text")
        host = PluginHost(disabled=options.get("no_plugin", ()), plugin_files=options.get("plugins_file", ()))
        ctx.meta["curate.host"] = host
    return host


def _log_level(asked: str | None, verbose: bool, quiet: bool) -> str:
    if asked is not None:
        return asked.upper()
    return "INFO" if verbose else "ERROR" if quiet else "WARNING"


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(f"curate {curate.__version__}")
        ctx.exit()


# All global options are eager: click then knows them when `--help` behind them asks the host for the verbs.
@click.group(cls=Verbs, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--no-plugin",
    metavar="NAME",
    multiple=True,
    is_eager=True,
    help="Do not load the plugins of this distribution. Can be repeated.",
)
@click.option(
    "--plugins-file",
    type=click.Path(path_type=Path),
    multiple=True,
    is_eager=True,
    help="A Python file with stages or hooks of your own. Can be repeated.",
)
@click.option(
    "--log-level",
    type=click.Choice(logs.LEVELS, case_sensitive=False),
    is_eager=True,
    help="What to log to standard error; WARNING by default.",
)
@click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="text",
    is_eager=True,
    help="How log lines and progress are written: for people, or as an object of JSON a line.",
)
@click.option("-v", "--verbose", is_flag=True, is_eager=True, help="The same as --log-level INFO.")
@click.option("-q", "--quiet", is_flag=True, is_eager=True, help="Print results and errors only.")
@click.option("--debug", is_flag=True, is_eager=True, help="Show the traceback of an error.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
@click.pass_context
def root(ctx: click.Context, quiet: bool, log_format: str, **_: Any) -> None:
    """Turns piles of recorded speech into clean training data."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(EXIT_USAGE)
    ctx.obj = Session(host_of(ctx), new_console(), new_console(stderr=True), quiet, log_format == "json")
