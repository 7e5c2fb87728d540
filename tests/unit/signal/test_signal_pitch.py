"""Pitch of tones and voices."""

from __future__ import annotations

import numpy as np
import pytest

from curate.signal import Pitch, PitchMeter
from tests.unit.signal.real_speech import clips, needs_speech, white_noise

RATE_HZ = 16_000


def pitch(samples: np.ndarray, block: int = 48_000) -> Pitch:
    meter = PitchMeter()
    for at in range(0, len(samples), block):
        meter.add(samples[at : at + block].astype(np.float32))
    return meter.pitch()


def harmonics(hz: float, seconds: float = 2.0, lowest: int = 1) -> np.ndarray:
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.sum([0.1 * np.sin(2 * np.pi * hz * k * t + k) for k in range(lowest, 9)], axis=0)


@pytest.mark.parametrize("hz", [80, 120, 200, 300, 440])
@pytest.mark.parametrize("lowest", [1, 2])  # without its fundamental, as on the telephone
def test_the_pitch_of_a_tone_is_its_fundamental(hz: float, lowest: int) -> None:
    measured = pitch(harmonics(hz, lowest=lowest))
    assert measured.median_hz == pytest.approx(hz, rel=0.005)
    assert measured.low_hz == pytest.approx(hz, rel=0.005)
    assert measured.voiced_ratio > 0.95


def test_noise_silence_and_short_sounds_have_no_pitch() -> None:
    for samples in (white_noise(2 * RATE_HZ), np.zeros(RATE_HZ), np.zeros(1), np.zeros(0), harmonics(200, 0.15)):
        assert pitch(samples).median_hz is None
    assert pitch(white_noise(2 * RATE_HZ)).voiced_ratio < 0.02


def test_low_and_high_span_the_voice_and_a_weak_hum_in_the_pauses_is_left_out() -> None:
    rising = np.concatenate([harmonics(hz, 0.5) for hz in (100, 120, 140, 160, 180)])
    hum = 1e-4 * np.sin(2 * np.pi * 62 * np.arange(4 * RATE_HZ) / RATE_HZ)
    measured = pitch(np.concatenate([rising, hum]))
    assert (measured.low_hz, measured.median_hz, measured.high_hz) == pytest.approx((100, 140, 180), rel=0.02)


@needs_speech
def test_men_and_women_differ() -> None:
    found = {name: pitch(samples).median_hz for name, (samples, _) in clips(RATE_HZ, 2.5).items()}
    for name in ("goforward", "sense_and_sensibility_01_austen_64kb-0870"):
        assert 80 <= (found[name] or 0) <= 140
    for name in ("2412-153948-0000", "ES2011a.Headset-0-40s-46s"):
        assert 150 <= (found[name] or 0) <= 260


@needs_speech
def test_the_blocks_make_no_difference_to_the_pitch() -> None:
    samples, _ = clips(RATE_HZ)["jfk"]
    assert pitch(samples, block=1234) == pitch(samples, block=10**9)
