"""Files of several recordings: decoded to the end, or refused; no part is left out in silence."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from audio_files import encoded, mp3, swept, tone, without_first_mpeg_frame

from curate.audio import load, probe
from curate.errors import RecordError


def refusal(path: Path) -> RecordError:
    with pytest.raises(RecordError) as caught:
        load(path)
    with pytest.raises(RecordError) as probed:
        probe(path)
    assert probed.value.code == caught.value.code
    return caught.value


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_chained_ogg_is_decoded_to_the_end_of_the_last_stream(write, subtype: str) -> None:
    first = encoded(tone(2.0), "OGG", subtype)
    second = encoded(tone(1.0, hz=880.0), "OGG", subtype)
    parts = [load(write(first)), load(write(second)), load(write(first))]
    path = write(first + second + first)
    np.testing.assert_array_equal(load(path), np.concatenate(parts))
    assert probe(path).duration_s == pytest.approx(5.0)


def test_a_segment_of_chained_ogg_lies_where_it_lies_in_the_whole(write) -> None:
    path = write(encoded(tone(2.0), "OGG") + encoded(tone(2.0, hz=880.0), "OGG"))
    whole = load(path)
    np.testing.assert_array_equal(load(path, offset_s=1.5, duration_s=1.0), whole[24_000:40_000])
    np.testing.assert_array_equal(load(path, offset_s=3.0, duration_s=1.0), whole[48_000:])


def test_chained_ogg_of_two_rates_is_a_decode_error(write) -> None:
    path = write(encoded(tone(1.0), "OGG") + encoded(tone(1.0, 22_050), "OGG", rate_hz=22_050))
    assert refusal(path).code == "decode_error"


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_cut_between_two_pages_is_truncated(write, subtype: str) -> None:
    whole = encoded(swept(20.0, 16_000), "OGG", subtype)
    pages = [at for at in range(len(whole)) if whole.startswith(b"OggS", at)]
    assert len(pages) > 4
    assert refusal(write(whole[: pages[-1]])).code == "truncated"
    assert refusal(write(whole[: pages[3]])).code == "truncated"
    assert refusal(write(whole[: pages[-1]] + whole)).code == "truncated"


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("gap", [b"", bytes(417), b"TAG" + bytes(125), b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)])
def test_joined_mp3_is_decoded_to_the_end_of_the_last_part(write, mode: str, gap: bytes) -> None:
    part = mp3(3.0, mode)
    path = write(part + gap + part)
    joined = load(path, rate_hz=44_100)
    assert abs(len(joined) / 44_100 - 6.0) < 0.15
    assert probe(path).frames == len(joined)
    assert np.abs(joined[-44_100:]).max() > 0.05


def test_joined_mp3_without_xing_frames_is_decoded_to_the_end(write) -> None:
    bare = without_first_mpeg_frame(mp3(3.0, "VARIABLE"))
    assert abs(probe(write(bare + bare)).duration_s - 6.0) < 0.15
    assert abs(len(load(write(bare + mp3(3.0)), rate_hz=44_100)) / 44_100 - 6.0) < 0.2


def with_xing_count(content: bytes, factor: float) -> bytes:
    """The same MP3 with another number of frames in its Xing frame."""
    changed = bytearray(content)
    at = max(changed.find(b"Xing"), changed.find(b"Info"))
    (count,) = struct.unpack(">I", changed[at + 8 : at + 12])
    changed[at + 8 : at + 12] = struct.pack(">I", int(count * factor))
    return bytes(changed)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("factor", [0.0, 0.5, 0.9])
def test_an_mp3_whose_header_counts_too_few_frames_is_decoded_to_the_end(write, mode: str, factor: float) -> None:
    content = mp3(6.0, mode)
    usual = load(write(content), rate_hz=44_100)
    path = write(with_xing_count(content, factor))
    samples = load(path, rate_hz=44_100)
    assert abs(len(samples) / 44_100 - 6.0) < 0.1
    assert probe(path).frames == len(samples)
    np.testing.assert_allclose(samples[: len(usual)], usual, atol=1e-4)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_an_mp3_whose_header_counts_too_many_frames_is_truncated(write, mode: str) -> None:
    assert refusal(write(with_xing_count(mp3(3.0, mode), 3.0))).code == "truncated"


@pytest.mark.parametrize("other", [mp3(1.0, rate_hz=48_000), mp3(1.0, rate_hz=22_050)])
def test_joined_mp3_of_two_rates_is_a_decode_error(write, other: bytes) -> None:
    error = refusal(write(mp3(1.0) + other))
    assert error.code == "decode_error"
    assert "cut it at byte" in str(error)


@pytest.mark.parametrize("first", ["FLAC", "WAV", "RF64", "W64", "AIFF", "AU", "CAF", "OGG"])
@pytest.mark.parametrize("second", ["FLAC", "WAV", "AIFF", "OGG"])
def test_another_recording_behind_the_first_is_refused_with_its_place(write, first: str, second: str) -> None:
    if first == second == "OGG":
        pytest.skip("that is chained Ogg, which is read")
    begin = encoded(tone(1.0), first)
    if first == "FLAC" and second != "FLAC":
        pytest.skip("FLAC says nothing of where it ends")
    path = write(begin + encoded(tone(1.0), second))
    error = refusal(path)
    assert error.code == "decode_error"
    assert f"at byte {len(begin)}" in str(error)
    if first != "OGG" and not first == second == "WAV":  # libsndfile refuses the latter whole
        assert load(path, offset_s=0.2, duration_s=0.5).shape == (8_000,), "a segment of the first is whole"


def test_a_wav_stream_of_unknown_size_with_another_behind_it_is_refused(write) -> None:
    wav = encoded(tone(1.0))
    stream = wav[:4] + b"\xff\xff\xff\xff" + wav[8:40] + b"\xff\xff\xff\xff" + wav[44:]
    assert refusal(write(stream + stream)).code == "decode_error"
    assert load(write(stream)).shape == (16_000,)


def test_tags_behind_the_samples_are_no_second_recording(write) -> None:
    for content in (encoded(tone(1.0)), encoded(tone(1.0), "FLAC"), mp3(1.0)):
        usual = load(write(content))
        np.testing.assert_array_equal(load(write(content + b"TAG" + bytes(125))), usual)
