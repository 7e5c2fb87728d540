"""`curate doctor`: what is there, what is missing, and the remedy; nothing is imported or written for it."""

from __future__ import annotations

import importlib.util
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from curate.cli.doctor import examine
from curate.plugin import ExecutorRef, PluginHost
from curate.plugin.registry import Registry
from tests.unit.plugin.distributions import Site


def findings(out: str) -> dict[str, Any]:
    return {finding["name"]: finding for finding in json.loads(out)["findings"]}


def test_it_says_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site, curate) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", raising=False)

    outcome = curate("doctor", "--json")
    found = findings(outcome.out)

    assert outcome.code == 0
    assert json.loads(outcome.out)["able_to_run"] is True
    for name in ("python", "curate", "cores", "memory", "GPUs", "soundfile", "soxr", "pyarrow", "jiwer", "./runs"):
        assert found[name]["status"] == "ok", found[name]
    assert found["libsndfile"]["found"][0].isdigit()
    assert "local" in found["executors"]["found"]
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in found
    assert not list(tmp_path.glob("runs"))


def test_what_is_missing_comes_with_the_remedy(monkeypatch: pytest.MonkeyPatch, site: Site, curate) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("nemo", "soxr") else there(name))

    outcome = curate("doctor")
    found = findings(curate("doctor", "--json").out)

    assert outcome.code == 0
    assert "pip install 'curate-speech[nemo]'" in outcome.out
    assert found["nemo_toolkit"]["status"] == "missing"
    assert found["soxr"]["remedy"] == "pip install --force-reinstall curate-speech"


def test_python_without_the_filters_of_tarfile_cannot_load_nemo_models(
    monkeypatch: pytest.MonkeyPatch, site: Site, curate
) -> None:
    monkeypatch.delattr(tarfile, "data_filter")

    outcome = curate("doctor", "--json")
    found = findings(outcome.out)["python"]

    assert outcome.code == 0, "everything else can run"
    assert found["status"] == "missing"
    assert found["remedy"].startswith("install Python 3.11.4 or later")


def test_a_broken_plugin_and_an_unsafe_setting_are_warnings(
    monkeypatch: pytest.MonkeyPatch, site: Site, curate
) -> None:
    site.install("curate-broken", "import a_module_nobody_has")
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")

    outcome = curate("doctor", "--json")
    found = findings(outcome.out)

    assert outcome.code == 0
    assert found["plugin curate-broken"]["status"] == "warning"
    assert "a_module_nobody_has" in found["plugin curate-broken"]["found"]
    assert "--no-plugin curate-broken" in found["plugin curate-broken"]["remedy"]
    assert found["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"]["status"] == "warning"


def test_a_folder_that_cannot_be_written_to_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")

    found = {finding.name: finding for finding in examine(PluginHost(), {}, tmp_path)}

    assert found["./runs"].status == "warning"
    assert "--run-dir" in found["./runs"].remedy


def test_without_any_executor_no_run_is_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site, curate
) -> None:
    host = PluginHost()
    host.executors = Registry(ExecutorRef, [])
    found = list(examine(host, {}, tmp_path))
    monkeypatch.setattr("curate.cli.doctor.examine", lambda *_: found)

    outcome = curate("doctor")

    assert outcome.code == 2
    assert "No pipeline can run like this." in outcome.out
    assert json.loads(curate("doctor", "--json").out)["able_to_run"] is False
