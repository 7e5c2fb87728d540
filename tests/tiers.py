"""Marks that follow from where a test lies and what it uses: its tier, what it needs, and who shares its process.

tests/README.md has the table of markers. Those that a folder, a fixture or a parameter implies are set here, so that
no test can forget them; the others stand at the tests.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FOLDERS = {"browser": "browser", "contract": "processes", "faults": "processes"}
"""Folder of `tests` → the mark of everything in it."""

NEEDS = {"browser": ("playwright", "playwright"), "nemo": ("nemo", "nemo_toolkit"), "ray": ("ray", "ray")}
"""Mark → the module that such a test imports, and the distribution that has it."""

GROUPS = ("ray", "nemo", "browser")
"""Marks whose tests share one process of pytest-xdist: a cluster, models and a browser are started once. First wins."""

LIGHT_PLUGINS = ("curate-example", "curate-pocketsphinx")
"""Plugins that `.dev` has; the tests of all others need `.dev-all`."""

WITH_EXTRAS = ("test_jobs", "test_real_models", "test_voice_activity")
"""Modules outside of `plugins` whose tests need a plugin's model."""

EXECUTOR_PARAMETERS = ("place", "executor", "name")
"""Parameters of tests whose value is an executor, or the name of one."""

CHILDREN = ("docs",)
"""Folders whose tests import NeMo only in child processes, so that any process of pytest-xdist may run them."""

_TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before `-m` selects by the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Complete the marks of every test."""
    missing = {
        mark: f"needs {distribution}: make .venv/.dev-all"
        for mark, (module, distribution) in NEEDS.items()
        if importlib.util.find_spec(module) is None
    }
    for item in items:
        folder = _folder(item)
        if folder in FOLDERS:
            item.add_marker(FOLDERS[folder])
        if _needs_extras(item):
            item.add_marker("extras")
        if _uses_ray(item):
            item.add_marker("ray")
        marks = {mark.name for mark in item.iter_markers()}
        for mark in missing.keys() & marks:
            item.add_marker(pytest.mark.skip(reason=missing[mark]))
        if "xdist_group" not in marks and (group := _group(item, folder, marks)):
            item.add_marker(pytest.mark.xdist_group(group))


def _folder(item: pytest.Item) -> str:
    """Return the folder of `tests` that a test lies in; empty for a plugin's test."""
    return item.path.relative_to(_TESTS).parts[0] if item.path.is_relative_to(_TESTS) else ""


def _needs_extras(item: pytest.Item) -> bool:
    plugins = _TESTS.parent / "plugins"
    if item.path.is_relative_to(plugins):
        return item.path.relative_to(plugins).parts[0] not in LIGHT_PLUGINS
    return item.path.stem in WITH_EXTRAS


def _uses_ray(item: pytest.Item) -> bool:
    if "ray_cluster" in getattr(item, "fixturenames", ()):
        return True
    called = getattr(item, "callspec", None)
    values = [] if called is None else [called.params.get(name) for name in EXECUTOR_PARAMETERS]
    return any(getattr(value, "name", value) == "ray" for value in values)


def _group(item: pytest.Item, folder: str, marks: set[str]) -> str | None:
    for mark in GROUPS:
        if mark in marks and not (mark == "nemo" and folder in CHILDREN):
            return mark
    # the fixtures of these modules are whole runs
    return item.path.stem if folder == "faults" else None
