"""`curate run`: the summary as JSON, the tables at the end, silence, and where a mistake stands in the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

STAGES = """
from dataclasses import dataclass
from curate import AudioBatch, CompositeStage, ProcessingStage, RecordError, processing_stage

@processing_stage(name="measure", writes=["wer"])
def measure(record: dict) -> dict:
    if record["n"] == 3:
        raise RecordError("truncated", "half a file")
    return {**record, "wer": record["n"] / 10}

@dataclass
class Twice(CompositeStage):
    name = "twice"
    def decompose(self):
        return [measure, measure]
"""

PIPELINE = """\
stages:
  - {use: read_manifest, manifest: m.jsonl}
  - use: measure
  - use: quality_filter
    name: quality
    expression: wer < 0.8 and wer > 0.1
  - {use: merge, path: out.jsonl}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [json.dumps({"audio_filepath": f"{n}.wav", "duration": 36.0, "n": n}) for n in range(10)]
    (tmp_path / "m.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "mine.py").write_text(STAGES)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_json_is_what_summary_json_holds_and_nothing_else(project: Path, curate) -> None:
    outcome = curate("--plugins-file", "mine.py", "run", "p.yaml", "--json")

    assert outcome.code == 0
    assert json.loads(outcome.out) == json.loads((project / "runs/p/summary.json").read_text())
    assert {"status", "records_in", "kept", "filtered", "quarantined", "audio_s", "wall_s", "rtfx", "by_stage"} <= set(
        json.loads(outcome.out)
    )


def test_the_tables_say_by_stage_and_reason_what_became_of_the_records(project: Path, curate) -> None:
    out = curate("--plugins-file", "mine.py", "run", "p.yaml").out
    words = [line.split() for line in out.splitlines()]

    assert words[0] == ["stage", "in", "out", "filtered", "quarantined", "busy"]
    assert ["measure", "10", "9", "1"] in [line[:4] for line in words]
    assert ["measure", "truncated", "1", "0.0100"] in words
    assert ["quality", "wer", "<", "0.8", "2", "0.0200"] in words
    assert ["wer", ">", "0.1", "2", "0.0200"] in words
    assert ["records", "10", "5", "4", "1"] in words
    assert "Quarantined: see runs/p/quarantine" in out
    assert "Wrote runs/p/out.jsonl" in out


def test_the_tables_fit_a_narrow_terminal(project: Path, monkeypatch: pytest.MonkeyPatch, curate) -> None:
    long = " and ".join(f"wer > 0.{number} + 0.0000000000000000000000000000000000000000001 * n" for number in range(3))
    (project / "p.yaml").write_text(
        PIPELINE.replace("wer < 0.8 and wer > 0.1", long).replace("name: quality", f"name: {'quality-' * 6}x")
    )
    monkeypatch.setenv("COLUMNS", "80")

    out = curate("--plugins-file", "mine.py", "run", "p.yaml").out

    tables = out.partition("curate refilter ")[0].splitlines()[:-1]  # a command to paste is not wrapped
    assert max(map(len, tables)) <= 80
    assert "…" not in out
    assert "quarantined" in out.splitlines()[0]


def test_lines_tell_where_the_run_is_unless_it_is_to_be_quiet(project: Path, curate) -> None:
    err = curate("--plugins-file", "mine.py", "run", "p.yaml", "--run-dir", "a").err

    assert "phase 0 begins: read_manifest, measure, quality, merge\n" in err
    assert "phase 0 has ended: 10 records, 0.10 h of audio" in err
    assert curate("--quiet", "--plugins-file", "mine.py", "run", "p.yaml", "--run-dir", "b").err == ""


@pytest.mark.parametrize("verb", [["run"], ["plan"], ["bench", "batch-size"]])
@pytest.mark.parametrize(
    ("change", "sets", "says"),
    [
        (("use: measure", "use: measure"), "stages.measure.resources.gpus=999", "p.yaml:3:5: stage 'measure' asks for"),
        (("wer < 0.8", "cer < 0.8"), "name=p", "p.yaml:4:5: stage 'quality' reads column 'cer'"),
        (("m.jsonl", "none.jsonl"), "name=p", "p.yaml:2:5: stage 'read_manifest': the manifest"),
        (("use: measure", "use: quality_filter\n    expression: wer < 1\n    name: quality"), "name=p", "p.yaml:3:5: "),
        (("  - {use: read_manifest, manifest: m.jsonl}\n", ""), "name=p", "p.yaml: pipeline 'p' begins with"),
    ],
)
def test_what_planning_finds_stands_at_its_stage(
    project: Path, curate, verb: list[str], change: tuple[str, str], sets: str, says: str
) -> None:
    (project / "p.yaml").write_text(PIPELINE.replace(*change))

    outcome = curate("--plugins-file", "mine.py", *verb, "p.yaml", "--set", sets)

    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {says}")
    assert not (project / "runs").exists()
