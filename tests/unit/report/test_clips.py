"""Clips are made in a process of their own, within a budget, and never from outside of the roots."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import pytest
import soundfile

from curate.audio import load
from curate.errors import RecordError
from curate.report import clip_worker
from curate.report.clips import ClipMaker
from curate.testing.audio import write_broken, write_tone


def test_a_clip_is_an_mp3_of_the_recording(tmp_path: Path) -> None:
    tone = write_tone(tmp_path / "a.wav", 2.0)
    with ClipMaker([str(tmp_path)]) as clips:
        clip = clips.clip(str(tone), None, None)
    assert clip.mp3 is not None
    assert soundfile.info(io.BytesIO(base64.b64decode(clip.mp3))).format == "MP3"
    assert (clip.clip_s, clip.whole_s, clip.cut) == (2.0, 2.0, False)
    assert len(clip.peaks) == 72


def test_a_segment_is_cut_out_and_a_long_one_trimmed(tmp_path: Path) -> None:
    tone = str(write_tone(tmp_path / "a.wav", 40.0, rate_hz=8000))
    with ClipMaker(None) as clips:
        assert clips.clip(tone, 3.0, 2.5).clip_s == 2.5
        whole = clips.clip(tone, None, None)
    assert (whole.clip_s, whole.whole_s, whole.cut) == (15.0, 40.0, True)


def test_clips_of_one_recording_decode_it_twice_at_most_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[dict[str, Any]] = []

    def counted_load(path: str, **options: Any) -> Any:
        loads.append(options)
        return load(path, **options)

    monkeypatch.setattr(clip_worker, "load", counted_load)
    path = str(write_tone(tmp_path / "a.wav", 20.0, rate_hz=22_050))
    job = {"path": path, "offset_s": 3.0, "duration_s": 2.0, "roots": [str(tmp_path)], "max_s": 15.0}
    first, again, *_ = [clip_worker.answer(job) for _ in range(4)]
    assert len(loads) == 2
    assert again["clip_s"] == first["clip_s"] == 2.0 and again["whole_s"] == first["whole_s"]
    assert abs(len(again["mp3"]) - len(first["mp3"])) < 0.02 * len(first["mp3"])


def test_part_of_a_recording_that_is_broken_elsewhere_is_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_part(path: str, **options: Any) -> Any:
        if "offset_s" not in options:
            raise RecordError("not_audio", "broken behind 10 s")
        return load(path, **options)

    monkeypatch.setattr(clip_worker, "load", load_part)
    path = str(write_tone(tmp_path / "a.wav", 20.0))
    job = {"path": path, "offset_s": 1.0, "duration_s": 2.0, "roots": None, "max_s": 15.0}
    answers = [clip_worker.answer(job) for _ in range(2)]
    assert [answer.get("clip_s") for answer in answers] == [2.0, 2.0], answers


def test_what_cannot_be_played_says_why(tmp_path: Path) -> None:
    write_tone(tmp_path / "outside.wav")
    root = tmp_path / "root"
    broken = write_broken(root / "broken.wav")
    os.mkfifo(root / "fifo.wav")
    with ClipMaker([str(root)]) as clips:
        assert clips.clip(None, None, None).missing == "the record names no audio file"
        for path, code in (
            (tmp_path / "outside.wav", "outside_root"),
            (root / ".." / "outside.wav", "outside_root"),
            (broken, "not_audio"),
            (root / "fifo.wav", "not_a_regular_file"),
            (root / "gone.wav", "missing_file"),
            ("http://example.com/a.wav", "outside_root"),
            ("a\0.wav", "bad_path"),
        ):
            clip = clips.clip(str(path), None, None)
            assert clip.mp3 is None
            assert clip.missing.startswith(code)


def test_a_decoder_that_dies_costs_one_clip(tmp_path: Path) -> None:
    tone = str(write_tone(tmp_path / "a.wav"))
    with ClipMaker(None) as clips:
        process = clips._running()
        process.kill()
        process.wait()
        assert clips.clip(tone, None, None).missing == "the decoder crashes on this file"
        assert clips.clip(tone, 0.0, 0.5).mp3 is not None


def test_a_decoder_that_does_not_end_costs_one_clip(tmp_path: Path) -> None:
    tone = str(write_tone(tmp_path / "a.wav"))
    with ClipMaker(None, patience_s=0.001) as clips:  # even its start takes longer
        assert clips.clip(tone, None, None).missing == "the decoder does not finish in time"
        assert clips._process is None
