"""One record for each channel: obeyed by later stages, not doubled for dual mono, with balanced books."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import AudioSettings, AudioStage, Pipeline
from curate.audio import Audio
from curate.errors import PlanError
from curate.records import AudioBatch, Record
from curate.report import write_report
from curate.stages import Merge, ReadRecords, SplitChannels
from curate.testing import AudioStageContract
from tests.unit.audio.audio_files import tone

RATE_HZ = 16_000
SPEECH = tone(1.0, hz=300.0)
OTHER = 0.5 * tone(1.0, hz=1700.0)
SILENCE = np.zeros_like(SPEECH)


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., Record]:
    def recording(*channels: np.ndarray, name: str = "a.wav", **columns: Any) -> Record:
        path = tmp_path / name
        soundfile.write(path, np.stack(channels, axis=1), RATE_HZ, subtype="PCM_16")
        return {"audio_filepath": str(path), **columns}

    return recording


def split(record: Record, **settings: Any) -> list[Record]:
    done = SplitChannels(**settings).process(AudioBatch([record]))
    assert isinstance(done, AudioBatch)
    assert not done.failed, done.failed[0].error
    return done.data


def channels_of(record: Record, **settings: Any) -> list[tuple[int, bool]]:
    return [(child["channel"], child["dual_mono"]) for child in split(record, **settings)]


class TestContract(AudioStageContract):
    def stage(self) -> SplitChannels:
        return SplitChannels()

    def records(self, folder: Path) -> list[Record]:
        paths = [folder / f"{number}.wav" for number in range(3)]
        for path in paths:
            soundfile.write(path, np.stack([SPEECH, OTHER], axis=1), RATE_HZ)
        return [{"audio_filepath": str(path), "text": "a"} for path in paths]


def test_each_channel_is_a_child_with_its_channel_and_part(recording) -> None:
    children = split(recording(SPEECH, OTHER, SILENCE, duration=1.0, text="hello"))
    assert [(each["channel"], each["part"], each["parts"]) for each in children] == [(0, 0, 3), (1, 1, 3), (2, 2, 3)]
    assert {(each["duration"], each["text"], each["dual_mono"]) for each in children} == {(1.0, "hello", False)}


@pytest.mark.parametrize(
    ("second", "is_same"),
    [
        (SPEECH, True),
        (0.1 * SPEECH, True),
        (-SPEECH, True),
        (SPEECH + 0.05 * OTHER, True),
        (SPEECH + 0.5 * OTHER, False),
        (OTHER, False),
        (SILENCE, False),
    ],
)
def test_a_second_channel_of_the_same_signal_is_left_out_and_marked(
    recording, second: np.ndarray, is_same: bool
) -> None:
    record = recording(SPEECH, second)
    assert channels_of(record) == ([(0, True)] if is_same else [(0, False), (1, False)])
    assert channels_of(record, keep_copies=True) == [(0, is_same), (1, is_same)]


def test_a_copy_among_several_channels_does_not_hide_the_others(recording) -> None:
    assert channels_of(recording(SPEECH, OTHER, -OTHER, SILENCE)) == [(0, False), (1, True), (3, False)]


def test_a_silent_recording_of_two_channels_is_one_child(recording) -> None:
    assert channels_of(recording(SILENCE, SILENCE)) == [(0, True)]


def test_a_mono_recording_is_one_child(recording) -> None:
    assert channels_of(recording(SPEECH)) == [(0, False)]


def test_a_record_that_names_channels_is_split_into_these(recording) -> None:
    three = (SPEECH, OTHER, SILENCE)
    assert channels_of(recording(*three, channel=1)) == [(1, False)]
    (first, second) = split(recording(*three, channel_selector=[0, 2]))
    assert (first["channel"], first["channel_selector"]) == (0, 0)
    assert (second["channel"], second["channel_selector"]) == (2, 2)
    assert len(split(recording(*three, channel_selector="average"))) == 3


def test_a_segment_is_judged_by_its_own_samples(recording) -> None:
    record = recording(np.concatenate([SPEECH, SPEECH]), np.concatenate([SPEECH, OTHER]))
    assert channels_of({**record, "offset": 0.0, "duration": 1.0}) == [(0, True)]
    second = split({**record, "offset": 1.0, "duration": 1.0})
    assert [(each["channel"], each["offset"], each["duration"]) for each in second] == [(0, 1.0, 1.0), (1, 1.0, 1.0)]


def test_a_channel_that_the_recording_lacks_fails_the_record(recording) -> None:
    done = SplitChannels().process(AudioBatch([recording(SPEECH, OTHER, channel=2)]))
    assert isinstance(done, AudioBatch)
    assert [failed.error.code for failed in done.failed] == ["unsupported_channels"]


# ---------------------------------------------------------------- in a run


@dataclass
class _Pitch(AudioStage):
    """Writes the frequency of the strongest tone: which channel the stage has received."""

    def writes(self) -> tuple[str, ...]:
        return ("hz",)

    def process_audio(self, record: Record, audio: Audio) -> Record:
        spectrum = np.abs(np.fft.rfft(audio.samples()))
        return {**record, "hz": round(float(spectrum.argmax() / audio.duration_s))}


def run(records: list[Record], *stages: Any, audio: AudioSettings | None = None, **options: Any) -> Any:
    return Pipeline("channels", [ReadRecords(records), *stages], audio=audio).run(**options)


@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
@pytest.mark.parametrize("checkpoint", [True, False])
def test_later_stages_receive_the_channel_and_the_books_balance(
    recording, tmp_path: Path, executor: str, checkpoint: bool
) -> None:
    records = [
        recording(SPEECH, OTHER, name="two.wav"),
        recording(SPEECH, SPEECH, name="dual.wav"),
        recording(SPEECH, -SPEECH, name="antiphase.wav"),
        recording(OTHER, name="mono.wav"),
    ]
    stages = (SplitChannels().with_(checkpoint=checkpoint), _Pitch(), Merge("out.jsonl"))
    result = run(records, *stages, executor=executor, run_dir=tmp_path / "run")
    heard = [(Path(each["audio_filepath"]).stem, each["channel"], each["hz"]) for each in result.records()]
    assert heard == [("two", 0, 300), ("two", 1, 1700), ("dual", 0, 300), ("antiphase", 0, 300), ("mono", 0, 1700)]
    summary = result.summary
    assert (summary["records_in"], summary["split_parents"], summary["children"], summary["kept"]) == (4, 4, 5, 5)
    hours = summary["audio_hours"]
    assert hours["kept"] == hours["children"] == round(5 / 3600, 6)
    performance = summary["by_stage"]["split_channels"]["performance"]
    assert performance == {"recordings": 4, "channels": 7, "dual_mono": 2}
    assert "two channels of the same signal" in write_report(tmp_path / "run").read_text()


def test_a_setting_that_disregards_the_channel_is_refused_before_work_starts(recording) -> None:
    record = recording(SPEECH, OTHER)
    with pytest.raises(
        PlanError, match=r"'split_channels' writes the channel of each record, but `audio: channel: mean`"
    ):
        run([record], SplitChannels(), _Pitch(), audio=AudioSettings(channel="mean"))


def test_the_mean_of_two_voices_is_counted_and_named_once(recording, tmp_path: Path, warnings: list[str]) -> None:
    two = [recording(SPEECH, OTHER, name=f"{number}.wav") for number in range(3)]
    others = [
        recording(SPEECH, SPEECH, name="dual.wav"),
        recording(SPEECH, SILENCE, name="half.wav"),
        recording(SPEECH, 0.001 * OTHER, name="noise.wav"),
        recording(OTHER, name="mono.wav"),
        recording(SPEECH, OTHER, name="named.wav", channel=0),
    ]
    result = run([*two, *others], _Pitch(), _Pitch().with_(name="again"), run_dir=tmp_path / "run")
    (measures,) = result.summary["audio"].values()
    assert measures["unlike_channels"] == 3
    (warning,) = [each for each in warnings if "channels" in each]
    assert "3 records have channels of different content" in warning
    assert "split_channels" in warning
    assert "channels of different content" in write_report(tmp_path / "run").read_text()
