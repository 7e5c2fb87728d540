"""The marks that folders, fixtures and parameters imply."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import tiers

TESTS = Path(__file__).parents[2]


class Item:
    """As much of a pytest item as `tiers` looks at."""

    def __init__(self, path: str, *marks: str, fixtures: tuple[str, ...] = (), **params: Any) -> None:
        self.path = TESTS / path
        self.fixturenames = fixtures
        self.callspec = SimpleNamespace(params=params)
        self.marks = [getattr(pytest.mark, mark).mark for mark in marks]

    def iter_markers(self) -> list[pytest.Mark]:
        return self.marks

    def add_marker(self, marker: str | pytest.MarkDecorator) -> None:
        self.marks.append((getattr(pytest.mark, marker) if isinstance(marker, str) else marker).mark)


def completed(item: Item) -> dict[str, Any]:
    """Return the marks of an item, each with its first argument."""
    items: Any = [item]
    tiers.pytest_collection_modifyitems(items)
    return {mark.name: next(iter(mark.args), None) for mark in item.marks if mark.name != "skip"}


@pytest.mark.parametrize("value", ["ray", SimpleNamespace(name="ray")])
def test_executor_parameter_that_is_ray_puts_a_test_with_the_cluster(value: Any) -> None:
    assert completed(Item("unit/cli/test_x.py", executor=value)) == {"ray": None, "xdist_group": "ray"}


def test_cluster_fixture_puts_a_test_with_the_cluster() -> None:
    found = completed(Item("contract/test_x.py", "nemo", fixtures=("ray_cluster",)))
    assert found == {"nemo": None, "processes": None, "ray": None, "xdist_group": "ray"}


def test_other_parameters_are_not_looked_at() -> None:
    assert completed(Item("unit/cli/test_x.py", executor="local", value="ray")) == {}


def test_module_of_faults_stays_in_one_process() -> None:
    assert completed(Item("faults/test_x.py")) == {"processes": None, "xdist_group": "test_x"}


def test_group_of_a_test_s_own_is_kept() -> None:
    assert completed(Item("docs/test_x.py", "nemo")) == {"nemo": None}
    alone = Item("faults/test_x.py")
    alone.add_marker(pytest.mark.xdist_group("alone"))
    assert completed(alone)["xdist_group"] == "alone"


def test_plugin_s_test_gets_no_mark() -> None:
    assert completed(Item(str(TESTS.parent / "plugins/curate-example/tests/test_x.py"))) == {}


def test_missing_distribution_is_a_skip_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "NEEDS", {"nemo": ("no_such_module", "nemo_toolkit")})
    item = Item("unit/asr/test_x.py", "nemo")
    completed(item)
    (skip,) = [mark for mark in item.marks if mark.name == "skip"]
    assert skip.kwargs["reason"] == "needs nemo_toolkit: make .venv/.dev-all"
