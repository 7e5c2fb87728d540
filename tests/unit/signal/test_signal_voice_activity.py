"""From probabilities to segments, against a state machine written out; and the detectors that need no model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.signal import SegmentSettings, VoiceDetector, find_segments
from curate.signal.energy_detector import EnergyDetector
from curate.signal.pauses import find_cuts, step_powers
from curate.signal.voice_activity import _speech_runs
from tests.unit.signal.real_speech import white_noise

RATE_HZ = 16_000
PLAIN = SegmentSettings(min_silence_s=0, min_speech_s=0, pad_s=0)


def segments(values: list[float], frame_s: float = 0.1, **settings: float) -> list[tuple[float, float]]:
    chosen = SegmentSettings(**{"min_silence_s": 0, "min_speech_s": 0, "pad_s": 0, **settings})
    return find_segments(np.array(values, np.float32), frame_s, len(values) * frame_s, chosen).speech


def runs_of_a_state_machine(values: list[float], threshold: float, end: float) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    start: int | None = None
    for place, value in enumerate([*values, 0.0]):
        if start is None and value >= threshold:
            start = place
        elif start is not None and value < end:
            runs.append((start, place))
            start = None
    return runs


@given(
    st.lists(st.sampled_from([0.0, 0.2, 0.35, 0.4, 0.5, 0.6, 1.0]), max_size=60),
    st.sampled_from([(0.5, 0.35), (0.5, 0.5), (0.6, 0.2)]),
)
def test_hysteresis_is_that_of_the_state_machine(values: list[float], thresholds: tuple[float, float]) -> None:
    starts, stops = _speech_runs(np.array(values), *thresholds)
    assert list(zip(starts.tolist(), stops.tolist(), strict=True)) == runs_of_a_state_machine(values, *thresholds)


@given(
    st.lists(st.floats(0, 1, width=32), max_size=80),
    st.floats(0, 0.6),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
)
def test_segments_are_in_order_apart_and_inside_the_recording(
    values: list[float], min_silence_s: float, min_speech_s: float, pad_s: float
) -> None:
    settings = SegmentSettings(min_silence_s=min_silence_s, min_speech_s=min_speech_s, pad_s=pad_s)
    duration_s = max(0.0, len(values) * 0.032 - 0.01)
    found = find_segments(np.array(values, np.float32), 0.032, duration_s, settings)
    for each in (found.speech, found.short):
        edges = [edge for segment in each for edge in segment]
        assert edges == sorted(edges)
        assert not edges or (edges[0] >= 0 and edges[-1] <= duration_s + 0.0005)
        assert all(edge == round(edge, 3) for edge in edges)


def test_pauses_are_closed_short_speech_is_set_apart_and_pads_share_a_pause() -> None:
    speech = [0.0, 0, 1, 1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0]
    assert segments(speech) == [(0.2, 0.4), (0.5, 0.7), (1.0, 1.1)]
    assert segments(speech, min_silence_s=0.2) == [(0.2, 0.7), (1.0, 1.1)]
    assert segments(speech, min_silence_s=0.2, pad_s=0.1) == [(0.1, 0.8), (0.9, 1.2)]
    assert segments(speech, min_silence_s=0.2, pad_s=0.9) == [(0.0, 0.85), (0.85, 1.5)]
    found = find_segments(np.array(speech, np.float32), 0.1, 1.5, SegmentSettings(min_speech_s=0.2, pad_s=0))
    assert (found.speech, found.short) == ([(0.2, 0.7)], [(1.0, 1.1)])


@pytest.mark.parametrize(
    "settings", [{"threshold": 0.0}, {"threshold": 0.1}, {"pad_s": -1}, {"min_silence_s": float("nan")}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        SegmentSettings(**settings)


def bursts(detector: VoiceDetector, samples: np.ndarray, block: int = 7777) -> list[tuple[float, float]]:
    blocks = (samples[at : at + block] for at in range(0, len(samples), block))
    pieces = list(detector.probabilities(blocks))
    values = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    assert ((values >= 0) & (values <= 1)).all()
    return find_segments(values, detector.frame_s, len(samples) / RATE_HZ, SegmentSettings(pad_s=0)).speech


def test_energy_finds_sound_above_noise_in_any_blocks_and_nothing_in_silence() -> None:
    noise = 0.001 * white_noise(10 * RATE_HZ)
    noise[3 * RATE_HZ : 5 * RATE_HZ] += 0.1 * white_noise(2 * RATE_HZ, seed=1)
    ((start, end),) = bursts(EnergyDetector(), noise)
    assert (start, end) == pytest.approx((3.0, 5.0), abs=0.06)
    assert bursts(EnergyDetector(), noise) == bursts(EnergyDetector(), noise, block=10**9)
    for quiet in (np.zeros(RATE_HZ), np.zeros(1), np.zeros(0), 0.001 * white_noise(10 * RATE_HZ)):
        assert bursts(EnergyDetector(), quiet.astype(np.float32)) == []


def test_webrtc_is_the_same_in_any_blocks() -> None:
    pytest.importorskip("webrtcvad")
    from curate.signal.webrtc_detector import WebrtcDetector

    detector = WebrtcDetector()
    detector.setup()
    samples = np.concatenate([np.zeros(RATE_HZ), 0.3 * white_noise(RATE_HZ), np.zeros(2 * RATE_HZ)]).astype(np.float32)
    found = bursts(detector, samples)
    assert found
    for block in (100, 1601, 10**9):
        assert bursts(detector, samples, block) == found
    assert bursts(detector, np.zeros(0, np.float32)) == bursts(detector, np.zeros(1, np.float32)) == []


def test_a_long_segment_is_cut_in_its_pauses_and_a_cut_without_one_is_marked() -> None:
    samples = (0.1 * white_noise(50 * RATE_HZ)).astype(np.float32)
    for second in (17, 30):
        samples[second * RATE_HZ : second * RATE_HZ + RATE_HZ // 5] *= 0.01
    cuts = find_cuts(step_powers([samples[:7777], samples[7777:]], RATE_HZ), 50, 20)
    assert [cut.at_s for cut in cuts] == pytest.approx([17.1, 30.1], abs=0.06)
    assert [cut.in_speech for cut in cuts] == [False, False]
    (cut,) = find_cuts(step_powers([samples[: 16 * RATE_HZ]], RATE_HZ), 16, 10)
    assert cut.in_speech
    assert 5 <= cut.at_s <= 10


@given(st.floats(0.5, 200), st.floats(0.5, 40), st.integers(0, 10))
def test_no_piece_is_longer_than_the_maximum(duration_s: float, max_s: float, seed: int) -> None:
    powers = np.random.default_rng(seed).random(int(duration_s * 100))
    edges = [0.0, *(cut.at_s for cut in find_cuts(powers, duration_s, max_s)), duration_s]
    lengths = np.diff(edges)
    assert (lengths > 0).all()
    assert lengths.max() <= max_s + 0.0011
