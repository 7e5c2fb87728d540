"""The arguments of every verb that reads a pipeline file, and the checked pipeline made from them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.cli.session import Session

if TYPE_CHECKING:
    from curate.config import Configured


class ExecutorOption(click.Option):
    """The option `--executor`, whose help lists the executors that there are."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from curate.cli.root import host_of

        executors = host_of(ctx.find_root()).executors
        names = [executors.shortest_name(reference) for reference in executors]
        return f"{self.opts[0]} {self.metavar}", f"{self.help}: {', '.join(names)}."


_OPTIONS = (
    click.argument("file", metavar="PIPELINE.yaml", type=click.Path(path_type=Path)),
    click.option(
        "--set",
        "sets",
        metavar="PATH=VALUE",
        multiple=True,
        help="Change a setting: stages.asr.batch_size=32, vars.manifest=my.jsonl. Can be repeated.",
    ),
    click.option("--executor", metavar="NAME", cls=ExecutorOption, help="Where to run"),
    click.option("--run-dir", type=click.Path(path_type=Path), help="Where results lie; runs/<name> by default."),
    click.option(
        "--allow-imports",
        is_flag=True,
        help="Let the file name classes that no plugin announces, package.module:Class.",
    ),
)


_ORIGIN = "curate.origin"


def origin_of(context: click.Context) -> dict[str, Any]:
    """Return the files, folder and options that a pipeline was made from, so that another verb can load it again."""
    return context.meta[_ORIGIN]


def reads_pipeline(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name and change a pipeline file to a verb, called with `session` and `configured`."""

    @click.pass_context
    @functools.wraps(verb)
    def reading(
        context: click.Context,
        file: Path,
        sets: tuple[str, ...],
        executor: str | None,
        run_dir: Path | None,
        allow_imports: bool,
        **own: Any,
    ) -> None:
        from curate.config import load_pipeline

        session: Session = context.obj
        context.meta[_ORIGIN] = {
            "file": str(file.absolute()),
            "folder": str(Path.cwd()),
            "sets": list(sets),
            "executor": executor,
            "plugins_files": [str(path.absolute()) for path in context.find_root().params.get("plugins_file", ())],
        }
        configured: Configured = load_pipeline(
            file, host=session.host, sets=sets, executor=executor, run_dir=run_dir, allow_imports=allow_imports
        )
        verb(session, configured, **own)

    command: Callable[..., None] = reading
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
