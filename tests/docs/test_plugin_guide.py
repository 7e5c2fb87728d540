"""The plugin guide: its examples form one plugins-file, which works on several executors and keeps the contracts."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from curate.cli import main
from curate.config import load_pipeline
from curate.engine import RunReader
from curate.plugin import PluginHost
from curate.plugin.hooks import ANNOUNCING
from curate.report import write_report
from curate.testing import ExecutorContract, write_tone

GUIDE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")

BLOCKS = [
    block for block in re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL) if "my_package/plugin" not in block
]

STAGES = [
    {"use": "read_bars", "manifest": "corpus.bars", "roots": [".", "tone://box"]},
    {"use": "audio_duration"},
    {"use": "no_shouting"},
    {"use": "speaking_rate", "most_words_per_s": 4.0},
    {"use": "asr", "recogniser": "silence"},
    {"use": "character_error_rate", "normaliser": "letters"},
    {"use": "shortest_first"},
    {"use": "write_texts"},
    {"use": "merge", "path": "out.psv"},
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guide") / "guide.py"
    path.write_text("\n\n".join(BLOCKS))
    return path


@pytest.fixture
def host(file: Path) -> PluginHost:
    return PluginHost(environment={"CURATE_PLUGINS": ""}, plugin_files=[file])


@pytest.fixture
def guide(host: PluginHost) -> ModuleType:
    return sys.modules[host.rows()[-1].module]


@pytest.mark.parametrize("executor", ["local", "multiprocessing", "two_processes"])
def test_the_examples_work_together(
    host: PluginHost, executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    for place, text in enumerate(("it takes its time", "LOUD", "so many words in so short a time", "one"), start=1):
        write_tone(tmp_path / f"{place}.wav", seconds=2.0 / place)
        lines.append(f"{text}|{place}.wav" if place > 1 else f"{text}|tone://box/2000")
    (tmp_path / "corpus.bars").write_text("\n".join([*lines, "no bar"]) + "\n")
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    configured = load_pipeline(Path("p.yaml"), host=host, executor=executor)
    result = configured.pipeline.run(configured.executor, run_dir="run", host=host, max_failures=5)
    assert capsys.readouterr().out == "2 records kept\n"
    assert result.summary["failures"] == {"bad_row": 1, "my-package/shouting": 1}
    assert [note["reason"] for note in RunReader("run").filtered()] == ["12.0 words/s > 4.0"]
    assert Path("run/texts.txt").read_text().splitlines() == ["one", "it takes its time"]
    heading, *rows = Path("run/out.psv").read_text().splitlines()
    assert heading.split("|")[:2] == ["text", "audio_filepath"] and len(rows) == 2
    page = write_report("run", host=host).read_text()
    assert '<div class="card" id="longest-texts">' in page
    assert "the text is in capitals, so its case says nothing" in page


def test_the_verb_works(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.jsonl").write_text(json.dumps({"text": "one", "duration": 1.0}) + "\n")
    stages = [{"use": "read_manifest", "manifest": "m.jsonl"}, {"use": "merge", "path": "out.jsonl"}]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"stages": stages}))
    monkeypatch.setenv("CURATE_PLUGINS", "")
    assert main(["--plugins-file", str(file), "run", "p.yaml", "--run-dir", "run"]) == 0
    capsys.readouterr()
    assert main(["--plugins-file", str(file), "count-kept", "run"]) == 0
    assert capsys.readouterr().out == "1\n"


def test_every_kind_of_announcement_has_an_example(host: PluginHost) -> None:
    provided = host.rows()[-1].provides()
    assert not [kind for kind, names in provided.items() if not names]
    assert len(provided) == len(ANNOUNCING) + 1


def contract_tests(guide: ModuleType) -> list[tuple[Any, str]]:
    classes = [value for name, value in vars(guide).items() if name.startswith("Test")]
    return [(cls(), name) for cls in classes for name in dir(cls) if name.startswith("test_")]


def test_the_contracts_of_the_examples_hold(guide: ModuleType, tmp_path: Path) -> None:
    tests = contract_tests(guide)
    assert len(tests) > 20
    for place, (contract, name) in enumerate(tests):
        test = getattr(contract, name)
        folder = tmp_path / str(place)
        folder.mkdir()
        test(folder) if test.__code__.co_argcount == 2 else test()


def test_a_crash_costs_one_record_on_the_executor_of_the_guide(guide: ModuleType, tmp_path: Path) -> None:
    class Contract(ExecutorContract):
        survives_crashes = True

        def executor(self) -> Any:
            return guide.TwoProcesses()

    Contract().test_a_crash_costs_one_record(tmp_path / "crash")
    Contract().test_a_bad_record_costs_one_record(tmp_path / "bad")
