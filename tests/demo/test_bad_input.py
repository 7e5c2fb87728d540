"""Mistakes in a pipeline file: one clear error with its place and a remedy, exit code 2, and nothing written."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from curate.cli import main
from tests.unit.plugin.distributions import Site

QUICKSTART = Path(__file__).resolve().parents[2] / "pipelines" / "quickstart"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    yield
    logger.remove()
    logger.disable("curate")


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the demo's pipeline file in an otherwise empty working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "pipeline.yaml"
    path.write_text((QUICKSTART / "pipeline.yaml").read_text("utf-8").replace("${here}", str(QUICKSTART)), "utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("use: word_error_rate", "use: word_eror_rate", r"pipeline\.yaml:\d+:\d+: .*word_eror_rate.*word_error_rate"),
        ("executor: local", "executor: locale", r"pipeline\.yaml:\d+:\d+: .*locale.*local"),
        ("max_batch_s: 30", "bach_size: 16", r"pipeline\.yaml:\d+:\d+: .*bach_size.*batch_size"),
        ("max_batch_s: 30", "batch_size: 16\n    batch_size: 8", r"pipeline\.yaml:\d+:\d+: .*batch_size"),
        ("name: wer", "name: no", r"pipeline\.yaml:\d+:\d+: .*no"),
        ("max_batch_s: 30", "timestamps: no", r"pipeline\.yaml:\d+:\d+: .*no"),
        ("data/manifest.jsonl", "data/manifesto.jsonl", r"manifesto\.jsonl does not exist.*manifest\.jsonl"),
        ("wer <= 0.3 and", "cer <= 0.3 and", r"'quality' reads column 'cer', which no earlier stage writes"),
        ("wer <= 0.3 and", "wer = 0.3 and", r"write == to compare"),
        ("max_batch_s: 30", "resources: {gpus: 64}", r"'asr'.*64"),
        ("model.nemo", "modell.nemo", r"modell\.nemo"),
        ("path: curated.jsonl", "path: curated.xlsx", r"curated\.xlsx.*\.parquet"),
        ("path: curated.jsonl", "path: ../curated.jsonl", r"leaves the run directory"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "plan"])
def test_a_mistake_is_one_error_and_nothing_is_written(
    pipeline: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, complaint: str, verb: str
) -> None:
    text = pipeline.read_text("utf-8")
    assert old in text
    pipeline.write_text(text.replace(old, new), "utf-8")
    assert main([verb, str(pipeline)]) == 2
    shown = capsys.readouterr()
    message = " ".join(shown.err.split())
    assert shown.err.startswith("error: ")
    assert shown.err.count("error: ") == 1
    assert "Traceback" not in shown.err
    assert re.search(complaint, message), message
    assert shown.out == ""
    assert list(pipeline.parent.iterdir()) == [pipeline]


def test_a_clash_of_plugins_names_both(
    pipeline: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path_factory.mktemp("site")
    site = Site(folder)
    site.install_stage("stage-thief", "merge")
    monkeypatch.syspath_prepend(str(folder))
    assert main(["run", str(pipeline)]) == 2
    message = capsys.readouterr().err
    assert "curate-speech/merge" in message
    assert "stage-thief/merge" in message
    assert list(pipeline.parent.iterdir()) == [pipeline]
    for name in [name for name in sys.modules if name.startswith("stage_thief")]:
        del sys.modules[name]
