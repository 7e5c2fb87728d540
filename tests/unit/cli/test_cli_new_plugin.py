"""`curate plugins new` writes a package that installs, passes its own tests, and whose stage runs from YAML."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from curate.cli import main
from curate.cli.new_plugin import write_plugin
from curate.errors import UsageError

ROOT = Path(__file__).parents[3]


def run(*words: str, cwd: Path, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    paths = [str(ROOT), *([] if site is None else [str(site)])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )


def test_it_installs_passes_its_tests_and_runs_from_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "new", "demo-plugin", "--into", str(tmp_path)]) == 0
    assert "pip install --editable" in capsys.readouterr().out
    plugin, site = tmp_path / "demo-plugin", tmp_path / "site"

    installed = run(
        *("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"),
        *("--target", str(site), str(plugin)),
        cwd=tmp_path,
    )
    assert installed.returncode == 0, installed.stderr

    tests = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=plugin, site=site)
    assert tests.returncode == 0, tests.stdout
    assert "11 passed" in tests.stdout

    stages = run("-m", "curate.cli", "stages", "demo_plugin", "--json", cwd=plugin, site=site)
    sheet = json.loads(stages.stdout)
    assert sheet["qualified_name"] == "demo-plugin/demo_plugin"
    assert [setting["name"] for setting in sheet["settings"]] == ["most_words_per_s", "text_key"]

    ran = run("-m", "curate.cli", "run", "pipeline.yaml", "--json", cwd=plugin, site=site)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["kept"] == 2
    kept = (plugin / "runs" / "demo_plugin" / "kept.jsonl").read_text().splitlines()
    assert [json.loads(line)["words_per_s"] for line in kept] == [2.0, 1.0]


def test_its_code_is_as_clean_as_ours(tmp_path: Path) -> None:
    folder = write_plugin("other_Plugin", tmp_path)
    assert folder.name == "other-plugin"
    config = str(ROOT / "pyproject.toml")
    for verb in (("check",), ("format", "--check")):
        done = run("-m", "ruff", *verb, "--config", config, str(folder), cwd=tmp_path)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["", "9lives", "a/b", "class", "ünï", "a--b!"])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a package"):
        write_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_plugin("mine", tmp_path)
    with pytest.raises(UsageError, match="exists already"):
        write_plugin("mine", tmp_path)
