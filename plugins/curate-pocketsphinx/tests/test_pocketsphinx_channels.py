"""Two speakers on two channels are recognised apart, and channels in antiphase are recognised as one of them."""

from __future__ import annotations

import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from curate import Pipeline
from curate.records import Record
from curate.stages import AsrStage, ReadRecords, SplitChannels

try:
    metadata.distribution("curate-pocketsphinx")
except metadata.PackageNotFoundError:
    pytest.skip("the distribution curate-pocketsphinx is not installed", allow_module_level=True)

SCRIPT = Path(__file__).resolve().parents[4] / "shared" / "cases" / "audio.sh"

pytestmark = pytest.mark.skipif(
    not SCRIPT.is_file() or not all(map(shutil.which, ("ffmpeg", "sox", "espeak-ng"))),
    reason="the shared cases, or the programs that make them, are not here",
)


def test_channels_give_their_own_words_and_antiphase_those_of_one(tmp_path: Path) -> None:
    subprocess.run(["bash", str(SCRIPT)], cwd=tmp_path, check=True, capture_output=True, timeout=120)

    def path(name: str) -> str:
        return str(tmp_path / f"{name}.wav")

    named: list[Record] = [
        {"audio_filepath": path("l"), "case": "left alone"},
        {"audio_filepath": path("r"), "case": "right alone"},
        {"audio_filepath": path("two_speakers"), "channel": 0, "case": "channel 0"},
        {"audio_filepath": path("two_speakers"), "channel": 1, "case": "channel 1"},
        {"audio_filepath": path("antiphase"), "case": "antiphase"},
    ]
    whole: list[Record] = [{"audio_filepath": path("two_speakers"), "case": "split"}]
    recognise = AsrStage("pocketsphinx")
    texts = {
        record["case"]: record["pred_text"]
        for record in Pipeline("named", [ReadRecords(named), recognise]).run().records()
    }
    split = Pipeline("split", [ReadRecords(whole), SplitChannels(), recognise]).run()
    assert split.summary["split_parents"] == 1 and split.summary["kept"] == 2  # a run balances its books, or fails
    children = [record["pred_text"] for record in split.records()]
    left, right = texts["left alone"], texts["right alone"]
    assert left.endswith("two three four") and not set(left.split()) & set(right.split())
    assert (texts["channel 0"], texts["channel 1"]) == (left, right)
    assert texts["antiphase"] == left
    assert children == [left, right]
