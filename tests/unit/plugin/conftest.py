from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.plugin.distributions import Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget_modules: None) -> Site:
    monkeypatch.delenv("CURATE_PLUGINS", raising=False)
    folder = tmp_path / "site-packages"
    site = Site(folder)
    monkeypatch.syspath_prepend(str(folder))
    return site


@pytest.fixture
def forget_modules(tmp_path: Path) -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]
