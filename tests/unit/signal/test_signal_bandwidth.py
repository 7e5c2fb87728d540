"""Bandwidth of real speech, of telephone speech that was upsampled, and of what went through an MP3 encoder."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from curate.signal import Bandwidth, BandwidthMeter
from tests.unit.signal.real_speech import clips, needs_speech, resampled, white_noise


def bandwidth(samples: np.ndarray, rate_hz: int, block_s: float = 30) -> Bandwidth:
    meter = BandwidthMeter(rate_hz, len(samples) / rate_hz)
    size = round(block_s * rate_hz)
    for at in range(0, len(samples), size):
        meter.add(samples[at : at + size].astype(np.float32))
    return meter.bandwidth()


@needs_speech
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
@pytest.mark.parametrize("noise_dbfs", [None, -60])
def test_speech_of_8_khz_that_was_upsampled_has_4_khz(rate_hz: int, noise_dbfs: float | None) -> None:
    for name, (samples, own_hz) in clips().items():
        upsampled = resampled(resampled(samples, own_hz, 8000), 8000, rate_hz)
        if noise_dbfs is not None:
            upsampled = upsampled + 10 ** (noise_dbfs / 20) * white_noise(len(upsampled), seed=1)
        assert bandwidth(upsampled, rate_hz).bandwidth_hz == pytest.approx(4000, abs=400), name


@needs_speech
def test_wide_recordings_reach_half_their_rate_and_those_that_were_mp3s_do_not() -> None:
    for name, (samples, rate_hz) in clips().items():
        measured = bandwidth(samples, rate_hz).bandwidth_hz
        assert measured is not None
        if name.startswith(("2412", "goforward", "cards")):
            assert measured >= 7500, name
        if name.startswith("sense"):
            assert 6500 <= measured <= 7700, name


@pytest.mark.parametrize(("rate_hz", "edge_hz"), [(16_000, 7400), (22_050, 10_200), (44_100, 16_900)])
def test_noise_of_a_64_kbit_mp3_ends_at_the_encoders_edge(rate_hz: int, edge_hz: float) -> None:
    av = pytest.importorskip("av")
    noise = (0.1 * 32767 * white_noise(8 * rate_hz)).astype(np.int16)
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=rate_hz, layout="mono")
        stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray(noise[np.newaxis], format="s16p", layout="mono")
        frame.sample_rate = rate_hz
        for part in av.AudioResampler(format="s16p", layout="mono", rate=rate_hz).resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    file.seek(0)
    samples, decoded_hz = soundfile.read(file, dtype="float32")
    measured = bandwidth(samples, decoded_hz)
    assert decoded_hz == rate_hz
    assert measured.bandwidth_hz == pytest.approx(edge_hz, abs=500)
    assert measured.confidence == 1.0


@needs_speech
def test_a_tone_above_speech_is_not_bandwidth() -> None:
    samples, own_hz = clips()["2412-153948-0000"]
    upsampled = resampled(resampled(samples, own_hz, 8000), 8000, 48_000)
    tone = 0.003 * np.sin(2 * np.pi * 15_625 * np.arange(len(upsampled)) / 48_000)
    assert bandwidth(upsampled + tone, 48_000).bandwidth_hz == pytest.approx(4000, abs=400)


@pytest.mark.parametrize("rate_hz", [1000, 8000, 384_000])
def test_white_noise_fills_every_rate_and_silence_has_no_bandwidth(rate_hz: int) -> None:
    noise = 0.1 * white_noise(2 * rate_hz)
    assert bandwidth(noise, rate_hz) == Bandwidth(rate_hz // 2, 1.0)
    for samples in (0 * noise, noise[:1], noise[: rate_hz // 3]):
        assert bandwidth(samples, rate_hz) == Bandwidth(None, None)


@needs_speech
def test_a_long_recording_is_measured_on_some_of_its_seconds_in_any_blocks() -> None:
    samples, rate_hz = clips()["sense_and_sensibility_01_austen_64kb-0870"]
    long = np.tile(samples, 100)
    whole = bandwidth(long, rate_hz)
    assert whole == bandwidth(long, rate_hz, block_s=7.3)
    assert whole.bandwidth_hz == pytest.approx(bandwidth(samples, rate_hz).bandwidth_hz, abs=200)
