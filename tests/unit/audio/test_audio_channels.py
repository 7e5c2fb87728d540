"""Which channel a stage hears, and what becomes of channels that cancel each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_files import encoded, tone

from curate.audio import Audio, AudioSettings, RecordingCache, load, load_ahead, load_record
from curate.errors import RecordError

CASES = Path(__file__).parents[4] / "shared" / "cases"


@pytest.fixture
def write(tmp_path: Path):
    def write(samples: np.ndarray, rate_hz: int = 16_000) -> str:
        path = tmp_path / "a.wav"
        path.write_bytes(encoded(samples.astype(np.float32), "WAV", "FLOAT", rate_hz))
        return str(path)

    return write


def stereo(left: float = 1.0, right: float = 0.5) -> np.ndarray:
    return np.stack([tone(1.0, hz=300.0) * left, tone(1.0, hz=1700.0) * right], axis=1).astype(np.float32)


def code_of(record: dict[str, Any], **options: Any) -> str:
    with pytest.raises(RecordError) as caught:
        load_record(record, **options)
    return caught.value.code


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({}, "mean"),
        ({"channel": 0}, 0),
        ({"channel": 1}, 1),
        ({"channel": "1"}, 1),
        ({"channel": 1.0}, 1),
        ({"channel": None, "channel_selector": 1}, 1),
        ({"channel": 0, "channel_selector": 1}, 0),
        ({"channel_selector": [1]}, 1),
        ({"channel_selector": [0, 1]}, "mean"),
        ({"channel_selector": "average"}, "mean"),
        ({"channel": "loudest"}, 0),
    ],
)
def test_the_channel_that_a_record_names_is_heard(write, columns: dict[str, Any], wanted: Any) -> None:
    samples = stereo()
    record = {"audio_filepath": write(samples), **columns}
    expected = (samples[:, 0] + samples[:, 1]) / np.float32(2) if wanted == "mean" else samples[:, wanted]
    np.testing.assert_array_equal(load_record(record), expected)
    np.testing.assert_array_equal(Audio.of(record).samples(), expected)
    np.testing.assert_array_equal(next(load_ahead([record]))[1], expected)
    with RecordingCache() as cache:
        np.testing.assert_array_equal(cache.audio({**record, "offset": 0.0}).samples(), expected)


def test_some_channels_of_several_are_averaged(write) -> None:
    samples = np.stack([tone(0.5, hz=h) for h in (200.0, 900.0, 2000.0)], axis=1)
    record = {"audio_filepath": write(samples), "channel_selector": [0, 2]}
    np.testing.assert_array_equal(load_record(record), (samples[:, 0] + samples[:, 2]) / np.float32(2))


@pytest.mark.parametrize("channel", [2, -1, 10**30, [0, 2]])
def test_a_channel_that_the_recording_lacks_is_unsupported(write, channel: Any) -> None:
    assert code_of({"audio_filepath": write(stereo()), "channel": channel}) == "unsupported_channels"


@pytest.mark.parametrize("channel", ["podcast", True, {}, [], 0.5, ["0"]])
def test_a_column_that_names_no_channel_is_a_bad_value_of_a_recording_with_several(write, channel: Any) -> None:
    assert code_of({"audio_filepath": write(stereo()), "channel": channel}) == "bad_value"
    mono = {"audio_filepath": write(tone(1.0)), "channel": channel}
    assert load_record(mono).shape == (16_000,), "there is nothing to choose"


def test_the_setting_decides_for_all_records_unless_it_says_record(write) -> None:
    samples = stereo(left=0.4, right=0.9)
    record = {"audio_filepath": write(samples), "channel": 0}
    mean = (samples[:, 0] + samples[:, 1]) / np.float32(2)
    for channel, expected in (
        ("mean", mean),
        ("loudest", samples[:, 1]),
        (1, samples[:, 1]),
        ("record", samples[:, 0]),
    ):
        settings = AudioSettings(channel=channel)  # type: ignore[arg-type]
        np.testing.assert_array_equal(load_record(record, settings=settings), expected)
        np.testing.assert_array_equal(Audio.of(record, settings=settings).samples(), expected)
    assert code_of(record, settings=AudioSettings(channel=7)) == "unsupported_channels"


def test_a_channel_that_a_stage_asks_for_counts_before_all_others(write) -> None:
    samples = stereo()
    audio = Audio.of({"audio_filepath": write(samples), "channel": 0}, settings=AudioSettings(channel=0))
    np.testing.assert_array_equal(audio.samples(channel=1), samples[:, 1])
    with pytest.raises(RecordError) as caught:
        audio.samples(channel=2)
    assert caught.value.code == "unsupported_channels"


@pytest.mark.parametrize("setting", ["both", -1, 64, True, 1.5, None])
def test_a_setting_that_means_nothing_is_refused(setting: Any) -> None:
    with pytest.raises(ValueError, match="channel"):
        AudioSettings(channel=setting)
    with pytest.raises(ValueError, match="end_tolerance_s"):
        AudioSettings(end_tolerance_s=-0.1)
    with pytest.raises(ValueError, match="duration_mismatch"):
        AudioSettings(duration_mismatch="ignore")  # type: ignore[arg-type]


# ---------------------------------------------------------------- channels that cancel each other


@pytest.mark.parametrize("gain", [1.0, 0.95, 1.1])
def test_a_mean_that_cancels_is_replaced_by_the_loudest_channel_and_counted(write, gain: float) -> None:
    mono = tone(1.0)
    samples = np.stack([mono, -gain * mono], axis=1)
    loudest = int(gain > 1.0)
    record = {"audio_filepath": write(samples)}
    np.testing.assert_array_equal(load_record(record), samples[:, loudest])
    with RecordingCache() as cache:
        audio = cache.audio(record)
        assert not audio.mean_replaced
        np.testing.assert_array_equal(audio.samples(), samples[:, loudest])
        audio.samples(8_000)
        assert audio.mean_replaced
        assert cache.means_replaced == 1
        np.testing.assert_array_equal(np.concatenate(list(cache.audio(record).blocks(0.1))), samples[:, loudest])


def test_a_constant_that_the_channels_share_does_not_hide_that_they_cancel(write) -> None:
    mono = tone(1.0)
    samples = np.stack([mono + 0.2, 0.2 - mono], axis=1)
    np.testing.assert_allclose(load(write(samples)), samples[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    "samples",
    [
        np.stack([tone(1.0), tone(1.0)], axis=1),
        np.stack([tone(1.0), np.zeros(16_000)], axis=1),
        np.stack([tone(1.0), -0.7 * tone(1.0)], axis=1),
        np.zeros((16_000, 2)),
        np.full((16_000, 2), 0.25),
    ],
)
def test_a_mean_that_loses_less_than_20_db_is_used(write, samples: np.ndarray) -> None:
    with RecordingCache() as cache:
        heard = cache.audio({"audio_filepath": write(samples)}).samples()
        assert cache.means_replaced == 0
    np.testing.assert_allclose(heard, samples.mean(axis=1), atol=1e-6)


def test_each_segment_is_judged_by_its_own_channels(write) -> None:
    mono = tone(2.0)
    samples = np.stack([mono, np.concatenate([mono[:16_000], -mono[16_000:]])], axis=1).astype(np.float32)
    path = write(samples)
    np.testing.assert_allclose(load(path, offset_s=0.0, duration_s=1.0), mono[:16_000], atol=1e-6)
    np.testing.assert_allclose(load(path, offset_s=1.0, duration_s=1.0), mono[16_000:], atol=1e-6)
    with Audio.of({"audio_filepath": path}) as audio:
        np.testing.assert_allclose(audio.cut(1.0, 2.0).samples(), mono[16_000:], atol=1e-6)
        assert not audio.cut(0.0, 1.0).mean_replaced


def test_a_long_stereo_recording_that_is_not_held_gives_the_same_channel(write) -> None:
    mono = tone(60.0)
    record = {"audio_filepath": write(np.stack([mono, -mono], axis=1))}
    with RecordingCache(1000) as cache:
        np.testing.assert_array_equal(cache.audio(record).take_samples(), mono)
