"""Durations from the files' headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curate.records import AudioBatch
from curate.stage import WorkerContext
from curate.stages import AudioDuration
from tests.unit.audio.audio_files import encoded, tone


@pytest.fixture
def wav(tmp_path: Path) -> str:
    path = tmp_path / "a.wav"
    path.write_bytes(encoded(tone(1.5, 8000), rate_hz=8000))
    return str(path)


def measured(record: dict[str, Any], **settings: Any) -> Any:
    """The duration, or the code of what went wrong."""
    done = AudioDuration(**settings).process(AudioBatch([record]))
    assert isinstance(done, AudioBatch)
    return done.failed[0].error.code if done.failed else done.data[0]["duration"]


def test_the_duration_is_the_files(wav: str) -> None:
    assert measured({"audio_filepath": wav}) == 1.5
    assert measured({"audio_filepath": wav, "duration": None}) == 1.5


def test_a_wrong_duration_is_corrected_unless_only_missing_ones_are_asked_for(wav: str) -> None:
    assert measured({"audio_filepath": wav, "duration": 99}) == 1.5
    assert measured({"audio_filepath": wav, "duration": 99}, only_missing=True) == 99
    assert measured({"audio_filepath": "nowhere.wav", "duration": 99}, only_missing=True) == 99


def test_a_segment_keeps_its_duration_or_reaches_to_the_end(wav: str) -> None:
    assert measured({"audio_filepath": wav, "offset": 0.25, "duration": 0.5}) == 0.5
    assert measured({"audio_filepath": wav, "offset": 0.25}) == 1.25
    assert measured({"audio_filepath": wav, "offset": 1.5}) == "bad_segment"


@pytest.mark.parametrize(
    ("offset", "code"), [("0.5", "bad_value"), (True, "bad_value"), (-1, "bad_segment"), (float("nan"), "bad_segment")]
)
def test_an_offset_that_is_no_number_of_seconds_fails_the_record(wav: str, offset: Any, code: str) -> None:
    assert measured({"audio_filepath": wav, "offset": offset}) == code


def test_a_file_that_cannot_be_read_fails_its_record(tmp_path: Path) -> None:
    (tmp_path / "page.wav").write_text("<html></html>" * 50)
    assert measured({"audio_filepath": str(tmp_path / "none.wav")}) == "missing_file"
    assert measured({"audio_filepath": str(tmp_path / "page.wav")}) == "not_audio"
    assert measured({"wav": str(tmp_path / "none.wav")}, filepath_key="wav") == "missing_file"


def test_the_roots_of_the_run_hold_here_too(wav: str, tmp_path: Path) -> None:
    stage = AudioDuration()
    (tmp_path / "inside").mkdir()
    stage.context = WorkerContext(audio_roots=(str(tmp_path / "inside"),))
    done = stage.process(AudioBatch([{"audio_filepath": wav}]))
    assert isinstance(done, AudioBatch)
    assert [failed.error.code for failed in done.failed] == ["outside_root"]
