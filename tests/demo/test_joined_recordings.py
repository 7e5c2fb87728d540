"""Recordings that were split, recognised and joined again: their words stand where they were said."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate.io.failpoints import VARIABLE
from tests.unit.signal.real_speech import clips, needs_speech, white_noise

RATE_HZ = 16_000
ROOT = Path(__file__).parents[2]
NAMES = ("goforward", "sense_and_sensibility_01_austen_64kb-0880", "sense_and_sensibility_01_austen_64kb-0930")
GAP_S = 1.5
needs_pocketsphinx = pytest.mark.skipif(
    importlib.util.find_spec("pocketsphinx") is None, reason="needs pocketsphinx: make .venv/.dev"
)

SCRIPT = """
import json, os, sys
from pathlib import Path
from curate import Pipeline, RecordStage
from curate.errors import RecordError
from curate.io.failpoints import VARIABLE, arm
from curate.plugin import PluginHost
from curate.stages import AsrStage, JoinParts, Merge, ReadRecords, SplitSpeech

class FailsOnePart(RecordStage):
    def writes(self): return ()
    def process_record(self, record):
        if record.get("fails") == record["part"]:
            raise RecordError("bad_value", "as the test wants")
        return record

if os.environ.get(VARIABLE):
    arm(os.environ[VARIABLE])
records, run_dir, plugin = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2], sys.argv[3]
stages = [ReadRecords(records), SplitSpeech(merge_gap_s=0.0), FailsOnePart(),
          AsrStage("pocketsphinx", timestamps=True), JoinParts(), Merge("out.jsonl")]
host = PluginHost(environment={"CURATE_PLUGINS": ""}, plugin_files=[plugin])
Pipeline("join", stages).run(run_dir=run_dir, host=host)
"""


def made(folder: Path) -> list[dict[str, Any]]:
    """Return two recordings of three clips each; the second part of the second one fails."""
    records: list[dict[str, Any]] = []
    for number, order in enumerate(([0, 1, 2], [2, 0, 1])):
        parts, speech, at_s = [np.zeros(RATE_HZ, np.float32)], list[list[float]](), 1.0
        for place in order:
            clip = clips(RATE_HZ)[NAMES[place]][0]
            parts += [clip, np.zeros(round(GAP_S * RATE_HZ), np.float32)]
            speech.append([round(at_s, 3), round(at_s + len(clip) / RATE_HZ, 3)])
            at_s += len(clip) / RATE_HZ + GAP_S
        samples = np.concatenate(parts)
        soundfile.write(folder / f"{number}.flac", samples + 1e-4 * white_noise(len(samples)), RATE_HZ)
        record = {"audio_filepath": str(folder / f"{number}.flac"), "speech": speech, "order": order}
        records.append({**record, "fails": 1 if number else None})
    return records


@needs_speech
@needs_pocketsphinx
@pytest.mark.slow
@pytest.mark.processes
def test_words_of_a_real_recogniser_are_in_order_where_they_were_said_and_a_kill_changes_no_byte(
    tmp_path: Path,
) -> None:
    records = made(tmp_path)
    (tmp_path / "run.py").write_text(SCRIPT)
    (tmp_path / "records.json").write_text(json.dumps(records))
    plugins = [str(path) for path in (ROOT / "plugins").glob("*/")]
    plugin = str(ROOT / "plugins" / "curate-pocketsphinx" / "curate_pocketsphinx" / "plugin.py")

    def attempt(run_dir: str, **environment: str) -> int:
        command = [sys.executable, *(str(tmp_path / name) for name in ("run.py", "records.json", run_dir)), plugin]
        path = os.pathsep.join([str(ROOT), *plugins, os.environ.get("PYTHONPATH", "")])
        return subprocess.run(command, env={**os.environ, "PYTHONPATH": path, **environment}, check=False).returncode

    assert attempt("whole") == 0
    assert attempt("killed", **{VARIABLE: "commit.after_rename:kill@2"}) == -signal.SIGKILL
    assert attempt("killed") == 0
    written = (tmp_path / "whole" / "out.jsonl").read_bytes()
    assert (tmp_path / "killed" / "out.jsonl").read_bytes() == written
    whole, other = (json.loads(line) for line in written.splitlines())
    assert (whole["parts"], whole["missing_parts"], other["missing_parts"]) == (3, [], [1])
    for row in (whole, other):
        assert row["pred_text"] == " ".join(word["word"] for word in row["words"])
        starts = [word["start"] for word in row["words"]]
        assert starts == sorted(starts)
        # Every word lies in its part, whose place is known by construction; no word lies in a pause or the failed part.
        for word in row["words"]:
            inside = [
                start - 0.15 <= word["start"] <= word["end"] <= end + 0.15
                for part, (start, end) in enumerate(row["segments"])
            ]
            assert any(inside), word
    # The same clip at two places has the same words, at times that differ by the difference of the places.
    compared = 0
    for place, name in enumerate(NAMES):
        first, second = (_words_of(row, row["order"].index(place), records[n]) for n, row in enumerate((whole, other)))
        if not second:
            continue
        said = [[word["word"] for word in words] for words in (first, second)]
        for block in SequenceMatcher(None, *said, autojunk=False).get_matching_blocks():
            for offset in range(block.size):
                one, two = first[block.a + offset], second[block.b + offset]
                for edge in ("start", "end"):
                    assert one[edge] == pytest.approx(two[edge], abs=0.15), (name, one, two)
                    compared += 1
    assert compared >= 10
    known = [word["word"].lower().partition("(")[0] for word in _words_of(whole, 0, records[0])]
    assert known[:2] == ["go", "forward"]
    # README of pocketsphinx, its alignment of the clip: go 0.46 to 0.63, forward to 1.16.
    go, forward = _words_of(whole, 0, records[0])[:2]
    assert (go["start"], go["end"], forward["end"]) == (
        pytest.approx(0.46, abs=0.15),
        pytest.approx(0.63, abs=0.15),
        pytest.approx(1.16, abs=0.15),
    )


def _words_of(row: dict[str, Any], part: int, made: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the words of a part, with times from the start of its clip."""
    start_s, end_s = made["speech"][part]
    return [
        {**word, "start": word["start"] - start_s, "end": word["end"] - start_s}
        for word in row["words"]
        if start_s - 0.2 <= word["start"] < end_s
    ]
