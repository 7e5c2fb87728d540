"""Utterances become windows for training: text, times and previous text, never two recordings, never unknown speech."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline
from curate.errors import PlanError
from curate.records import Record
from curate.stage import Joined, Stage
from curate.stages import Merge, PackUtterances, QualityFilter, ReadManifest
from curate.testing import StageContract


def utterance(number: int, offset: float, duration: float, **columns: Any) -> Record:
    return {
        "_id": f"0:{number}",
        "audio_filepath": "talk.flac",
        "offset": offset,
        "duration": duration,
        "text": f"text {number}.",
        **columns,
    }


def pack(records: list[Record], **settings: Any) -> list[Record]:
    packed = PackUtterances(**settings).gather(iter(records))
    return [one.record if isinstance(one, Joined) else one for one in packed]


def texts(records: list[Record]) -> list[tuple[str, str | None]]:
    return [(record["text"], record["previous_text"]) for record in records]


class TestPackUtterances(StageContract):
    def stage(self) -> Stage:
        return PackUtterances()

    def records(self, folder: Path) -> list[Record]:
        return [
            {"audio_filepath": "a.wav", "offset": 0.0, "duration": 9.0, "text": "One."},
            {"audio_filepath": "b.wav", "offset": 9.5, "duration": 9.0, "text": "Two."},
            {"audio_filepath": "c.wav", "duration": 3.0, "text": ""},
            {"audio_filepath": "d.wav", "text": "No length."},
        ]


def test_windows_are_as_full_as_possible_and_know_what_was_before() -> None:
    words = [{"word": "text", "start": 0.5, "end": 1.0}, {"word": "?", "start": 1.0, "end": 1.2}]
    records = [utterance(number, 10.0 * number, 9.0, words=words, wer=number / 10, source="s") for number in range(7)]
    windows = pack(records, max_s=30.0)
    assert texts(windows) == [
        ("text 0. text 1. text 2.", None),
        ("text 3. text 4. text 5.", "text 0. text 1. text 2."),
        ("text 6.", "text 3. text 4. text 5."),
    ]
    second = windows[1]
    assert (second["_id"], second["offset"], second["duration"]) == ("0:3", 30.0, 29.0)
    assert second["segments"] == [
        {"start": 0.0, "end": 9.0, "text": "text 3."},
        {"start": 10.0, "end": 19.0, "text": "text 4."},
        {"start": 20.0, "end": 29.0, "text": "text 5."},
    ]
    assert [(word["start"], word["end"]) for word in second["words"][2:4]] == [(10.5, 11.0), (11.0, 11.2)]
    assert second["source"] == "s" and "wer" not in second
    assert all(0 <= one["start"] < one["end"] <= window["duration"] for window in windows for one in window["segments"])


@pytest.mark.parametrize(
    ("change", "previous"),
    [
        ({"audio_filepath": "other.flac"}, None),
        ({"speaker": "b"}, None),
        ({"lang": "de"}, None),
        ({"offset": 20.0}, "text 0."),  # a pause that may hold speech
        ({"offset": 4.0}, None),  # it overlaps
        ({"duration": 26.0}, "text 0."),
        ({"offset": None}, None),
        ({"text": ""}, "text 0."),
    ],
)
def test_a_window_ends_where_the_next_utterance_does_not_belong(change: dict[str, Any], previous: str | None) -> None:
    first = utterance(0, 0.0, 5.0, speaker="a", lang="en")
    second = utterance(1, 5.5, 5.0, speaker="a", lang="en")
    assert len(pack([first, second])) == 1
    windows = pack([first, {**second, **change}])
    assert [window["_id"] for window in windows] == ["0:0", "0:1"]
    assert windows[1]["previous_text"] == previous


def test_speakers_share_a_window_where_that_is_asked_for() -> None:
    records = [utterance(number, 6.0 * number, 5.0, speaker="ab"[number % 2]) for number in range(4)]
    assert len(pack(records)) == 4
    [window] = pack(records, within=[])
    assert [one["speaker"] for one in window["segments"]] == ["a", "b", "a", "b"]
    assert "speaker" not in window
    [one, two] = pack([*records[:2], utterance(2, 12.0, 5.0, audio_filepath="other.flac")], within=[])
    assert (one["audio_filepath"], two["audio_filepath"]) == ("talk.flac", "other.flac")


def test_a_missing_part_ends_the_window_and_the_text_before_it_is_unknown() -> None:
    parts = [
        {**utterance(0, 3.0 * part, 2.9), "_id": f"0:0/{part}", "part": part, "parts": 4, "text": f"{part}."}
        for part in range(4)
    ]
    assert texts(pack(parts)) == [("0. 1. 2. 3.", None)]
    windows = pack([*parts[:1], *parts[2:]])
    assert texts(windows) == [("0.", None), ("2. 3.", None)]
    assert not any({"part", "parts", "parent_span"} & set(window) for window in windows)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(PlanError, match="max_s"):
        PackUtterances(max_s=0.1).check()
    with pytest.raises(PlanError, match="max_pause_s"):
        PackUtterances(max_pause_s=-1).check()


@pytest.mark.processes
def test_windows_are_the_same_on_every_executor_and_the_books_balance(tmp_path: Path) -> None:
    rows = [{**utterance(number, 10.0 * number, 9.5), "wer": float(number == 4)} for number in range(40)]
    for row in rows:
        del row["_id"]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    published: list[bytes] = []
    for executor in ("local", "multiprocessing"):
        stages = [
            ReadManifest(manifest),
            QualityFilter("wer < 0.5"),
            PackUtterances(),
            Merge("out.jsonl"),
        ]
        run_dir = tmp_path / executor
        summary = Pipeline("pack", stages).run(executor, run_dir=run_dir).summary
        assert (summary["kept"], summary["joined_parts"], summary["joins"]) == (14, 38, 13)
        published.append((run_dir / "out.jsonl").read_bytes())
    assert published[0] == published[1]
    windows = [json.loads(line) for line in published[0].decode().splitlines()]
    assert [window["previous_text"] is None for window in windows[:4]] == [True, False, False, False]
