"""`curate refilter`: the short form of a fork with another filter expression."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from curate.cli import main

PIPELINE = """
name: p
stages:
  - use: read_manifest
    manifest: in.jsonl
  - use: text_rates
    checkpoint: true
  - use: quality_filter
    name: short
    expression: duration <= 3
{more}
  - use: merge
    path: out.jsonl
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lines = (json.dumps({"audio_filepath": f"{n}.wav", "duration": float(n), "text": "a b"}) for n in range(1, 11))
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "p.yaml").write_text(PIPELINE.format(more=""))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kept(run_dir: Path) -> list[float]:
    return [json.loads(line)["duration"] for line in (run_dir / "out.jsonl").read_text().splitlines()]


def test_refilter_keeps_what_the_expression_says_and_takes_over_the_phases_before(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["run", "p.yaml", "--run-dir", "runs/a"]) == 0
    (shown,) = [line for line in capsys.readouterr().out.splitlines() if "curate refilter" in line]
    assert shlex.split(shown)[-3:] == ["refilter", "runs/a", "duration <= 3"]  # at the end of every run with a filter
    assert shown.startswith("Other thresholds, without repeating phase 0: ")
    assert "(takes over phase 0)" in (folder / "runs" / "a" / "report.html").read_text()
    expression = "duration > 4 and 'a' in text"
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert main(["refilter", "../runs/a", expression]) == 0
    assert kept(folder / "runs" / "a") == [1, 2, 3]
    assert kept(folder / "runs" / "a-2") == [5, 6, 7, 8, 9, 10]
    described = json.loads((folder / "runs" / "a-2" / "run.json").read_bytes())
    assert described["forked_from"]["phases"] == 1
    assert described["settings"]["short"]["expression"] == expression
    assert main(["refilter", str(folder / "runs" / "a-2"), "duration == 5", "--fork", str(folder / "b")]) == 0
    assert kept(folder / "b") == [5]
    monkeypatch.chdir(folder)
    capsys.readouterr()
    assert main(["refilter", "runs/a", "wer <== 5"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[1:3] == ["    wer <== 5", "        ^"]
    assert main(["refilter", "runs/a", "duration <= 2", "--stage", "shrot"]) == 2
    assert "did you mean 'short'?" in capsys.readouterr().err


def test_several_filters_have_to_be_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "p.yaml").write_text(PIPELINE.format(more="  - use: quality_filter\n    expression: duration > 1"))
    assert main(["run", "p.yaml", "--run-dir", "runs/a"]) == 0
    assert main(["refilter", "runs/a", "duration <= 4"]) == 2
    assert "name one with --stage short, --stage quality_filter" in capsys.readouterr().err
    assert main(["refilter", "runs/a", "duration <= 4", "--stage", "short"]) == 0
    assert kept(folder / "runs" / "a-2") == [2, 3, 4]


def test_advice_without_checkpoint_says_that_all_stages_run_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "p.yaml").write_text(PIPELINE.format(more="").replace("    checkpoint: true\n", ""))
    assert main(["run", "p.yaml", "--run-dir", "runs/a"]) == 0
    (shown,) = [line for line in capsys.readouterr().out.splitlines() if "curate refilter" in line]
    assert "all stages run again; `checkpoint: true`" in shown
    assert "(all stages run again)" in (folder / "runs" / "a" / "report.html").read_text()


def test_refusal_of_a_changed_filter_names_refilter(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "p.yaml", "--run-dir", "runs/a"]) == 0
    changed = ["run", "p.yaml", "--run-dir", "runs/a", "--set", "stages.short.expression=duration <= 4"]
    assert main(changed) == 2
    assert "curate refilter runs/a 'EXPRESSION'" in " ".join(capsys.readouterr().err.split())
