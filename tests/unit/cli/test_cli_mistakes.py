"""Mistakes that newcomers make, each with a message that says what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.cli import main

MISTAKES = [
    ("expression: lang == en", "if en is a string, quote it: 'en'"),
    ("expression: text > 5", "    text > 5\n    ^"),
    ("expression: wer <== 5", "    wer <== 5\n          ^"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "in.jsonl").write_text('{"audio_filepath": "a.wav", "duration": 1.0, "lang": "en", "text": "a"}\n')
    (tmp_path / "cv.jsonl").write_text('{"audio_filepath": "a.wav", "sentence": "a", "pred_text": "a"}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(manifest: str, stage: str) -> None:
    Path("p.yaml").write_text(f"stages:\n  - use: read_manifest\n    manifest: {manifest}\n  - {stage}\n")


@pytest.mark.parametrize(("setting", "answer"), MISTAKES)
def test_mistake_in_an_expression_is_shown_at_its_place(
    setting: str, answer: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("in.jsonl", f"use: quality_filter\n    {setting}")
    assert main(["plan", "p.yaml"]) == 2
    assert answer in capsys.readouterr().err


def test_names_and_files_are_answered_with_what_was_meant(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*words: str) -> str:
        assert main(list(words)) == 2
        return capsys.readouterr().err

    (folder / "mine.py").write_text("x = 1\n")
    assert "curate init in.jsonl" in error("run", "in.jsonl")
    assert "python mine.py" in error("run", "mine.py")
    write("in.jsonl", "use: wer")
    assert "did you mean 'word_error_rate'?" in error("plan", "p.yaml")
    write("cv.jsonl", "use: word_error_rate")
    assert "write text_key: sentence" in error("plan", "p.yaml")
    write("in.jsonl", "use: quality_filter\n    expression: duration < 3")
    assert "did you mean stages.quality_filter.expression?" in error(
        "plan", "p.yaml", "--set", "quality_filter.expression=duration < 2"
    )
    assert main(["plan", "p.yaml", "--plugins-file", "mine.py"]) == 0
    assert main(["run", "--help"]) == 0
    assert "local, multiprocessing" in " ".join(capsys.readouterr().out.split())
