"""What `probe` and `load` make of files whole, torn, forged and strange."""

from __future__ import annotations

import itertools
import math
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from audio_files import encoded, flac_with_length, mp3, swept, tone, wav_with_sizes, without_first_mpeg_frame

from curate.audio import AudioInfo, load, load_record, probe, recording
from curate.errors import RecordError

SPEECH = Path(__file__).parents[4] / "shared" / "speech"


def load_code(path: Path, **options: object) -> str:
    with pytest.raises(RecordError) as caught:
        load(path, **options)  # type: ignore[arg-type]
    return caught.value.code


def probe_code(path: Path) -> str:
    with pytest.raises(RecordError) as caught:
        probe(path)
    return caught.value.code


# ---------------------------------------------------------------- whole files


def test_a_whole_file_comes_as_float32_mono(write) -> None:
    path = write(encoded(tone(), "FLAC"))
    samples = load(path)
    assert samples.dtype == np.float32
    assert samples.shape == (16_000,)
    np.testing.assert_array_equal(samples, soundfile.read(path, dtype="float32")[0])
    assert probe(path) == AudioInfo(16_000, 16_000, 1, 1.0, "FLAC", "PCM_16")


def test_stereo_at_44100_becomes_the_same_sine_in_mono_at_16000(write) -> None:
    t = np.arange(44_100 * 2) / 44_100
    left = (0.6 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    path = write(encoded(np.stack([left, left / 3], axis=1), "WAV", "FLOAT", 44_100))
    samples = load(path)
    expected = 0.4 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
    assert samples.shape == (32_000,)
    assert np.abs(samples - expected)[200:-200].max() < 1e-4


def test_channels_are_averaged_or_picked(write) -> None:
    channels = np.stack([np.full(1000, v, np.float32) for v in (0.3, -0.1, 0.7)], axis=1)
    path = write(encoded(channels, "WAV", "FLOAT"))
    np.testing.assert_allclose(load(path), 0.3, rtol=1e-6)
    np.testing.assert_array_equal(load(path, channel=2), channels[:, 2])
    assert load_code(path, channel=3) == "unsupported_channels"


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 22_050, 44_100, 48_000, 768_000, 1000])
@pytest.mark.parametrize("frames", [147, 1000, 65_536, 70_001])
def test_the_resampled_length_is_the_exact_one_rounded_half_up(write, rate_hz: int, frames: int) -> None:
    path = write(encoded(np.zeros(frames, np.float32), rate_hz=rate_hz))
    assert load(path, max_duration_s=math.inf).shape == (math.floor(frames * 16_000 / rate_hz + 0.5),)


def test_fewer_frames_than_one_sample_of_the_result_are_zero_samples(write) -> None:
    assert load_code(write(encoded(np.ones(1, np.float32), rate_hz=48_000))) == "zero_samples"


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "stereo wav"])
def test_the_samples_do_not_depend_on_the_size_of_the_blocks(write, monkeypatch, kind: str) -> None:
    stereo = swept(2.0, 44_100)[:, None] * np.array([1.0, 0.5], np.float32)
    path = write(
        {
            "wav": lambda: encoded(swept(2.0, 44_100), "WAV", rate_hz=44_100),
            "flac": lambda: encoded(swept(2.0, 44_100), "FLAC", rate_hz=44_100),
            "ogg": lambda: encoded(swept(2.0, 44_100), "OGG", rate_hz=44_100),
            "mp3": lambda: mp3(2.0, "VARIABLE"),
            "stereo wav": lambda: encoded(stereo, "WAV", rate_hz=44_100),
        }[kind]()
    )
    usual = load(path)
    for frames in (999, 4096, 1 << 20):
        monkeypatch.setattr(recording, "BLOCK_SAMPLES", frames)
        np.testing.assert_array_equal(load(path), usual)


def test_the_samples_do_not_depend_on_the_thread(write) -> None:
    path = write(encoded(swept(3.0, 44_100), "FLAC", rate_hz=44_100))
    usual = load(path)
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.extend(load(path) for _ in range(5))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    assert all(np.array_equal(result, usual) for result in results)


def test_resampling_in_blocks_is_resampling_at_once(write) -> None:
    samples = swept(4.0, 44_100)
    path = write(encoded(samples, "WAV", "FLOAT", 44_100))
    np.testing.assert_array_equal(load(path), soxr.resample(samples, 44_100, 16_000, "HQ"))


# ---------------------------------------------------------------- torn files


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "MS_ADPCM"),
        ("WAV", "GSM610"),
        ("WAVEX", "PCM_24"),
        ("RF64", "PCM_16"),
        ("W64", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("AU", "PCM_16"),
        ("CAF", "PCM_16"),
        ("CAF", "ALAC_16"),
        ("NIST", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
    ],
)
@pytest.mark.parametrize("left", [0.999, 0.9, 0.5])
def test_a_torn_file_is_truncated(write, container: str, subtype: str, left: float) -> None:
    whole = encoded(tone(3.0), container, subtype)
    load(write(whole))
    probe(write(whole))
    torn = write(whole[: int(len(whole) * left)])
    assert load_code(torn) == "truncated"
    assert probe_code(torn) == "truncated"


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("left", [0.9, 0.5])
def test_a_torn_mp3_is_truncated(write, mode: str, left: float) -> None:
    whole = mp3(3.0, mode)
    assert load(write(whole), rate_hz=44_100).shape == (132_300,)
    assert probe(write(whole)).frames == 132_300
    torn = write(whole[: int(len(whole) * left)])
    assert load_code(torn) == "truncated"
    assert probe_code(torn) == "truncated"


def test_a_torn_mp3_is_truncated_also_when_the_xing_frame_has_no_byte_count(write) -> None:
    whole = bytearray(mp3(3.0))
    at = whole.find(b"Info")
    whole[at + 7] &= ~2  # drop the flag, and the field with it
    whole[at + 12 : at + 16] = b""
    assert load_code(write(bytes(whole[: len(whole) // 2]))) == "truncated"
    assert probe_code(write(bytes(whole[: len(whole) // 2]))) == "truncated"


def test_an_mp3_without_xing_frame_is_counted_and_its_torn_last_frame_noticed(write) -> None:
    bare = without_first_mpeg_frame(mp3(3.0))
    path = write(bare)
    info = probe(path)
    assert abs(info.frames - 132_300) <= 3 * 1152
    assert load(path, rate_hz=44_100).shape == (info.frames,)
    assert load_code(write(bare[: len(bare) // 2 + 7])) == "truncated"
    tagged = write(bare + b"TAG" + bytes(125))
    assert load(tagged, rate_hz=44_100).shape == (info.frames,)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_an_mp3_whose_length_libsndfile_would_guess_is_read_to_its_end(write, mode: str) -> None:
    """A variable bitrate that starts low, without a Xing frame."""
    path = write(without_first_mpeg_frame(mp3(3.0, mode)))
    assert abs(probe(path).duration_s - 3.0) < 0.1
    assert len(load(path, rate_hz=44_100)) == probe(path).frames


def test_a_wav_that_claims_two_gigabytes_is_truncated(write) -> None:
    wav = encoded(tone())
    for size in (0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFF00, 32_002):
        assert load_code(write(wav_with_sizes(wav, 36 + 32_000, size))) == "truncated"
        assert probe_code(write(wav_with_sizes(wav, 36 + 32_000, size))) == "truncated"


@pytest.mark.parametrize(
    ("riff", "data"), [(0xFFFFFFFF, 0xFFFFFFFF), (0, 0), (8, 0), (36, 0), (0xFFFFFFFF, 0), (0, 0xFFFFFFFF)]
)
def test_a_wav_stream_with_unknown_sizes_is_taken_as_it_is(write, riff: int, data: int) -> None:
    wav = encoded(tone())
    path = write(wav_with_sizes(wav, riff, data))
    np.testing.assert_array_equal(load(path), load(write(wav)))
    write(wav_with_sizes(wav, riff, data))
    assert probe(path).frames == 16_000


def test_an_au_stream_of_unknown_size_is_taken_as_it_is(write) -> None:
    au = encoded(tone(), "AU")
    path = write(au[:8] + b"\xff\xff\xff\xff" + au[12:])
    assert load(path).shape == (16_000,)
    assert probe(path).frames == 16_000


def test_a_flac_of_unknown_length_is_decoded_and_counted(write) -> None:
    flac = encoded(tone(5.0), "FLAC")
    path = write(flac_with_length(flac, 0))
    assert probe(path).frames == 80_000
    unknown = load(path)
    segment = load(path, offset_s=2.0, duration_s=1.0)
    np.testing.assert_array_equal(unknown, load(write(flac)))
    np.testing.assert_array_equal(segment, unknown[32_000:48_000])


def test_a_segment_outside_a_flac_of_unknown_length_is_refused(write) -> None:
    path = write(flac_with_length(encoded(tone(5.0), "FLAC"), 0))
    assert load_code(path, offset_s=6.0) == "bad_segment"
    assert load_code(path, offset_s=4.0, duration_s=2.0) == "truncated"
    assert load(path, offset_s=4.0, duration_s=1.04).shape == (16_000,)
    assert load_code(path, max_duration_s=4.0) == "too_long"


@pytest.mark.parametrize("frames", [2**36 - 1, 80_001])
def test_a_flac_with_a_forged_length_is_truncated_and_allocates_nothing(write, frames: int) -> None:
    path = write(flac_with_length(encoded(tone(5.0), "FLAC"), frames))
    assert probe_code(path) == "truncated"
    assert load_code(path) == "truncated"
    assert load_code(path, max_duration_s=math.inf) == "truncated"


def test_damage_in_the_middle_of_a_flac_is_a_decode_error(write) -> None:
    flac = bytearray(encoded(tone(3.0), "FLAC"))
    flac[len(flac) // 2] ^= 0x5A
    assert load_code(write(bytes(flac))) == "decode_error"


def test_a_file_without_samples_has_zero_samples(write) -> None:
    for container in ("WAV", "AIFF", "AU", "OGG"):
        path = write(encoded(np.zeros(0, np.float32), container))
        assert load_code(path) == "zero_samples"
        assert probe_code(path) == "zero_samples"


def test_an_empty_data_chunk_before_other_chunks_has_zero_samples(write) -> None:
    wav = encoded(np.zeros(0, np.float32)) + b"LIST" + struct.pack("<I", 12) + b"INFOISFT\0\0\0\0"
    assert load_code(write(wav[:4] + struct.pack("<I", len(wav) - 8) + wav[8:])) == "zero_samples"


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("rate_hz", [500, 999, 768_001, 2**31 - 1])
def test_a_rate_out_of_bounds_is_unsupported(write, rate_hz: int) -> None:
    path = write(encoded(np.zeros(100, np.float32), rate_hz=rate_hz))
    assert load_code(path) == "unsupported_rate"
    assert probe_code(path) == "unsupported_rate"


@pytest.mark.parametrize("channels", [0, 65, 1024, 2000])
def test_more_than_64_channels_or_none_are_unsupported(write, channels: int) -> None:
    wav = encoded(tone())
    path = write(wav[:22] + struct.pack("<H", channels) + wav[24:])
    assert load_code(path) == "unsupported_channels"
    assert probe_code(path) == "unsupported_channels"


def test_sixty_four_channels_are_read(write) -> None:
    path = write(encoded(tone(0.1, channels=64), "WAV", "FLOAT"))
    np.testing.assert_allclose(load(path), tone(0.1), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_samples_that_are_no_numbers_are_non_finite_and_the_message_says_where(write, bad: float, rate_hz: int) -> None:
    samples = tone(3.0, rate_hz)
    samples[2 * rate_hz] = bad
    path = write(encoded(samples, "WAV", "FLOAT", rate_hz))
    with pytest.raises(RecordError, match=r"at 2\.000 s") as caught:
        load(path)
    assert caught.value.code == "non_finite"
    assert load(path, offset_s=0.0, duration_s=1.0).shape == (16_000,)


def test_doubles_that_overflow_are_non_finite(write) -> None:
    samples = np.full(50_000, 1e300)
    samples[::7] *= -1
    assert load_code(write(encoded(samples, "WAV", "DOUBLE", 16_000))) == "non_finite"


@pytest.mark.parametrize("scale", [100.0, 32_767.0, 2.0**31, 3.4e38])
def test_floats_at_integer_scale_are_refused_in_every_segment(write, scale: float) -> None:
    samples = tone(4.0) * np.float32(scale)
    samples[:16_000] *= np.float32(0.01 / scale)  # a quiet start would pass by itself
    path = write(encoded(samples, "WAV", "FLOAT"))
    assert load_code(path) == "unsupported_scale"
    assert probe_code(path) == "unsupported_scale"
    assert load_code(path, offset_s=0.1, duration_s=0.5) == "unsupported_scale"


def test_overs_of_a_float_file_are_kept_as_they_are(write) -> None:
    path = write(encoded(tone() * np.float32(4.0), "WAV", "FLOAT"))
    np.testing.assert_array_equal(load(path), tone() * np.float32(4.0))


def test_audio_behind_the_bound_is_too_long(write) -> None:
    path = write(encoded(tone(3.0), "FLAC"))
    assert load_code(path, max_duration_s=2.9) == "too_long"
    assert load(path, max_duration_s=3.0).shape == (48_000,)
    assert load_code(path, duration_s=2.0, max_duration_s=1.0) == "too_long"
    assert load(path, offset_s=2.5, max_duration_s=1.0).shape == (8_000,)


@pytest.mark.parametrize(
    "options", [{"rate_hz": 0}, {"rate_hz": 10**6}, {"max_duration_s": 0}, {"max_duration_s": math.nan}]
)
def test_options_without_sense_are_the_caller_s_fault(write, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        load(write(encoded(tone())), **options)  # type: ignore[arg-type]


# ---------------------------------------------------------------- segments


def test_segments_tile_the_file(write) -> None:
    path = write(encoded(tone(1.0, 22_050), "FLAC", rate_hz=22_050))
    cuts = [0.0, 0.1234567, 0.5, 0.777, 1.0]
    parts = [load(path, offset_s=a, duration_s=b - a, rate_hz=22_050) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), load(path, rate_hz=22_050))


@pytest.mark.parametrize(("container", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_a_segment_of_a_lossy_file_is_the_cut_of_the_whole(write, container: str, subtype: str) -> None:
    rate_hz = 48_000
    path = write(encoded(swept(6.0, rate_hz), container, subtype, rate_hz))
    whole = load(path, rate_hz=rate_hz)
    for start in range(0, len(whole) - 4000, 13_001):
        cut = load(path, offset_s=start / rate_hz, duration_s=4000 / rate_hz, rate_hz=rate_hz)
        np.testing.assert_array_equal(cut, whole[start : start + 4000])


def test_a_segment_in_the_last_page_of_a_vorbis_file_is_the_cut_of_the_whole(write) -> None:
    """Where libsndfile's own seek lands a whole page too early."""
    path = write(encoded(tone(3.0), "OGG"))
    whole = load(path)
    for start in range(40_000, 47_500, 499):
        cut = load(path, offset_s=start / 16_000, duration_s=400 / 16_000)
        np.testing.assert_array_equal(cut, whole[start : start + 400])


def test_a_segment_that_rounding_put_behind_the_end_is_cut_there(write) -> None:
    path = write(encoded(tone(1.0)))
    assert load(path, offset_s=0.5, duration_s=0.55).shape == (8_000,)
    assert load_code(path, offset_s=0.5, duration_s=0.5502) == "truncated"


def test_a_segment_that_starts_behind_the_end_is_bad(write) -> None:
    path = write(encoded(tone(1.0)))
    assert load_code(path, offset_s=1.0) == "bad_segment"
    assert load_code(path, offset_s=5.0, duration_s=1.0) == "bad_segment"
    assert load_code(path, offset_s=1e300) == "bad_segment"


def test_a_segment_is_judged_by_its_own_samples(write) -> None:
    wav = encoded(tone(4.0))
    path = write(wav[: len(wav) // 2])
    np.testing.assert_array_equal(load(path, offset_s=0.5, duration_s=1.0), load(write(wav))[8_000:24_000])
    write(wav[: len(wav) // 2])
    assert load_code(path, offset_s=1.5, duration_s=1.0) == "truncated"
    assert load_code(path, offset_s=3.0, duration_s=0.5) == "truncated"
    assert load_code(path, offset_s=0.5) == "truncated"


def test_a_segment_behind_the_tear_of_a_flac_is_truncated(write) -> None:
    flac = encoded(tone(4.0), "FLAC")
    path = write(flac[: len(flac) // 2])
    assert load(path, offset_s=0.5, duration_s=0.5).shape == (8_000,)
    assert load_code(path, offset_s=3.0, duration_s=0.5) == "truncated"


def test_a_segment_of_no_length_has_zero_samples(write) -> None:
    assert load_code(write(encoded(tone())), offset_s=0.5, duration_s=0.0) == "zero_samples"
    assert load_code(write(encoded(tone())), offset_s=0.5, duration_s=1e-9) == "zero_samples"


# ---------------------------------------------------------------- records


def record_code(record: dict[str, object]) -> str:
    with pytest.raises(RecordError) as caught:
        load_record(record)
    str(caught.value)
    return caught.value.code


def test_a_record_without_offset_is_the_whole_file_whatever_its_duration(write) -> None:
    path = str(write(encoded(tone(2.0))))
    for duration in (0.5, None, "long", 9.0):
        assert load_record({"audio_filepath": path, "duration": duration}).shape == (32_000,)
    assert load_record({"audio_filepath": path, "offset": None, "duration": 0.5}).shape == (32_000,)


def test_a_record_with_offset_is_a_segment(write) -> None:
    path = str(write(encoded(tone(2.0))))
    whole = load_record({"wav": path}, filepath_key="wav")
    segment = load_record({"wav": path, "offset": 0, "duration": 0.5}, filepath_key="wav")
    np.testing.assert_array_equal(segment, whole[:8_000])
    rest = load_record({"wav": path, "offset": 1.5, "duration": None}, filepath_key="wav")
    np.testing.assert_array_equal(rest, whole[24_000:])


def test_a_record_without_its_columns_is_told_so(write) -> None:
    path = str(write(encoded(tone(2.0))))
    assert record_code({}) == "missing_column"
    assert record_code({"audio_filepath": None}) == "missing_column"
    assert record_code({"audio_filepath": 5}) == "bad_path"
    for wrong in ("1.0", True, [1], {}):
        assert record_code({"audio_filepath": path, "offset": wrong}) == "bad_value"
        assert record_code({"audio_filepath": path, "offset": 0.0, "duration": wrong}) == "bad_value"
    for wrong in (-1, math.nan, math.inf, 10**400, 10**5000, -(10**5000)):
        assert record_code({"audio_filepath": path, "offset": wrong}) == "bad_segment"
        assert record_code({"audio_filepath": path, "offset": 0.0, "duration": wrong}) == "bad_segment"


# ---------------------------------------------------------------- real speech


@pytest.mark.skipif(not SPEECH.is_dir(), reason="the shared speech is not here")
def test_real_speech_loads_as_soundfile_and_soxr_read_it() -> None:
    files = sorted(SPEECH.glob("*/audio/*"))
    assert files
    for path in files:
        expected, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        info = probe(path, roots=[SPEECH])
        assert (info.frames, info.rate_hz, info.channels) == (len(expected), rate_hz, expected.shape[1])
        mono = expected.mean(axis=1)
        mono = mono if rate_hz == 16_000 else soxr.resample(mono, rate_hz, 16_000, "HQ")
        np.testing.assert_allclose(load(path, roots=[SPEECH]), mono, atol=1e-6)


def test_a_segment_behind_the_end_is_bad_however_little_the_file_says_of_its_length(write) -> None:
    path = write(flac_with_length(encoded(tone(1.0), "FLAC"), 0))
    assert load_code(path, offset_s=1.5, duration_s=0.2) == "bad_segment"
    assert load_code(path, offset_s=0.5, duration_s=1.0) == "truncated"


def test_a_file_that_was_torn_behind_its_header_is_truncated(write) -> None:
    assert load_code(write(encoded(tone(1.0))[:44])) == "truncated"
    vorbis = encoded(tone(1.0), "OGG", "VORBIS")
    assert load_code(write(vorbis[: len(vorbis) // 2])) == "truncated"
    assert load_code(write(encoded(tone(1.0)[:0]))) == "zero_samples"


def test_the_working_directory_does_not_decide_about_an_mp3(write, tmp_path, monkeypatch) -> None:
    path = write(mp3(1.0))
    (tmp_path / "share" / ".AppleDouble").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "share")
    assert load(path).shape == (16_000,)
