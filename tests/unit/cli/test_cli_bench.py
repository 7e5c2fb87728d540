"""`curate bench batch-size`: a table, a recommendation out of what was measured, and the bound that memory sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.bench import Trial
from curate.cli import main
from curate.cli.bench import _change  # pyright: ignore[reportPrivateUsage]

STAGES = """
from dataclasses import dataclass
import threading
from curate import AudioBatch, ProcessingStage

@dataclass
class Crowded(ProcessingStage):
    most: int = 16
    name = "crowded"
    batch_size = 8
    def process(self, batch: AudioBatch) -> AudioBatch:
        if self.batch_size > self.most:
            raise MemoryError("no room for so many")
        threading.Event().wait(0.02 / self.batch_size)  # a call costs the same however many it is for
        return batch
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [json.dumps({"audio_filepath": f"{number}.wav", "duration": 1.5}) for number in range(10)]
    (tmp_path / "m.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "mine.py").write_text(STAGES)
    (tmp_path / "p.yaml").write_text("stages:\n  - {use: read_manifest, manifest: m.jsonl}\n  - use: crowded\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bench(*arguments: str) -> int:
    return main(["--plugins-file", "mine.py", "bench", "batch-size", "p.yaml", "--repeats", "1", *arguments])


def test_memory_that_ends_is_a_bound_and_not_the_end(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--sizes", "4,16,32,64", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    fits = {trial["setting"]["batch_size"]: trial["fits"] for trial in found["trials"]}
    assert fits == {1: True, 4: True, 16: True, 32: False, 64: False}
    assert found["bounds"] == ["16 records at a time fit into memory, 32 do not"]
    assert found["best"]["batch_size"] in (1, 4, 16)
    assert found["yaml"].strip() == f"batch_size: {found['best']['batch_size']}"
    assert all(trial["rtfx"] > 0 for trial in found["trials"] if trial["fits"])


def test_the_table_ends_with_what_to_paste(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--sizes", "16,32") == 0
    told = capsys.readouterr()
    assert "out of memory" in told.out
    assert "Memory: 16 records at a time fit into memory, 32 do not." in told.out
    assert "before" not in told.out
    assert "batch_size=16: 0." in told.err, "each setting is told as it is done"
    lines = told.out.rstrip().splitlines()
    assert lines[-2].startswith("Best: batch_size=") and "at the stage crowded" in lines[-2]
    (project / "p.yaml").write_text((project / "p.yaml").read_text() + lines[-1] + "\n")
    assert main(["--plugins-file", "mine.py", "plan", "p.yaml"]) == 0


def test_the_next_run_is_compared_with_the_one_before(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert bench("--sizes", "16") == 0
    assert "before" in capsys.readouterr().out.split("Stage crowded")[2]
    assert len((project / "runs" / "p.bench.jsonl").read_text().splitlines()) == 2


def test_it_can_be_drawn(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib (the extra `bench`)")
    assert bench("--sizes", "16", "--plot", "plots/bench.svg") == 0
    assert "Drawn in plots/bench.svg" in capsys.readouterr().out
    assert "<svg" in (project / "plots" / "bench.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sizes", "4,x"], "--sizes 4,x: write whole numbers"),
        (["--stage", "crowd"], "can be measured are crowded"),
        (["--set", "stages.crowded.most=0"], "one record at a time does not fit"),
        (["--replicas", "1,2", "--sizes", "1"], "--executor multiprocessing"),
        (["--budgets", "60", "--sizes", "1"], "cannot be measured with"),
        (["--plot", "bench.txt"], "the suffix of a plot must be one of .svg"),
        (["--limit", "0"], "both are at least 1"),
    ],
)
def test_a_mistake_is_named(project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert bench(*arguments) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("now", "before", "shown"),
    [
        ((100.0, 0.05), (100.0, 0.05), "same (± 20%)"),
        ((119.0, 0.05), (100.0, 0.05), "same (± 20%)"),
        ((81.0, 0.05), (100.0, 0.05), "same (± 20%)"),
        ((130.0, 0.05), (100.0, 0.05), "+30% ± 20%"),
        ((60.0, 0.05), (100.0, 0.05), "-40% ± 20%"),
        ((265.0, 0.9), (100.0, 0.9), "same (± 190%)"),
        ((130.0, None), (100.0, 0.05), "+30% (noise unknown)"),
    ],
)
def test_change_within_the_noise_of_both_measurements_is_no_verdict(now: Any, before: Any, shown: str) -> None:
    trials = [Trial({}, 1, records_per_s=speed, spread=spread) for speed, spread in (now, before)]
    assert _change(*trials) == shown
