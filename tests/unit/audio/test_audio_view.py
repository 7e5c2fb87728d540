"""What an `Audio` is: one definition of a segment's samples, wherever they come from."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
from audio_files import encoded, mp3, swept, tone

from curate.audio import Audio, AudioSettings, RecordingCache, Spool, load, load_ahead, load_record, reader
from curate.audio.recording import BLOCK_SAMPLES
from curate.errors import RecordError

KINDS = {
    "wav": lambda s, r: encoded(swept(s, r), "WAV", rate_hz=r),
    "float wav": lambda s, r: encoded(swept(s, r), "WAV", "FLOAT", r),
    "flac": lambda s, r: encoded(swept(s, r), "FLAC", rate_hz=r),
    "stereo flac": lambda s, r: encoded(swept(s, r)[:, None] * np.array([1.0, 0.4], np.float32), "FLAC", rate_hz=r),
    "vorbis": lambda s, r: encoded(swept(s, r), "OGG", rate_hz=r),
    "mp3": lambda s, r: mp3(s, "VARIABLE", r),
}
INEXACT = ("vorbis", "mp3")


@pytest.fixture
def write(tmp_path: Path):
    def write(content: bytes, name: str = "a.bin") -> str:
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return write


def segments(seconds: float, length_s: float) -> list[dict[str, float]]:
    return [{"offset": k * length_s, "duration": length_s} for k in range(int(seconds / length_s))]


# ---------------------------------------------------------------- one definition


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_a_segment_is_the_same_bits_from_everywhere(write, tmp_path: Path, kind: str, rate_hz: int) -> None:
    path = write(KINDS[kind](20.0, 44_100))
    record = {"audio_filepath": path, "offset": 12.3457, "duration": 2.00003}
    alone = load_record(record, rate_hz=rate_hz)
    native = load(path, rate_hz=44_100, max_duration_s=math.inf, channel=0)
    start, stop = round(12.3457 * 44_100), round((12.3457 + 2.00003) * 44_100)
    np.testing.assert_array_equal(
        load_record(record, rate_hz=44_100) if kind != "stereo flac" else native[start:stop], native[start:stop]
    )
    parent = Audio.of({"audio_filepath": path})
    untouched = Audio.of({"audio_filepath": path})
    parent.samples(rate_hz)
    found = {
        "of": Audio.of(record).samples(rate_hz),
        "a cut": parent.cut(12.3457, 12.3457 + 2.00003).samples(rate_hz),
        "a cut of what is not decoded yet": untouched.cut(12.3457, 12.3457 + 2.00003).samples(rate_hz),
        "a cut of a cut": parent.cut(10.0, 19.0).cut(2.3457, 2.3457 + 2.00003).samples(rate_hz),
        "blocks": np.concatenate(list(Audio.of(record).blocks(0.37, rate_hz))),
        "load_ahead": next(load_ahead([record], rate_hz=rate_hz))[1],
    }
    for max_bytes in (1, 2**20, 2**28):
        for spool in (None, Spool(tmp_path / f"spool{max_bytes}")):
            with RecordingCache(max_bytes, spool=spool) as cache:
                other = cache.audio({**record, "offset": 15.0})
                other.samples(rate_hz)
                found[f"a cache of {max_bytes}, spool: {spool is not None}"] = cache.audio(record).samples(rate_hz)
    for place, samples in found.items():
        np.testing.assert_array_equal(samples, alone, err_msg=place)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [0.001, 0.1, 0.7331, 1.0, 60.0])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
def test_joined_blocks_are_the_samples_bit_for_bit(write, kind: str, seconds: float, rate_hz: int) -> None:
    record = {"audio_filepath": write(KINDS[kind](3.0, 44_100))}
    blocks = list(Audio.of(record).blocks(seconds, rate_hz))
    assert {len(block) for block in blocks[:-1]} <= {round(seconds * rate_hz)}
    assert 0 < len(blocks[-1]) <= round(seconds * rate_hz)
    np.testing.assert_array_equal(np.concatenate(blocks), Audio.of(record).samples(rate_hz))


def test_blocks_do_not_hold_the_recording(write) -> None:
    record = {"audio_filepath": write(encoded(np.zeros(44_100 * 120, np.float32), "FLAC", rate_hz=44_100))}
    with RecordingCache(2**20) as cache:
        audio = cache.audio(record)
        total = sum(len(block) for block in audio.blocks(1.0))
        assert total == 120 * 16_000
        assert cache.held_bytes < 2**20


def test_times_between_two_frames_round_up_whatever_their_last_bits(write) -> None:
    """0.01 s at 22,050 Hz is frame 220.5; sums of such times are off in their last bits."""
    assert reader.frame_at(0.01, 22_050) == 221
    assert reader.frame_at(0.7 + 0.1 + 0.01, 22_050) == reader.frame_at(0.81, 22_050)
    path = write(encoded(tone(3.0, 22_050), "WAV", rate_hz=22_050))
    parts = [load(path, offset_s=k / 100, duration_s=0.01, rate_hz=22_050) for k in range(300)]
    np.testing.assert_array_equal(np.concatenate(parts), load(path, rate_hz=22_050))


# ---------------------------------------------------------------- what an Audio says and does


def test_the_native_samples_are_untouched(write) -> None:
    stereo = np.stack([tone(1.0, 44_100) * 3, tone(1.0, 44_100)], axis=1)
    audio = Audio.of({"audio_filepath": write(encoded(stereo, "WAV", "FLOAT", 44_100))})
    np.testing.assert_array_equal(audio.native(), stereo)
    assert (audio.duration_s, audio.rate_hz, audio.channels) == (1.0, 44_100, 2)
    part = audio.cut(0.25, 0.5)
    np.testing.assert_array_equal(part.native(), stereo[11_025:22_050])
    assert part.duration_s == 0.25


def test_what_is_returned_is_read_only_and_remembered(write) -> None:
    audio = Audio.of({"audio_filepath": write(encoded(tone(1.0)))})
    samples = audio.samples()
    assert audio.samples() is samples
    assert audio.samples(8_000) is audio.samples(8_000)
    for array in (samples, audio.native(), audio.cut(0.1, 0.2).native()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    own = audio.take_samples()
    own[0] = 9.0
    assert audio.samples()[0] != 9.0


def test_a_cut_shares_the_frames_of_what_was_decoded(write) -> None:
    audio = Audio.of({"audio_filepath": write(encoded(tone(2.0)))})
    native = audio.native()
    assert np.shares_memory(audio.cut(0.5, 1.0).native(), native)


@pytest.mark.parametrize(("start", "end", "code"), [(0.5, 2.5, "truncated"), (3.0, 4.0, "bad_segment")])
def test_a_cut_outside_is_refused_at_its_use(write, start: float, end: float, code: str) -> None:
    audio = Audio.of({"audio_filepath": write(encoded(tone(2.0)))})
    with pytest.raises(RecordError) as caught:
        audio.cut(start, end).samples()
    assert caught.value.code == code
    with pytest.raises(RecordError) as caught:
        audio.cut(1.0, 0.5)
    assert caught.value.code == "bad_segment"


def test_a_closed_audio_decodes_again(write) -> None:
    audio = Audio.of({"audio_filepath": write(mp3(2.0))})
    first = audio.samples().copy()
    audio.close()
    assert audio.held_bytes == 0
    np.testing.assert_array_equal(audio.samples(), first)


def test_an_audio_of_over_an_hour_is_too_long_to_hold_and_can_be_read_in_blocks(write) -> None:
    record = {"audio_filepath": write(encoded(np.zeros(3601 * 1000, np.float32), "FLAC", rate_hz=1000))}
    audio = Audio.of(record)
    with pytest.raises(RecordError) as caught:
        audio.samples()
    assert caught.value.code == "too_long"
    assert sum(len(block) for block in audio.blocks(60.0, 1000)) == 3601 * 1000


def test_blocks_without_a_sample_are_the_caller_s_fault(write) -> None:
    audio = Audio.of({"audio_filepath": write(encoded(tone(1.0)))})
    for seconds in (0.0, -1.0, 1e-9, math.nan):
        with pytest.raises(ValueError, match="no sample"):
            audio.blocks(seconds)


# ---------------------------------------------------------------- claims


@pytest.mark.parametrize(
    ("claimed", "reported"),
    [
        (2.0, None),
        (2.09, None),
        (2.11, 2.11),
        (100_000, 100_000.0),
        (0.5, 0.5),
        (None, None),
        ("2", None),
        (True, None),
    ],
)
def test_a_duration_that_differs_from_the_decoded_length_is_reported(write, claimed: object, reported) -> None:
    audio = Audio.of({"audio_filepath": write(encoded(tone(2.0), "FLAC")), "duration": claimed})
    assert audio.duration_s == 2.0
    assert audio.claimed_duration_s == reported


def test_one_percent_of_a_long_recording_is_no_mismatch(write) -> None:
    path = write(encoded(tone(60.0), "FLAC"))
    assert Audio.of({"audio_filepath": path, "duration": 60.5}).claimed_duration_s is None
    assert Audio.of({"audio_filepath": path, "duration": 60.7}).claimed_duration_s == 60.7
    assert Audio.of({"audio_filepath": path, "duration": 2}).claimed_duration_s == 2.0
    assert Audio.of({"audio_filepath": path, "offset": 1.0, "duration": 2.0}).claimed_duration_s is None


def test_the_tolerance_at_the_end_is_a_setting_that_the_error_names(write) -> None:
    for content in (encoded(tone(2.0), "FLAC"), mp3(2.0)):
        record = {"audio_filepath": write(content), "offset": 1.0, "duration": 1.2}
        with pytest.raises(RecordError, match="end_tolerance_s") as caught:
            Audio.of(record).samples()
        assert caught.value.code == "truncated"
        settings = AudioSettings(end_tolerance_s=0.25)
        assert Audio.of(record, settings=settings).duration_s == pytest.approx(1.0)
        assert len(load_record(record, settings=settings)) == 16_000


# ---------------------------------------------------------------- one decode


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_decodes_a_recording_once_for_it_its_children_and_all_rates(write, kind: str) -> None:
    path = write(KINDS[kind](20.0, 44_100))
    with RecordingCache() as cache:
        for _ in range(4):
            audio = cache.audio({"audio_filepath": path})
            audio.samples()
            audio.samples(8_000)
            audio.native()
            list(audio.blocks(1.0))
            assert audio.duration_s == pytest.approx(20.0)
            for segment in segments(20.0, 0.5):
                cache.audio({"audio_filepath": path, **segment}).samples()
        assert cache.decodes == 1
        assert cache.decoded_s == pytest.approx(20.0)


@pytest.mark.parametrize("kind", INEXACT)
@pytest.mark.parametrize("with_spool", [False, True])
def test_segments_in_any_order_cost_one_decode(write, tmp_path: Path, kind: str, with_spool: bool) -> None:
    path = write(KINDS[kind](150.0, 22_050))
    order = [segments(150.0, 1.5)[k] for k in np.random.default_rng(0).permutation(100)]
    with RecordingCache(spool=Spool(tmp_path / "spool") if with_spool else None) as cache:
        for segment in order:
            cache.audio({"audio_filepath": path, **segment}).samples()
        assert cache.decodes == 1
        assert cache.decoded_s == pytest.approx(150.0)
        assert (tmp_path / "spool").exists() == with_spool


def test_segments_of_a_flac_cost_what_they_are_long(write) -> None:
    path = write(KINDS["flac"](60.0, 22_050))
    with RecordingCache() as cache:
        for segment in reversed(segments(60.0, 6.0)):
            cache.audio({"audio_filepath": path, **segment}).samples()
        assert cache.decoded_s == pytest.approx(60.0)


def test_a_cache_stays_within_its_bytes(write) -> None:
    paths = [write(encoded(tone(10.0)), f"{k}.wav") for k in range(10)]
    with RecordingCache(3_000_000) as cache:
        for path in paths:
            audio = cache.audio({"audio_filepath": path})
            audio.samples(8_000)
            assert cache.held_bytes <= 3_000_000 + 960_000
        assert cache.decodes == 10
        assert cache.held_bytes > 1_000_000
    assert cache.held_bytes == 0


def test_a_file_that_is_replaced_is_another_recording(write) -> None:
    record = {"audio_filepath": write(encoded(tone(1.0)))}
    with RecordingCache() as cache:
        assert cache.audio(record).duration_s == 1.0
        Path(record["audio_filepath"]).unlink()
        write(encoded(tone(2.0)))
        assert cache.audio(record).duration_s == 2.0


def test_threads_share_one_decode(write) -> None:
    path = write(mp3(30.0))
    wanted = [load(path, offset_s=k, duration_s=1.0) for k in range(0, 30, 3)]
    with RecordingCache() as cache:
        found: dict[int, np.ndarray] = {}

        def hear(k: int) -> None:
            found[k] = cache.audio({"audio_filepath": path, "offset": float(3 * k), "duration": 1.0}).samples()

        threads = [threading.Thread(target=hear, args=(k,)) for k in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert cache.decodes == 1
    for k, samples in found.items():
        np.testing.assert_array_equal(samples, wanted[k])


def test_progress_is_reported_for_every_block(write) -> None:
    seen: list[None] = []
    with RecordingCache(on_progress=lambda: seen.append(None)) as cache:
        cache.audio({"audio_filepath": write(encoded(tone(60.0)))}).samples()
    assert len(seen) >= 60 * 16_000 // BLOCK_SAMPLES


@pytest.mark.parametrize("with_spool", [False, True])
def test_segments_before_the_damage_of_an_mp3_are_good(write, tmp_path: Path, with_spool: bool) -> None:
    whole = mp3(150.0, rate_hz=22_050)
    path = write(whole[: len(whole) // 2])
    good = load(path, offset_s=10.0, duration_s=2.0)
    with RecordingCache(spool=Spool(tmp_path / "spool") if with_spool else None) as cache:
        np.testing.assert_array_equal(
            cache.audio({"audio_filepath": path, "offset": 10.0, "duration": 2.0}).samples(), good
        )
        for _ in range(2):
            with pytest.raises(RecordError) as caught:
                cache.audio({"audio_filepath": path, "offset": 100.0, "duration": 2.0}).samples()
            assert caught.value.code == "truncated"
        with pytest.raises(RecordError) as caught:
            cache.audio({"audio_filepath": path}).samples()
        assert caught.value.code == "truncated"
        assert cache.decodes <= 2


def test_load_ahead_decodes_a_long_mp3_once_for_all_its_segments(write) -> None:
    path = write(mp3(150.0, rate_hz=22_050))
    records = [{"audio_filepath": path, **segment} for segment in segments(150.0, 1.5)]
    records = [records[k] for k in np.random.default_rng(1).permutation(len(records))]
    with RecordingCache() as cache:
        for record, samples in load_ahead(records, recordings=cache):
            assert isinstance(samples, np.ndarray), record
        assert cache.decodes == 1
