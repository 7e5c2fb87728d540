"""What the verbs that start from a run directory have in common: their options, and what the run was started from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import click

from curate.cli.session import Session

_OPTIONS = (
    click.option(
        "--pipeline",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The pipeline file, if it has moved since the run began.",
    ),
    click.option("--executor", metavar="NAME", help="Where to run; by default the executor of the run."),
    click.option("--allow-imports", is_flag=True, help="Allow classes that no plugin announces in the file."),
)


def from_run(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a verb that runs the pipeline of a run again."""
    for option in reversed(_OPTIONS):
        verb = option(verb)
    return verb


def origin_of_run(
    session: Session, run_dir: Path, pipeline: Path | None
) -> tuple[Session, Path, Path, Mapping[str, Any]]:
    """Return what a run was started from: a session with its plugins-files, the pipeline file, the folder, the rest.

    Args:
        pipeline: the pipeline file, if it has moved.

    Raises:
        UsageError: the run was not started from a pipeline file, or its folder or a plugins-file is missing.
    """
    from curate.engine import RunReader
    from curate.errors import UsageError

    origin = RunReader(run_dir).origin
    if pipeline is None and "file" not in origin:
        raise UsageError(f"the run in {run_dir} was not started from a pipeline file: name one with --pipeline")
    file = Path(origin["file"]) if pipeline is None else pipeline.absolute()
    folder = Path(origin.get("folder", "."))
    if not folder.is_dir():
        raise UsageError(f"the run in {run_dir} was started in {folder}, which is missing: restore it, or fork the run")
    return _with_plugins_files(session, origin.get("plugins_files", ())), file, folder, origin


def _with_plugins_files(session: Session, files: Sequence[str]) -> Session:
    """Return a session with the plugins-files of a run, unless the command line names some itself.

    Raises:
        UsageError: one of them is missing.
    """
    from curate.errors import UsageError
    from curate.plugin import PluginHost

    options = click.get_current_context().find_root().params
    if not files or options.get("plugins_file"):
        return session
    for file in files:
        if not Path(file).is_file():
            raise UsageError(f"the run used the plugins-file {file}, which is missing: name it with --plugins-file")
    host = PluginHost(disabled=options.get("no_plugin", ()), plugin_files=files)
    return attrs.evolve(session, host=host)
