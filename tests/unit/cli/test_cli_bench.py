"""`curate bench batch-size`: a table, a recommendation out of what was measured, and the bound that memory sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curate.cli import main
from curate.cli.bench import Measured, recommended
from curate.errors import UsageError

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
    walls = {row["setting"]["batch_size"]: row["wall_s"] for row in found["measured"]}
    assert list(walls) == [1, 4, 16, 32, 64]
    assert walls[32] is None and walls[64] is None
    assert found["recommended"]["batch_size"] in (1, 4, 16)
    assert all(row["rtfx"] > 0 for row in found["measured"] if row["wall_s"] is not None)


def test_the_table_ends_with_what_to_write(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--sizes", "16,32") == 0
    printed = capsys.readouterr().out
    assert "out of memory" in printed
    assert "Recommended: --set stages.crowded.batch_size=" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--sizes", "4,x"], "--sizes 4,x: write whole numbers"),
        (["--stage", "crowd"], "there are crowded"),
        (["--set", "stages.crowded.most=0"], "not even one record at a time fits"),
    ],
)
def test_a_mistake_is_named(project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert bench(*arguments) == 2
    assert says in capsys.readouterr().err


def test_the_smallest_that_is_about_as_fast_is_recommended() -> None:
    def measured(size: int, rtfx: float | None) -> Measured:
        return Measured({"batch_size": size}, None if rtfx is None else 1 / rtfx, rtfx)

    assert recommended([measured(1, 50.0), measured(8, 99.0), measured(16, 100.0)]).setting == {"batch_size": 8}
    assert recommended([measured(1, 100.0), measured(8, 80.0)]).setting == {"batch_size": 1}
    with pytest.raises(UsageError):
        recommended([measured(1, None)])
