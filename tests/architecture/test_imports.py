"""The import graph has no cycles, and its layers hold."""

from __future__ import annotations

import importlib.util
import runpy
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

grimp = pytest.importorskip("grimp", reason="import-linter is not installed")


def cycles(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or through others."""
    found: list[list[str]] = []
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> None:  # Tarjan: what leads back to a module that is still on the path is one group
        index[module] = lowest[module] = len(index)
        path.append(module)
        for imported in sorted(imports[module]):
            if imported not in index:
                visit(imported)
            if imported in path:
                lowest[module] = min(lowest[module], lowest[imported])
        if lowest[module] == index[module]:
            group = path[path.index(module) :]
            del path[path.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(imports):
        if module not in index:
            visit(module)
    return found


def test_cycles_of_a_graph_with_two_groups_names_both() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert sorted(cycles(graph)) == [["a", "b", "c"], ["d", "e"]]


def test_import_graph_with_type_checking_imports_has_no_cycle() -> None:
    graph = grimp.build_graph("curate", exclude_type_checking_imports=False, cache_dir=None)
    found = cycles({module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules})
    assert not found, "these modules import each other:\n" + "\n".join(", ".join(group) for group in found)


@pytest.mark.skipif(importlib.util.find_spec("importlinter") is None, reason="import-linter is not installed")
def test_import_contracts_hold(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    monkeypatch.chdir(ROOT)
    status = lint_imports(cache_dir=None, no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_architecture_picture_matches_the_import_graph() -> None:
    script = ROOT / "docs" / "pictures" / "architecture.py"
    drawn: str = runpy.run_path(str(script))["picture"]()
    assert drawn == script.with_suffix(".svg").read_text(encoding="utf-8"), (
        "the imports have changed: run python docs/pictures/architecture.py and commit the picture"
    )
