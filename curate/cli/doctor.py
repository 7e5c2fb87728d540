"""`curate doctor`: what this machine has, what is missing, and how to fix it; imports and writes nothing."""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import json
import os
import platform
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Literal

import attrs
import click

from curate._version import __version__
from curate.cli.session import Session, pass_session
from curate.errors import EXIT_USAGE
from curate.machine import Machine
from curate.plugin import PluginHost

Status = Literal["ok", "warning", "missing"]

_STYLES: Mapping[Status, str] = {"ok": "green", "warning": "yellow", "missing": "bold red"}

_PACKAGES = (
    # distribution, the module that it installs, what installs it
    ("torch", "torch", "curate-speech[nemo]"),
    ("nemo_toolkit", "nemo", "curate-speech[nemo]"),
    ("ray", "ray", "curate-speech[ray]"),
    ("soundfile", "soundfile", "curate-speech"),
    ("soxr", "soxr", "curate-speech"),
    ("pyarrow", "pyarrow", "curate-speech"),
    ("jiwer", "jiwer", "curate-speech"),
)

_LITTLE_SPACE = 1_000_000_000
_GIB = 1024**3
_UNSAFE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


@attrs.frozen
class Finding:
    """The result of one check.

    Args:
        name: what was looked at.
        status: `missing` means that what needs it cannot run; the rest can.
        found: what is there.
        remedy: what to do about it; empty if it is well.
        fatal: whether no pipeline at all can run like this.
    """

    name: str
    status: Status
    found: str
    remedy: str = ""
    fatal: bool = False


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_session
def doctor(session: Session, as_json: bool) -> int:
    """Check the machine and the installation, and list missing parts."""
    findings = list(examine(session.host, os.environ, Path()))
    able = not any(finding.fatal for finding in findings)
    if as_json:
        rows = [attrs.asdict(finding) for finding in findings]
        click.echo(json.dumps({"able_to_run": able, "findings": rows}, indent=2))
    else:
        _show(session, findings, able=able)
    return 0 if able else EXIT_USAGE


def examine(host: PluginHost, environment: Mapping[str, str], folder: Path) -> Iterator[Finding]:
    """Yield the findings about the machine, the installation and the folder."""
    yield _python()
    yield Finding("curate", "ok", __version__)
    machine = Machine.here(environment)
    yield Finding("cores", "ok", str(machine.cpus))
    yield Finding("memory", "ok", f"{machine.memory / _GIB:,.1f} GiB")
    yield Finding("GPUs", "ok", str(machine.gpus) if machine.gpus else "none: models run on the cores")
    for distribution, module, wanted in _PACKAGES:
        yield _package(distribution, module, wanted)
    yield _libsndfile()
    yield from _executors(host)
    yield from _plugins(host)
    if environment.get(_UNSAFE):
        yield Finding(_UNSAFE, "warning", "set: a model's file may run code when it is loaded", f"unset {_UNSAFE}")
    yield _run_folder(folder / "runs")


def _python() -> Finding:
    """Find the version of Python, and whether NeMo can read checkpoints with it: it extracts them with a filter."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if hasattr(tarfile, "data_filter"):
        return Finding("python", "ok", found)
    remedy = "install Python 3.11.4 or later: NeMo extracts checkpoints with the filters of its tarfile"
    return Finding("python", "missing", f"{found}, without the filters of tarfile, so no .nemo model loads", remedy)


def _package(distribution: str, module: str, wanted: str) -> Finding:
    remedy = f"pip install '{wanted}'" if "[" in wanted else f"pip install --force-reinstall {wanted}"
    if importlib.util.find_spec(module) is None:
        return Finding(distribution, "missing", "not installed", remedy)
    try:
        return Finding(distribution, "ok", metadata.version(distribution))
    except metadata.PackageNotFoundError:
        found = f"a folder or file {module!r} is in the way of the package, or it was not installed by pip"
        return Finding(distribution, "warning", found, remedy)


def _libsndfile() -> Finding:
    """Find the library that decodes audio as soundfile does: what its wheel brings, or else the system's."""
    paths: list[str] = []
    bundled = importlib.util.find_spec("_soundfile_data")
    for folder in (bundled and bundled.submodule_search_locations) or ():
        paths += map(str, sorted(Path(folder).glob("libsndfile*")))
    paths += filter(None, [ctypes.util.find_library("sndfile")])
    for path in paths:
        try:
            version = ctypes.CDLL(path).sf_version_string
        except (OSError, AttributeError):  # for another processor
            continue
        version.restype = ctypes.c_char_p
        return Finding("libsndfile", "ok", version().decode(errors="replace").removeprefix("libsndfile-"))
    remedy = "apt-get install libsndfile1, or the package of your system that provides it"
    return Finding("libsndfile", "missing", "not found: no audio can be read", remedy)


def _executors(host: PluginHost) -> Iterator[Finding]:
    names = [host.executors.shortest_name(reference) for reference in host.executors]
    if not names or not list(host.stages):
        remedy = "pip install --force-reinstall curate-speech"
        yield Finding("executors", "missing", "curate's own stages and executors are not there", remedy, fatal=True)
        return
    yield Finding("executors", "ok", ", ".join(names))


def _plugins(host: PluginHost) -> Iterator[Finding]:
    failed = [row for row in host.rows() if row.status == "failed"]
    for row in failed:
        remedy = f"see curate plugins --json, and fix it, or leave it out with --no-plugin {row.distribution}"
        yield Finding(f"plugin {row.distribution}", "warning", f"failed to load: {row.error}", remedy)
    active = sum(row.status == "active" for row in host.rows())
    yield Finding("plugins", "ok", f"{active} active, {len(failed)} failed")


def _run_folder(folder: Path) -> Finding:
    nearest = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        return Finding("./runs", "warning", f"{nearest} cannot be written to", "choose another folder with --run-dir")
    free = shutil.disk_usage(nearest).free
    found = f"can be written to; {free / _GIB:,.1f} GiB free"
    if free < _LITTLE_SPACE:
        return Finding("./runs", "warning", found, "make room, or choose another place with --run-dir")
    return Finding("./runs", "ok", found)


def _show(session: Session, findings: list[Finding], *, able: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for finding in findings:
        found = Text(finding.found)
        if finding.remedy:
            found.append(f"\n{finding.remedy}", style="bold")
        table.add_row(Text(finding.status, style=_STYLES[finding.status]), finding.name, found)
    session.console.print(table)
    if not able:
        session.console.print("\nNo pipeline can run like this.")
