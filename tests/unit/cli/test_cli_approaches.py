"""`curate bench approaches`: the table, the plot, the comparison with the run before, and an honest recommendation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile

from curate.cli import main
from tests.unit.signal.real_speech import white_noise

RATE_HZ = 16_000

RECOGNISERS = """
import threading
from curate.models import AudioModel
from curate.plugin import RecogniserRef, hookimpl

class Slow(AudioModel):
    '''Needs as long for a batch of several clips as for each of them alone; has memory for a few.'''
    writes = ("text",)
    wait_s, most = 0.02, 99

    def infer(self, clips):
        if len(clips) > self.most:
            raise RuntimeError("CUDA out of memory")
        threading.Event().wait(self.wait_s * self.calls(len(clips)))
        return [{"text": "word"} for _ in clips]

    def calls(self, count):
        return count

class Batching(Slow):
    '''Needs as long for a batch as for one clip.'''
    wait_s = 0.05
    def calls(self, count):
        return 1

class Small(Slow):
    most = 1

@hookimpl
def curate_recognisers():
    names = ("Slow", "Batching", "Small")
    return [RecogniserRef(name=n.lower(), target=f"{__name__}:{n}", summary="For a test", extra=None) for n in names]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number in range(8):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * white_noise(RATE_HZ), RATE_HZ)
    rows = [{"audio_filepath": f"{number}.wav", "duration": 1.0, "text": "word"} for number in range(8)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine.py").write_text(RECOGNISERS)
    (tmp_path / "p.yaml").write_text(
        "stages:\n  - {use: read_manifest, manifest: m.jsonl}\n  - {use: asr, recogniser: slow}\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bench(*arguments: str) -> int:
    command = ["--plugins-file", "mine.py", "bench", "approaches", "p.yaml", "--repeats", "2"]
    return main([*command, *arguments])


def test_batches_that_gain_nothing_are_not_recommended(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert bench("--approaches", "sequential,batched", "--batch-size", "8") == 0
    shown = capsys.readouterr().out
    first, second = shown.split("Stage asr: 8 records with 8.0 s of audio")[1:]
    rows = [line.split() for line in first.splitlines() if line.startswith(("sequential", "batched"))]
    assert [row[:2] for row in rows] == [["sequential", "8"], ["batched", "8"]]
    assert "Recommended: sequential. No other approach is clearly faster here without more errors." in first
    assert first.rstrip().endswith("batching: static\n    batch_size: 1")
    assert "Compared with" in second and "Compared with" not in first
    assert len((project / "runs" / "p.bench.jsonl").read_text().splitlines()) == 2


def test_batches_that_gain_are_recommended_and_what_is_printed_can_be_pasted(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("--recogniser", "batching", "--approaches", "batched") == 0
    shown = capsys.readouterr().out
    assert "Recommended: batched." in shown
    lines = shown[shown.index("at the stage asr:") :].splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["batching", "batch_size", "max_batch_s"]
    stages = ["  - {use: read_manifest, manifest: m.jsonl}", "  - use: asr", "    recogniser: batching"]
    (project / "p.yaml").write_text("\n".join(["stages:", *stages, *lines]) + "\n")
    assert main(["--plugins-file", "mine.py", "plan", "p.yaml"]) == 0


def test_packed_windows_of_several_files_are_measured_and_explained(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench("--approaches", "packed", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["windows"] for one in found["trials"]] == [8, 1]
    assert found["trials"][1]["across_recordings"] and found["best"] == "sequential"
    rows = [{"audio_filepath": f"{number}.wav", "duration": 1.0} for number in range(8)]
    (project / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))  # without texts: no error rate
    assert bench("--approaches", "packed") == 0
    shown = capsys.readouterr().out
    assert "Recommended: sequential." in shown
    assert "join clips of several recordings, which no stage does" in " ".join(shown.split())


def test_memory_that_ends_is_a_bound_and_no_crash(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--recogniser", "small", "--approaches", "batched") == 0
    assert "out of memory" in capsys.readouterr().err
