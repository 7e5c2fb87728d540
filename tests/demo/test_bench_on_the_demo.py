"""`curate bench batch-size` on the quickstart: a table of real figures, and a recommendation that can be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curate.cli import main

pytestmark = pytest.mark.nemo

PIPELINE = str(Path(__file__).parents[2] / "pipelines" / "quickstart" / "pipeline.yaml")
FEW = ["--sizes", "4,8", "--budgets", "40", "--limit", "16", "--repeats", "1"]


def test_it_prints_a_table_and_a_recommendation_that_the_pipeline_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "batch-size", PIPELINE, *FEW]) == 0
    told = capsys.readouterr().out
    for heading in ("setting", "total", "transcription", "times real time", "padding"):
        assert heading in told
    for setting in ("batch_size=1 ", "batch_size=4 ", "batch_size=8 ", "max_batch_s=40 "):
        assert setting in told
    advice = [line.strip() for line in told.split("at the stage asr")[1].splitlines()[1:]]
    settings = [line.split(": ") for line in advice if line != "(as it is)"]  # the pipeline's own setting may win
    assert advice
    changes = [f"--set=stages.asr.{name}={value}" for name, value in settings]
    assert main(["plan", PIPELINE, *changes]) == 0

    [line] = (tmp_path / "runs" / "quickstart.bench.jsonl").read_text().splitlines()
    trials = json.loads(line)["trials"]
    one, four, eight, budget, _ = trials  # the last one is the setting of the pipeline
    assert all(trial["rtfx"] > 1 and trial["total_s"] > 0 for trial in trials)
    assert len({(trial["records"], trial["audio_s"]) for trial in trials}) == 1, "every setting on one basis"
    assert one["waste"] == pytest.approx(0, abs=1e-6)
    assert budget["waste"] < four["waste"] < eight["waste"]
