"""The signal-to-noise ratio of real speech with noise of a known level, and the table of WADA."""

from __future__ import annotations

import numpy as np
import pytest

from curate.signal import NoiseMeter, SignalToNoise, wada_snr_db, wada_table
from curate.signal.noise import _FLOOR_OF_NOISE, _band_powers
from tests.unit.signal.real_speech import clips, needs_speech, white_noise, with_noise

RATE_HZ = 16_000

# As published with the algorithm, from samples of the definition: dB → G.
CANONICAL = {
    -20: 0.40974774,
    -10: 0.41231718,
    -3: 0.43510373,
    0: 0.46221153,
    5: 0.54372088,
    10: 0.66750818,
    15: 0.81240985,
    20: 0.95655449,
    30: 1.19703503,
    40: 1.3605727,
    60: 1.53389835,
    80: 1.60408668,
}


def ratios(samples: np.ndarray, speech: list[tuple[float, float]] | None = None, block: int = 48_000) -> SignalToNoise:
    meter = NoiseMeter(speech)
    for at in range(0, len(samples), block):
        meter.add(samples[at : at + block].astype(np.float32))
    return meter.ratios()


def speech() -> dict[str, np.ndarray]:
    return {name: samples for name, (samples, _) in clips(RATE_HZ, 2.5).items()}


def noise_of(kind: str, name: str) -> np.ndarray:
    clip = speech()[name]
    if kind == "white":
        return white_noise(len(clip), seed=len(clip))
    others = [
        np.resize(np.roll(other, 977 * n), len(clip)) for n, other in enumerate(speech().values()) if other is not clip
    ]
    return np.sum([other / other.std() for other in others], axis=0)


@needs_speech
@pytest.mark.parametrize("snr_db", [0, 10, 20])
def test_snr_of_speech_with_white_noise_is_within_4_db_and_2_db_in_the_median(snr_db: int) -> None:
    errors = [
        ratios(with_noise(clip, noise_of("white", name), snr_db)).snr_db - snr_db for name, clip in speech().items()
    ]
    assert max(map(abs, errors)) <= 4
    assert abs(np.median(errors)) <= 2


@needs_speech
@pytest.mark.parametrize("snr_db", [0, 10])
def test_wada_is_within_4_db_at_0_and_10_db(snr_db: int) -> None:
    for name, clip in speech().items():
        measured = ratios(with_noise(clip, noise_of("white", name), snr_db)).snr_wada_db
        assert measured == pytest.approx(snr_db, abs=4), name


@needs_speech
@pytest.mark.parametrize("kind", ["white", "babble"])
def test_more_noise_gives_a_lower_ratio(kind: str) -> None:
    for name, clip in speech().items():
        measured = [ratios(with_noise(clip, noise_of(kind, name), snr_db)) for snr_db in (0, 10, 20)]
        snrs = [each.snr_db for each in measured if each.snr_db is not None]
        wadas = [each.snr_wada_db for each in measured if each.snr_wada_db is not None]
        assert len(snrs) == len(wadas) == 3
        assert snrs == sorted(set(snrs)), name
        assert wadas == sorted(set(wadas)), name


@needs_speech
def test_gain_and_leading_zeros_hardly_change_it() -> None:
    for name, clip in speech().items():
        before = ratios(clip)
        quiet = ratios(0.01 * clip)
        zeros = ratios(np.concatenate([np.zeros(10 * RATE_HZ, np.float32), clip]))
        assert quiet.snr_db == pytest.approx(before.snr_db, abs=0.1001), name
        assert zeros.snr_db == pytest.approx(before.snr_db, abs=1), name
        assert quiet.snr_wada_db == pytest.approx(before.snr_wada_db, abs=0.3), name
        assert zeros.snr_wada_db == pytest.approx(before.snr_wada_db, abs=1), name


@needs_speech
@pytest.mark.parametrize("snr_db", [0, 10, 20])
def test_segments_of_speech_give_the_noise_outside_them(snr_db: int) -> None:
    for name, clip in speech().items():
        padded = np.concatenate([np.zeros(RATE_HZ), clip, np.zeros(RATE_HZ)]).astype(np.float32)
        noise = white_noise(len(padded), seed=3) * np.sqrt(np.mean(clip**2) / 10 ** (snr_db / 10))
        segments = [(1.0, 1.0 + len(clip) / RATE_HZ)]
        assert ratios(padded + noise, segments).snr_db == pytest.approx(snr_db, abs=0.5), name


def test_too_little_speech_or_noise_outside_of_it_gives_null() -> None:
    samples = white_noise(3 * RATE_HZ)
    assert ratios(samples, [(0.0, 2.6)]).snr_db is None
    assert ratios(samples, [(0.0, 0.4)]).snr_db is None
    assert ratios(samples, []).snr_db is None
    assert ratios(samples, [(0.0, 1.0)]).snr_db is not None


def test_silence_and_short_clips_have_no_ratio_and_noise_alone_a_low_one() -> None:
    for length in (0, 1, 511, 5 * RATE_HZ):
        assert ratios(np.zeros(length)) == SignalToNoise(None, None)
    assert ratios(white_noise(RATE_HZ // 3)) == SignalToNoise(None, None)
    measured = ratios(white_noise(10 * RATE_HZ)).snr_db
    assert measured is not None and measured < -5


@needs_speech
def test_the_blocks_make_no_difference_to_the_ratio() -> None:
    clip = speech()["jfk"]
    assert ratios(clip, block=999).snr_db == ratios(clip, block=10**9).snr_db


def test_the_floor_of_white_noise_is_the_constant() -> None:
    powers = _band_powers(white_noise(120 * RATE_HZ))
    smoothed = (powers[:-2] + powers[1:-1] + powers[2:]) / 3
    assert np.mean(np.quantile(smoothed, 0.1, axis=0) / powers.mean(axis=0)) == pytest.approx(_FLOOR_OF_NOISE, rel=0.01)


def test_the_generated_table_agrees_with_the_published_one() -> None:
    table = wada_table()
    assert len(table) == 121 and (np.diff(table) >= 0).all()
    for snr_db, statistic in CANONICAL.items():
        assert table[snr_db + 20] == pytest.approx(statistic, abs=0.005), snr_db
    assert table[120] == pytest.approx(1.63204102, abs=0.0053)  # the published end has a sampling error of its own


@pytest.mark.parametrize("snr_db", [-5, 0, 10, 20, 40])
def test_samples_of_the_definition_have_their_ratio(snr_db: int) -> None:
    rng = np.random.default_rng(snr_db + 20)
    speech = rng.gamma(0.4, size=1_000_000) * rng.choice([-1, 1], size=1_000_000)
    x = np.abs(speech + rng.standard_normal(1_000_000) * np.sqrt(0.56 / 10 ** (snr_db / 10)))
    assert wada_snr_db(float(np.log(x.mean()) - np.log(x).mean())) == pytest.approx(snr_db, abs=0.5)
