"""Parts become their recording again: words in order, times on the recording, missing parts named, books balanced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import soundfile

from curate import Pipeline, RecordStage
from curate.errors import RecordError
from curate.io.failpoints import VARIABLE
from curate.records import Record
from curate.stages import JoinParts, QualityFilter, ReadRecords, SplitSpeech
from tests.unit.signal.real_speech import white_noise

RATE_HZ = 16_000
SEGMENTS = [[1.0, 3.0], [4.0, 6.5], [8.0, 9.0], [11.0, 14.0]]


@dataclass
class Recognise(RecordStage):
    """Writes a word for each second of a part, named for where it was said; fails on parts of some numbers."""

    fails: tuple[int, ...] = ()

    def reads(self) -> tuple[str, ...]:
        return ("offset", "duration")

    def writes(self) -> tuple[str, ...]:
        return ("text", "words")

    def process_record(self, record: Record) -> Record:
        if record["part"] in self.fails:
            raise RecordError("bad_value", "as the test wants")
        starts = [second / 2 for second in range(int(record["duration"] * 2))]
        record["words"] = [
            {"word": f"w{record['offset'] + start:g}", "start": start, "end": start + 0.4} for start in starts
        ]
        record["text"] = " ".join(word["word"] for word in record["words"])
        return record


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * white_noise(15 * RATE_HZ), RATE_HZ)
    return [
        {"audio_filepath": str(tmp_path / "a.wav"), "speech": SEGMENTS, "speaker": "x"},
        {"audio_filepath": str(tmp_path / "b.wav"), "offset": 0.5, "duration": 14.25, "speech": SEGMENTS[:3]},
    ]


def run(records: list[Record], *between: RecordStage | QualityFilter, **options: Any) -> Any:
    stages = [ReadRecords(records), SplitSpeech(), *between, JoinParts()]
    return Pipeline("join", stages).run(**options)


def test_words_are_in_order_with_times_on_the_recording(records: list[Record]) -> None:
    result = run(records, Recognise())
    whole, segment = result.records()
    assert (whole["_id"], segment["_id"]) == tuple(dict.fromkeys(row["_id"] for row in (whole, segment)))
    assert "/" not in whole["_id"].rpartition(":")[2]
    assert whole["speaker"] == "x"
    assert (whole.get("offset"), whole["duration"]) == (None, 15.0)
    assert (segment["offset"], segment["duration"]) == (0.5, 14.25)
    assert whole["segments"] == SEGMENTS
    assert segment["segments"] == SEGMENTS[:3]
    for row, base in ((whole, 0.0), (segment, 0.5)):
        assert row["text"] == " ".join(word["word"] for word in row["words"])
        starts = [word["start"] for word in row["words"]]
        assert starts == sorted(starts)
        assert all(float(word["word"][1:]) == pytest.approx(word["start"] + base, abs=1e-3) for word in row["words"])
        assert (row["missing_parts"], "part" in row, "parent_span" in row) == ([], False, False)


def test_a_part_that_failed_or_was_filtered_is_named_and_the_books_say_joined(records: list[Record]) -> None:
    result = run(records, Recognise(fails=(1,)), QualityFilter("duration < 2.9"))
    whole, segment = result.records()
    assert (whole["parts"], whole["missing_parts"]) == (4, [1, 3])
    assert (segment["parts"], segment["missing_parts"]) == (3, [1])
    summary = result.summary
    counts = {name: summary[name] for name in ("children", "quarantined", "filtered", "joined_parts", "joins", "kept")}
    assert counts == {"children": 7, "quarantined": 2, "filtered": 1, "joined_parts": 4, "joins": 2, "kept": 2}
    stage = summary["by_stage"]["join_parts"]
    assert (stage["records_in"], stage["records_out"]) == (4, 2)
    hours = summary["audio_hours"]
    into = sum(hours[name] for name in ("in", "measured", "children", "joins"))
    out = sum(hours[name] for name in ("kept", "filtered", "quarantined", "split_parents", "joined_parts"))
    assert into == pytest.approx(out, abs=2e-6)


def test_records_that_were_not_split_pass_unchanged(records: list[Record]) -> None:
    plain = [{"audio_filepath": "x.wav", "duration": 1.0, "text": "a/0"}]
    (row,) = Pipeline("join", [ReadRecords(plain), JoinParts()]).run().records()
    assert {name: row[name] for name in plain[0]} == plain[0]


SCRIPT = """
import json, os, sys
from pathlib import Path
from curate import Pipeline
from curate.io.failpoints import VARIABLE, arm
from curate.stages import JoinParts, Merge, ReadRecords, SplitSpeech
from tests.unit.stages.test_join_parts import Recognise

if os.environ.get(VARIABLE):
    arm(os.environ[VARIABLE])
records, run_dir = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2]
stages = [ReadRecords(records), SplitSpeech(), Recognise(fails=(1,)), JoinParts(), Merge("out.jsonl")]
Pipeline("join", stages).run(run_dir=run_dir)
"""


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        "commit.after_data:kill@2",
        "commit.after_rename:kill@1",
        "commit.after_rename:kill@3",
        "phase.before_complete:kill@2",
    ],
)
def test_a_run_that_was_killed_resumes_to_the_same_bytes(records: list[Record], place: str, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(SCRIPT)
    (tmp_path / "records.json").write_text(json.dumps(records))
    root = Path(__file__).parents[3]

    def attempt(run_dir: str, **environment: str) -> int:
        command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "records.json"), str(tmp_path / run_dir)]
        path = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(command, env={**os.environ, "PYTHONPATH": path, **environment}, check=False).returncode

    assert attempt("whole") == 0
    assert attempt("killed", **{VARIABLE: place}) == -signal.SIGKILL
    assert attempt("killed") == 0
    assert (tmp_path / "killed" / "out.jsonl").read_bytes() == (tmp_path / "whole" / "out.jsonl").read_bytes()
