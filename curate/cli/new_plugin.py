"""`curate plugins new`: writes the package of a new plugin, with a stage and its tests."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template

import click

from curate.cli.session import Session, pass_session
from curate.errors import UsageError
from curate.plugin.references import canonical

_FILES: Mapping[str, str] = {
    # the template, where it goes
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "init.py.txt": "$package/__init__.py",
    "plugin.py.txt": "$package/plugin.py",
    "stage.py.txt": "$package/stage.py",
    "test_stage.py.txt": "tests/test_$stage.py",
    "pipeline.yaml.txt": "pipeline.yaml",
    "records.jsonl.txt": "records.jsonl",
}


@click.command("new")
@click.argument("name")
@click.option(
    "--into", type=click.Path(path_type=Path), default=Path(), help="The folder to make it in; here by default."
)
@pass_session
def new_plugin(session: Session, name: str, into: Path) -> None:
    """Write a package with a stage of your own, its tests and a pipeline that uses it, into a new folder NAME."""
    folder = write_plugin(name, into)
    show = session.console.print
    show(f"Wrote {folder}", soft_wrap=True)
    show()
    show(f"cd {folder}", soft_wrap=True)
    show("pip install --editable '.[test]'")
    show("pytest")
    show("curate run pipeline.yaml")


def write_plugin(name: str, into: Path) -> Path:
    """Write a plugin's package and return its folder.

    Args:
        name: the distribution's name; module, stage and class are called after it.
        into: where the folder is made.

    Raises:
        UsageError: it cannot be a distribution's name, or there is something already.
    """
    distribution = canonical(name)
    package = distribution.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", distribution) or keyword.iskeyword(package):
        raise UsageError(
            f"{name!r} cannot be the name of a package: write letters, digits and '-', beginning with a letter"
        )
    folder = into / distribution
    if folder.exists():
        raise UsageError(f"{folder} exists already; choose another name, or another folder with --into")
    names = {
        "distribution": distribution,
        "package": package,
        "stage": package,
        "cls": "".join(word.capitalize() for word in distribution.split("-")),
    }
    templates = resources.files("curate.cli") / "plugin_template"
    try:
        for template, place in _FILES.items():
            path = folder / Template(place).substitute(names)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template((templates / template).read_text(encoding="utf-8")).substitute(names), "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror or error}") from error
    return folder
