"""`curate plan --estimate` against the run that it is about, with stages whose work is known."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from curate.cli import main
from tests.unit.estimate.synthetic import STAGES

PIPELINE = """
stages:
  - {use: read_manifest, manifest: m.jsonl}
  - {use: cut, ms_per_s: 0.5}
  - {use: half}
  - {use: recognise, ms_per_s: 3, checkpoint: true}
  - {use: shuffle}
  - {use: merge, path: kept.jsonl}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    drawn = random.Random(0)
    rows = [{"audio_filepath": f"{number}.wav", "duration": drawn.randint(20, 120) / 10} for number in range(90)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.py").write_text(STAGES)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cpu_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs measure CPU time, so that what else the machine does changes no figure."""
    monkeypatch.setattr(time, "perf_counter", time.thread_time)
    monkeypatch.setattr(time, "monotonic", time.thread_time)


def call(*arguments: str) -> int:
    return main(["--plugins-file", "mine.py", *arguments])


def estimated(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert call("plan", "p.yaml", "--estimate", "--json", *options) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("cpu_clock")
def test_estimate_is_within_30_percent_of_the_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = estimated(capsys, "--sample-s", "0.6")
    assert sorted(path.name for path in project.iterdir()) == ["m.jsonl", "mine.py", "p.yaml"], "nothing is left"
    assert 1 < found["sampled"] < 90

    assert call("run", "p.yaml", "--run-dir", "runs/whole", "--no-report") == 0
    summary = json.loads((project / "runs/whole/summary.json").read_text())
    capsys.readouterr()
    assert found["wall_s"] == pytest.approx(summary["wall_s"], rel=0.3)
    rows = {row["name"]: row for row in found["stages"]}
    for name in ("cut", "recognise"):
        assert rows[name]["work_s"] == pytest.approx(summary["by_stage"][name]["busy_s"], rel=0.3)
        assert rows[name]["records"] == pytest.approx(summary["by_stage"][name]["records_in"], rel=0.3)
    assert found["bottleneck"]["stage"] == "recognise"
    assert found["audio_hours"] == pytest.approx(summary["audio_hours"]["in"], rel=1e-4)

    again = estimated(capsys, "--from", "runs/whole")
    assert (again["sampled"], again["figures_of"]) == (90, "runs/whole")
    assert again["wall_s"] == pytest.approx(summary["wall_s"], rel=0.3)
    longer = estimated(capsys, "--from", "runs/whole", "--hours", "10")
    assert longer["stages"][2]["work_s"] == pytest.approx(again["stages"][2]["work_s"] * 10 / again["audio_hours"])

    assert call("plan", "p.yaml", "--estimate", "--run-dir", "runs/whole") == 0
    shown = capsys.readouterr().out
    assert "90 records of the run in runs/whole" in shown, "a run of the same stages is taken without being asked for"
    assert "Bottleneck: recognise" in shown and "with 2 workers for it, which needs 2 cores" in shown

    assert call("plan", "p.yaml", "--estimate", "--from", "runs/whole", "--set", "stages.cut.ms_per_s=1") == 2
    assert "stage 'cut' has another 'ms_per_s' there" in capsys.readouterr().err


def test_writer_outside_of_the_run_directory_publishes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = project / "published.jsonl"
    found = estimated(capsys, "--sample-s", "0.01", "--set", f"stages.merge.path={outside}")
    assert not outside.exists()
    assert found["notes"][0].startswith("merge: the final copy is not included")


def test_sample_that_fails_ends_as_the_run_would_and_leaves_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "p.yaml").write_text(PIPELINE.replace("{use: half}", "{use: broken}"))
    before = sorted(project.iterdir())
    assert call("plan", "p.yaml", "--estimate") == 4
    assert "the model is missing" in capsys.readouterr().err
    assert sorted(project.iterdir()) == before


@pytest.mark.processes
def test_sample_is_processed_by_the_workers_that_fit_here(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workers = ("--executor", "multiprocessing", "--set", "stages.recognise.workers=64")
    found = estimated(capsys, "--sample-s", "0.01", *workers)
    assert {row["name"]: row["workers"] for row in found["stages"]}["recognise"] == 64


def test_given_speeds_and_hours_need_no_sample(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--sample-s", "0", "--hours", "1000000", "--price", "gpu=2/h", "--price", "cpu=0.05/h")
    resources = "stages.recognise.resources={gpus: 1.0, cpus: 4}"
    workers = ("--executor", "multiprocessing", "--set", resources, "--set", "stages.recognise.workers=8")
    found = estimated(capsys, *options, *workers, "--speed", "recognise=2000x")
    row = next(row for row in found["stages"] if row["name"] == "recognise")
    assert row["work_s"] == pytest.approx(1e6 * 3600 / 2000)
    assert row["price"] == pytest.approx(found["wall_s"] / 3600 * 8 * (2 + 4 * 0.05))
    assert found["sampled"] == 0
    assert found["notes"][0] == "not measured, and not included: cut, half"


def test_bench_history_gives_the_speed_of_a_stage(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("--sizes", "2", "--repeats", "1", "--limit", "4")
    assert call("bench", "batch-size", "p.yaml", "--stage", "recognise", *few) == 0
    capsys.readouterr()
    speeds = ("--sample-s", "0", "--history", "runs/p.bench.jsonl")
    found = estimated(capsys, *speeds)
    row = next(row for row in found["stages"] if row["name"] == "recognise")
    per_second = row["work_s"] / (found["audio_hours"] * 3600)
    assert 0.0003 < per_second < 0.03, "3 ms, on a machine that may be busy"
    assert call("plan", "p.yaml", "--estimate", *speeds, "--set", "stages.recognise.batch_size=3") == 2
    assert "no stage was measured with the settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--price", "gpu=2/h"], "--price is an option of the estimate: add --estimate"),
        (["--estimate", "--price", "gpu=much"], "write NAME=AMOUNT/h"),
        (["--estimate", "--sample-s", "0", "--speed", "asr=2"], "no stage in workers has this name"),
        (["--estimate", "--sample-s", "0", "--speed", "cut=fast"], "write STAGE=X"),
        (["--estimate", "--from", "runs/none"], "runs/none"),
        (["--estimate", "--from", "runs/none", "--sample-s", "5"], "leave one of them out"),
        (["--estimate", "--history", "none.jsonl"], "none.jsonl does not exist"),
    ],
)
def test_mistake_is_named_with_its_remedy(
    project: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert call("plan", "p.yaml", *options) == 2
    assert message in capsys.readouterr().err
