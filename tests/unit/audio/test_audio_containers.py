"""Containers that libsndfile cannot open are read by PyAV, with the same checks and codes."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_files import encoded, packed, swept, tone

from curate.audio import Audio, ffmpeg, load, probe
from curate.errors import RecordError

av: Any = pytest.importorskip("av", reason="the extra `av` is not installed")

CONTAINERS = {
    "m4a": ("ipod", "aac", 16_000),
    "alac": ("mp4", "alac", 16_000),
    "mov": ("mov", "pcm_s16le", 16_000),
    "aac": ("adts", "aac", 16_000),
    "webm": ("webm", "libopus", 48_000),
    "matroska flac": ("matroska", "flac", 16_000),
    "ac3": ("ac3", "ac3", 32_000),
    "eac3": ("eac3", "eac3", 32_000),
    "ogg flac": ("ogg", "flac", 16_000),
    "wavpack": ("wv", "wavpack", 16_000),
    "amr": ("amr", "libopencore_amrnb", 8_000),
    "transport stream": ("mpegts", "aac", 16_000),
    "g726 wav": ("wav", "adpcm_g726", 8_000),
    "mp3 wav": ("wav", "libmp3lame", 16_000),
    "flv": ("flv", "aac", 44_100),
    "avi": ("avi", "libmp3lame", 16_000),
}


def made(kind: str, seconds: float = 2.0) -> tuple[bytes, int]:
    container, codec, rate_hz = CONTAINERS[kind]
    return packed(swept(seconds, rate_hz), container, codec, rate_hz), rate_hz


def load_code(path: Path, **options: object) -> str:
    with pytest.raises(RecordError) as caught:
        load(path, **options)  # type: ignore[arg-type]
    return caught.value.code


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_container_gives_the_length_and_the_samples_that_went_in(write, kind: str) -> None:
    content, rate_hz = made(kind)
    path = write(content)
    samples = load(path, rate_hz=rate_hz)
    assert abs(len(samples) / rate_hz - 2.0) < 0.13
    assert probe(path).frames == len(samples)
    assert (probe(path).rate_hz, probe(path).channels) == (rate_hz, 1)
    wanted = swept(2.0, rate_hz)[rate_hz // 2 : rate_hz]
    searched = samples[rate_hz // 2 : rate_hz + round(0.15 * rate_hz)]
    lag = int(np.argmax(np.correlate(searched, wanted, "valid")))
    best = float(np.corrcoef(searched[lag : lag + len(wanted)], wanted)[0, 1])
    assert best > (0.8 if kind in ("amr", "g726 wav") else 0.97)


@pytest.mark.parametrize("kind", sorted(set(CONTAINERS) - {"wavpack", "amr", "flv"}))
@pytest.mark.parametrize("left", [0.953, 0.477])
def test_a_torn_container_is_truncated(write, kind: str, left: float) -> None:
    content, _ = made(kind)
    torn = write(content[: int(len(content) * left)])
    assert load_code(torn) == "truncated"
    with pytest.raises(RecordError):
        probe(torn)


@pytest.mark.parametrize("kind", ["wavpack", "amr", "flv"])
def test_a_torn_stream_without_a_length_is_refused_with_a_code(write, kind: str) -> None:
    content, _ = made(kind)
    assert load_code(write(content[: int(len(content) * 0.5)])) in ("truncated", "decode_error", "zero_samples")


def test_the_samples_of_a_container_do_not_depend_on_where_reading_began(write) -> None:
    path = write(made("m4a")[0])
    whole = load(path)
    np.testing.assert_array_equal(load(path, offset_s=0.5, duration_s=0.75), whole[8_000:20_000])
    with Audio.of({"audio_filepath": str(path), "offset": 1.0, "duration": 0.5}) as audio:
        np.testing.assert_array_equal(audio.samples(), whole[16_000:24_000])


def test_a_segment_behind_the_end_of_a_container_is_bad(write) -> None:
    path = write(made("alac")[0])
    assert load_code(path, offset_s=2.5) == "bad_segment"
    assert load_code(path, offset_s=1.5, duration_s=0.6) == "truncated"
    assert load(path, offset_s=1.5, duration_s=0.55).shape == (8_000,)


@pytest.mark.parametrize("kind", ["ogg flac", "matroska flac", "wavpack"])
def test_damage_in_a_lossless_container_is_a_decode_error(write, kind: str) -> None:
    content = bytearray(made(kind)[0])
    for at in range(len(content) // 2, len(content) // 2 + 60):
        content[at] ^= 0xA5
    assert load_code(write(bytes(content))) in ("decode_error", "truncated")


def with_tracks(container: str, codec: str, *lengths_s: float, video_s: float = 0.0) -> bytes:
    """A file with several audio tracks, of which each has a pitch of its own, behind a video if that has a length."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as muxer:
        packets: list[Any] = []  # each encoder is open, and its header known, before the first packet is written
        if video_s:
            video: Any = muxer.add_stream("mpeg4", rate=10)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            picture = np.zeros((64, 64, 3), np.uint8)
            for _ in range(round(10 * video_s)):
                packets += video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
            packets += video.encode()
        for number, seconds in enumerate(lengths_s):
            track: Any = muxer.add_stream(codec, rate=16_000, layout="mono")
            wanted = track.codec_context.format or "s16"
            resampler = av.AudioResampler(format=wanted, layout="mono", rate=16_000)
            frame = av.AudioFrame.from_ndarray(tone(seconds, hz=440.0 * (number + 1))[None], "fltp", "mono")
            frame.sample_rate = 16_000
            fifo = av.AudioFifo()
            for converted in resampler.resample(frame):
                fifo.write(converted)
            while (part := fifo.read(track.codec_context.frame_size or 4096, partial=True)) is not None:
                packets += track.encode(part)
            packets += track.encode()
        muxer.mux(packets)
    return out.getvalue()


@pytest.mark.parametrize(("container", "codec"), [("matroska", "flac"), ("mov", "alac"), ("avi", "pcm_s16le")])
@pytest.mark.parametrize(("lengths_s", "video_s"), [((2.0,), 4.0), ((2.0, 5.0), 0.0), ((2.0, 1.0), 3.0)])
def test_the_first_audio_track_is_read_whatever_the_other_tracks_last(
    write, container: str, codec: str, lengths_s: tuple[float, ...], video_s: float
) -> None:
    path = write(with_tracks(container, codec, *lengths_s, video_s=video_s))
    samples = load(path)
    assert abs(len(samples) / 16_000 - 2.0) < 0.1
    assert probe(path).frames == len(samples)
    assert np.corrcoef(samples[:32_000], tone(2.0)[: len(samples)])[0, 1] > 0.99


def test_raw_aac_behind_an_id3_tag_is_read(write) -> None:
    content, _ = made("aac")
    usual = load(write(content))
    tag = b"ID3\x04\0\0\0\0\x10\0" + bytes(2048)
    np.testing.assert_array_equal(load(write(tag + content)), usual)
    assert load_code(write((tag + content)[:-100])) == "truncated"


def test_stereo_keeps_its_channels(write) -> None:
    left, right = tone(1.0, 16_000, 440.0), tone(1.0, 16_000, 1500.0)
    path = write(packed(np.stack([left, right], axis=1), "mp4", "alac"))
    np.testing.assert_allclose(load(path, channel=0), left, atol=1e-4)
    np.testing.assert_allclose(load(path, channel=1), right, atol=1e-4)
    assert probe(path).channels == 2


def test_a_second_container_behind_the_first_is_refused(write) -> None:
    for kind in ("m4a", "webm"):
        content, _ = made(kind)
        with pytest.raises(RecordError, match="second recording") as caught:
            load(write(content + content))
        assert caught.value.code == "decode_error"


@pytest.mark.parametrize("kind", ["aac", "ac3"])
def test_joined_raw_streams_are_decoded_to_the_end(write, kind: str) -> None:
    content, rate_hz = made(kind)
    once = len(load(write(content), rate_hz=rate_hz)) / rate_hz
    assert abs(len(load(write(content + content), rate_hz=rate_hz)) / rate_hz - 2 * once) < 0.1


def test_a_raw_stream_that_changes_its_rate_is_a_decode_error(write) -> None:
    content = made("aac")[0] + packed(swept(2.0, 22_050), "adts", "aac", 22_050)
    assert load_code(write(content)) == "decode_error"


def test_without_pyav_a_container_is_refused_with_the_remedy(write, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert not ffmpeg.has_av()
    for kind in ("m4a", "ogg flac", "g726 wav"):
        with pytest.raises(RecordError, match=r"curate-speech\[av\]") as caught:
            load(write(made_without_av(kind)))
        assert caught.value.code == "decode_error"


_MADE = {kind: made(kind)[0] for kind in ("m4a", "ogg flac", "g726 wav")}


def made_without_av(kind: str) -> bytes:
    return _MADE[kind]


def test_a_video_without_sound_is_not_audio(write) -> None:
    import io

    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as muxer:
        stream = muxer.add_stream("mpeg4", rate=10, width=32, height=32, pix_fmt="yuv420p")
        for _ in range(5):
            muxer.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        muxer.mux(stream.encode(None))
    assert load_code(write(out.getvalue())) == "not_audio"


def test_libsndfile_reads_what_it_can(write, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for container in ("WAV", "FLAC", "OGG", "AIFF", "CAF"):
        assert load(write(encoded(tone(), container))).shape == (16_000,)
