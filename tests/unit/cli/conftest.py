from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from loguru import logger

from curate.cli import main
from tests.unit.plugin.distributions import Site


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.delenv("CURATE_PLUGINS", raising=False)
    site = Site(tmp_path / "site-packages")
    monkeypatch.syspath_prepend(str(site.path))
    before = set(sys.modules)
    yield site
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def curate(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Outcome]]:
    """Call the command line in this process."""

    def call(*arguments: str) -> Outcome:
        code = main(arguments)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    yield call
    logger.remove()
    logger.disable("curate")
