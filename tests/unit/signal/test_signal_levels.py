"""Levels, clipping and loudness, against signals whose figures are known."""

from __future__ import annotations

import numpy as np
import pyloudnorm
import pytest

from curate.signal import LevelMeter, Levels, LoudnessMeter
from tests.unit.signal.real_speech import clips, needs_speech, white_noise

RATE_HZ = 48_000


def sine(seconds: float, dbfs: float = 0.0, hz: float = 997.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return (10 ** (dbfs / 20) * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def levels(frames: np.ndarray, rate_hz: int = RATE_HZ, block: int = 100_000) -> Levels:
    frames = frames if frames.ndim == 2 else frames[:, np.newaxis]
    meter = LevelMeter(rate_hz, frames.shape[1])
    for at in range(0, len(frames), block):
        meter.add(frames[at : at + block])
    return meter.levels()


def loudness(frames: np.ndarray, rate_hz: int = RATE_HZ, block: int = 100_000) -> float | None:
    frames = frames if frames.ndim == 2 else frames[:, np.newaxis]
    meter = LoudnessMeter(rate_hz, frames.shape[1])
    for at in range(0, len(frames), block):
        meter.add(frames[at : at + block])
    return meter.loudness_lufs()


def as_16_bit(samples: np.ndarray) -> np.ndarray:
    return (np.clip(np.round(samples * 32768), -32768, 32767) / 32768).astype(np.float32)


def test_a_sine_has_its_peak_and_3_db_less_rms() -> None:
    measured = levels(sine(2, -6))
    assert measured.peak_dbfs == pytest.approx(-6, abs=0.1)
    assert measured.rms_dbfs == pytest.approx(-9.01, abs=0.05)
    assert measured.clipped_ratio == measured.zero_ratio == measured.dc_offset == 0
    assert measured.channel_balance_db is measured.channel_correlation is None


@pytest.mark.parametrize("hz", [110.0, 440.0])
@pytest.mark.parametrize("rate_hz", [8000, 16_000, 48_000])
@pytest.mark.parametrize("gain_db", [0, -6, -20])
def test_clipped_share_of_a_sine_driven_6_db_too_hot_is_within_10_percent(
    hz: float, rate_hz: int, gain_db: int
) -> None:
    hot = np.clip(sine(2, 6.0206, hz, rate_hz), -1, 1)
    true_share = np.mean(np.abs(sine(2, 6.0206, hz, rate_hz)) >= 1)
    for samples in (hot, as_16_bit(hot)):
        lowered = as_16_bit(samples * 10 ** (gain_db / 20))
        assert levels(lowered, rate_hz).clipped_ratio == pytest.approx(true_share, rel=0.1)


@pytest.mark.parametrize("hz", [20.0, 50.0, 110.0, 440.0])
@pytest.mark.parametrize("dbfs", [-0.2, -6, -40, -70])
def test_a_sine_that_is_not_clipped_has_no_flat_tops(hz: float, dbfs: float) -> None:
    assert levels(as_16_bit(sine(2, dbfs, hz))).clipped_ratio < 0.001


@needs_speech
def test_real_recordings_are_not_clipped() -> None:
    assert {name: ratio for name, (x, hz) in clips().items() if (ratio := levels(x, hz).clipped_ratio) > 0.001} == {}


def test_a_single_sample_at_full_scale_is_a_peak_and_a_float_beyond_it_is_not_clipped() -> None:
    samples = sine(1, -20)
    samples[1000], samples[2000], samples[2001] = 1.0, 1.2, 1.2
    assert levels(samples).clipped_ratio == 0


def test_a_constant_part_and_digital_silence_are_found() -> None:
    samples = sine(1, -20) + np.float32(0.05)
    assert levels(samples).dc_offset == pytest.approx(0.05, abs=1e-3)
    assert levels(-samples).dc_offset == pytest.approx(-0.05, abs=1e-3)
    gap = sine(1, -20)
    gap[10_000:22_000] = 0
    assert levels(gap).zero_ratio == pytest.approx(0.25, abs=0.001)


def test_channels_are_compared() -> None:
    left, noise = sine(1, -20), 0.1 * white_noise(RATE_HZ)
    assert levels(np.stack([left, left], axis=1)).channel_correlation == 1.0
    assert levels(np.stack([left, -left], axis=1)).channel_correlation == -1.0
    assert abs(levels(np.stack([left, noise], axis=1)).channel_correlation or 1) < 0.05
    assert levels(np.stack([left, 0.5 * left], axis=1)).channel_balance_db == pytest.approx(6.02, abs=0.01)
    dead = levels(np.stack([left, 0 * left], axis=1))
    assert (dead.channel_balance_db, dead.channel_correlation) == (120.0, None)


@pytest.mark.parametrize("channels", [1, 2, 24])
def test_silence_has_no_levels(channels: int) -> None:
    measured = levels(np.zeros((4800, channels), np.float32))
    assert (measured.peak_dbfs, measured.rms_dbfs, measured.zero_ratio) == (None, None, 1.0)
    assert measured.channel_balance_db is measured.channel_correlation is None


def test_the_blocks_change_levels_by_no_more_than_the_runs_that_their_borders_cut() -> None:
    samples = as_16_bit(np.clip(sine(3, 6), -1, 1))
    whole, parts = levels(samples, block=10**9), levels(samples, block=7_777)
    assert whole.clipped_ratio == pytest.approx(parts.clipped_ratio, rel=0.01)
    assert (whole.peak_dbfs, whole.rms_dbfs, whole.dc_offset) == (parts.peak_dbfs, parts.rms_dbfs, parts.dc_offset)


EBU_3341 = {
    "case 1": ([(20, -23)], -23.0),
    "case 2": ([(20, -33)], -33.0),
    "case 3": ([(10, -36), (60, -23), (10, -36)], -23.0),
    "case 4": ([(10, -72), (10, -36), (60, -23), (10, -36), (10, -72)], -23.0),
    "case 5": ([(20, -26), (20.1, -20), (20, -26)], -23.0),
}


@pytest.mark.parametrize("name", EBU_3341)
@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_loudness_of_the_reference_tones_of_ebu_3341_is_within_02_lu(name: str, rate_hz: int) -> None:
    parts, expected = EBU_3341[name]
    mono = np.concatenate([sine(seconds, dbfs, 1000.0, rate_hz) for seconds, dbfs in parts])
    stereo = np.stack([mono, mono], axis=1)
    assert loudness(stereo, rate_hz) == pytest.approx(expected, abs=0.2)


def test_mono_is_3_lu_below_dual_mono() -> None:
    mono = sine(5, -23, 1000.0)
    dual = loudness(np.stack([mono, mono], axis=1))
    single = loudness(mono)
    assert dual is not None and single is not None
    assert dual - single == pytest.approx(3.01, abs=0.01)


@needs_speech
@pytest.mark.parametrize("block", [1000, 48_000, 10**9])
def test_loudness_of_speech_agrees_with_pyloudnorm_in_any_blocks(block: int) -> None:
    for clip, rate_hz in clips().values():
        samples = clip[: len(clip) // (rate_hz // 10) * (rate_hz // 10)]  # pyloudnorm pads the last block with zeros
        theirs = pyloudnorm.Meter(rate_hz, filter_class="DeMan").integrated_loudness(samples.astype(np.float64))
        assert loudness(samples, rate_hz, block) == pytest.approx(theirs, abs=0.02)


def test_what_is_too_short_or_silent_or_slow_has_no_loudness() -> None:
    assert loudness(sine(0.39, -23)) is None
    assert loudness(np.zeros(RATE_HZ, np.float32)) is None
    assert loudness(sine(5, -23, 100.0, 4000), 4000) is None
    assert loudness(sine(0.41, -23)) is not None
