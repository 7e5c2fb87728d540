"""`spool_dir` and `spool_gb`: where decoded recordings lie that are too long for memory, and how large they may be."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from curate import AudioStage, Pipeline
from curate.audio import Audio
from curate.audio.spool_folder import PREFIX
from curate.errors import InfrastructureError, UsageError
from curate.records import Record
from curate.stages import Merge, ReadRecords
from tests.unit.engine.hearing import Level, write_noise

LITTLE = "200kB"


class Looks(AudioStage):
    """Writes what lies in a folder while it works."""

    folder = ""

    def writes(self) -> tuple[str, ...]:
        return ("seen",)

    def process_audio(self, record: Record, audio: Audio) -> Record:
        audio.samples()
        return {**record, "seen": len(list(Path(record["folder"]).rglob("*.frames")))}


@pytest.fixture
def segments(tmp_path: Path) -> list[Record]:
    path = write_noise(tmp_path / "long.mp3", 60.0)
    return [{"audio_filepath": str(path), "offset": 2.0 * n, "duration": 1.0, "number": n} for n in range(20)]


def run(segments: list[Record], *stages: Any, **options: Any) -> Any:
    chosen = stages or (Level("a"), Merge("out.jsonl"))
    return Pipeline("spooled", [ReadRecords(segments), *chosen]).run(audio_memory=LITTLE, **options)


def decodes(result: Any) -> int:
    return sum(measures["decodes"] for measures in result.summary["audio"].values())


@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
@pytest.mark.parametrize("with_run_dir", [True, False])
def test_the_spool_lies_in_the_chosen_folder_and_is_gone_at_the_end(
    segments: list[Record], tmp_path: Path, executor: str, with_run_dir: bool
) -> None:
    shared = tmp_path / "scratch"
    shared.mkdir()
    records = [{**each, "folder": str(shared)} for each in segments]
    run_dir = tmp_path / "run" if with_run_dir else None
    result = run(records, Looks(), executor=executor, run_dir=run_dir, spool_dir=shared)
    assert {record["seen"] for record in result.records()} == {1}
    assert decodes(result) == 1
    assert list(shared.iterdir()) == []


def test_a_run_that_ends_leaves_the_spool_of_another_that_works(segments: list[Record], tmp_path: Path) -> None:
    class Runs(AudioStage):
        def process_audio(self, record: Record, audio: Audio) -> Record:
            audio.samples()
            number = record["number"]
            if number % 10 == 5:
                inner = run(
                    segments[:3], Level("a"), run_dir=tmp_path / f"inner{number}", spool_dir=tmp_path / "scratch"
                )
                assert decodes(inner) == 1
            return record

    (tmp_path / "scratch").mkdir()
    result = run(segments, Runs(), run_dir=tmp_path / "run", spool_dir=tmp_path / "scratch")
    assert result.summary["kept"] == 20, result.summary["failures"]
    assert decodes(result) == 1
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_spool_of_a_killed_run_is_removed_by_the_next_one(segments: list[Record], tmp_path: Path) -> None:
    shared = tmp_path / "scratch"
    shared.mkdir()
    script = f"""
import os, signal
from curate import AudioStage, Pipeline
from curate.stages import ReadRecords
class Dies(AudioStage):
    def process_audio(self, record, audio):
        audio.samples()
        os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    pipeline = Pipeline("dies", [ReadRecords({segments!r}), Dies()])
    pipeline.run(run_dir={str(tmp_path / "killed")!r}, audio_memory={LITTLE!r}, spool_dir={str(shared)!r})
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert [path.name[: len(PREFIX)] for path in shared.iterdir()] == [PREFIX]
    run(segments, run_dir=tmp_path / "run", spool_dir=shared)
    assert list(shared.iterdir()) == []


def test_a_spool_that_is_too_small_costs_decodes_and_no_result_and_says_so_once(
    segments: list[Record], tmp_path: Path, warnings: list[str]
) -> None:
    small = run(segments, run_dir=tmp_path / "small", spool_gb=0.0001)
    large = run(segments, run_dir=tmp_path / "large", spool_gb=1)
    assert decodes(small) > decodes(large) == 1
    outputs = [(tmp_path / name / "out.jsonl").read_bytes() for name in ("small", "large")]
    assert outputs[0] == outputs[1]
    (warning,) = [each for each in warnings if "spool" in each]
    assert "--spool-gb" in warning


def test_a_folder_that_is_missing_is_refused_before_work_starts(segments: list[Record], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"scratch is missing on .*--spool-dir"):
        run(segments, run_dir=tmp_path / "run", spool_dir=tmp_path / "scratch")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that not even root can write")
def test_a_folder_that_cannot_be_written_stops_the_run_and_blames_no_record(
    segments: list[Record], tmp_path: Path
) -> None:
    with pytest.raises(InfrastructureError, match=r"the spool /proc/.* cannot be used .*--spool-dir"):
        run(segments, run_dir=tmp_path / "run", spool_dir="/proc")
    assert not list((tmp_path / "run" / "quarantine").iterdir())


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf"), True, "1"])
def test_a_size_of_the_spool_that_is_no_positive_number_is_refused(segments: list[Record], size: Any) -> None:
    with pytest.raises(UsageError, match="spool_gb"):
        run(segments, Level("a"), spool_gb=size)
