"""A long recording, split into windows, heard by four stages and transcribed; to be run in a process of its own.

python -m tests.contract.long_recordings EXECUTOR RUN_DIR AUDIO WINDOWS [FAILPOINT]

The last line of its output is the growth of the driver's memory, in MB. Each worker writes a line to RUN_DIR.log for
every set of recordings that it had: its process and the set, the seconds decoded, and the growth of its memory in MB.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curate import AudioStage, Pipeline
from curate.audio import Audio
from curate.io import failpoints
from curate.records import Record
from curate.stages import Merge, Partition, ReadRecords
from tests.unit.stages.stub_recogniser import StubAsrStage

BATCH = 50


def peak_mb() -> float:
    """Return the peak memory of this process."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


class _Logs:
    """A stage that logs what its worker has decoded."""

    log: str = ""

    def setup(self) -> None:
        super().setup()  # type: ignore[misc]
        self._start_mb = peak_mb()

    def teardown(self) -> None:
        recordings = self.context.recordings("audio_filepath")  # type: ignore[attr-defined]
        with Path(self.log).open("a") as lines:
            decoded_s, grown_mb = recordings.decoded_s, peak_mb() - self._start_mb
            lines.write(f"{os.getpid()}-{id(recordings)} {decoded_s:.3f} {grown_mb:.1f}\n")
        super().teardown()  # type: ignore[misc]


@dataclass
class Windows(_Logs, AudioStage):
    """Splits a recording into windows, of which every other one is shorter."""

    log: str = ""
    windows: int = 1

    cardinality = "splits"

    def process_audio(self, record: Record, audio: Audio) -> Iterator[Record]:
        length_s = audio.duration_s / self.windows
        for number in range(self.windows):
            duration_s = length_s * (0.8 if number % 2 else 1.0)
            yield {**record, "offset": round(number * length_s, 3), "duration": round(duration_s, 3), "number": number}


@dataclass
class Level(_Logs, AudioStage):
    """Writes the level of a window, and logs that it has."""

    log: str = ""
    column: str = "level"
    worked: str = ""

    tuning = frozenset({"log", "worked"})

    def writes(self) -> tuple[str, ...]:
        return (self.column,)

    def process_audio(self, record: Record, audio: Audio) -> Record:
        if self.worked:
            with Path(self.worked).open("a") as lines:
                lines.write(f"{record['number']}\n")
        return {**record, self.column: round(float(np.abs(audio.samples()).mean()), 6)}


@dataclass
class Transcribes(_Logs, StubAsrStage):
    """Transcribes with a stub, in the order of the lengths."""

    log: str = ""


def pipeline(audio: str, log: str, windows: int) -> Pipeline:
    levels = [
        Level(log, f"level_{number}", log.replace(".log", ".worked") if not number else "") for number in range(4)
    ]
    stages = [ReadRecords([{"audio_filepath": audio}]), Windows(log, windows), Partition(max_records=BATCH), *levels]
    return Pipeline("long", [*stages, Transcribes(log=log), Merge("out.jsonl")])


def main(executor: str, run_dir: str, audio: str, windows: str, place: str = "") -> None:
    from curate.engine import RunOptions

    failpoints.arm(place)
    start_mb = peak_mb()
    options = RunOptions(unit_bytes=20_000)
    result = pipeline(audio, f"{run_dir}.log", int(windows)).run(executor, run_dir=run_dir, options=options)
    assert result.summary["kept"] == int(windows), result.summary["failures"]
    print(f"\n{peak_mb() - start_mb:.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
