"""Audio that is published: lossless where it can be, the same bytes every time, and copied where nothing changes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate.audio import Audio, RecordingCache
from curate.audio.encoding import CODECS, AudioEncoding, codec_of, encode_samples
from curate.errors import PlanError, RecordError
from tests.unit.audio.audio_files import encoded, tone

pytest.importorskip("av")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], str]:
    def write(content: bytes) -> str:
        (tmp_path / "sound").write_bytes(content)
        return str(tmp_path / "sound")

    return write


def decoded(content: bytes) -> tuple[np.ndarray[Any, Any], int]:
    return soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_codec_gives_the_same_bytes_and_the_same_length(codec: Any, channels: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (16_123, channels)).astype(np.float32)
    first, second = (encode_samples(samples, 16_000, codec) for _ in range(2))
    assert first == second
    assert codec_of(first.content[:64]) == codec
    again, rate_hz = decoded(first.content)
    assert (rate_hz, again.shape[1]) == (16_000, channels)
    assert abs(len(again) - 16_123) <= (0 if codec in ("flac", "wav") else 16)
    assert first.duration_s == round(16_123 / 16_000, 6)


@pytest.mark.parametrize("codec", ["flac", "wav"])
@pytest.mark.parametrize(("bit_depth", "scale"), [(16, 2**15), (24, 2**23)])
def test_integers_are_kept_to_the_last_bit(codec: Any, bit_depth: int, scale: int) -> None:
    integers = np.random.default_rng(1).integers(-scale, scale, 5_000)
    samples = (integers / scale).astype(np.float32)
    again, _ = decoded(encode_samples(samples, 8_000, codec, bit_depth=bit_depth).content)
    np.testing.assert_array_equal(again[:, 0], samples)


def encode(path: str, record: dict[str, Any] | None = None, **settings: Any) -> Any:
    with Audio.of({"audio_filepath": path, **(record or {})}) as audio:
        return AudioEncoding(**settings).encode(audio, is_whole=record is None)


def test_a_file_that_needs_no_change_is_copied(write: Any) -> None:
    path = write(encoded(tone(1.0), "FLAC"))
    found = encode(path)
    assert found.copied
    assert found.content == Path(path).read_bytes()
    assert (found.rate_hz, found.channels, found.duration_s) == (16_000, 1, 1.0)


@pytest.mark.parametrize(
    ("settings", "record"),
    [
        ({"codec": "wav"}, None),
        ({"rate_hz": 8_000}, None),
        ({"copy": False}, None),
        ({}, {"offset": 0.25, "duration": 0.5}),
    ],
)
def test_what_changes_is_encoded(write: Any, settings: dict[str, Any], record: dict[str, Any] | None) -> None:
    found = encode(write(encoded(tone(1.0), "FLAC")), record, **settings)
    assert not found.copied
    assert found.rate_hz == settings.get("rate_hz", 16_000)
    assert found.duration_s == (0.5 if record else 1.0)


def as_floats(path: str, record: dict[str, Any] | None = None, channels: str = "mono") -> Any:
    """Encode what is decoded to floats."""
    with Audio.of({"audio_filepath": path, **(record or {})}) as audio:
        samples = audio.native() if channels == "all" else audio.samples(audio.rate_hz)
        return encode_samples(samples, audio.rate_hz, "flac")


@pytest.mark.parametrize("format", ["FLAC", "WAV"])
@pytest.mark.parametrize("record", [None, {"offset": 0.25, "duration": 0.5}, {"offset": 18.0, "duration": 1.999}])
@pytest.mark.parametrize("channels", ["mono", "all"])
def test_integers_are_encoded_as_they_are_to_the_bytes_that_floats_give(
    write: Any, format: str, record: dict[str, Any] | None, channels: str
) -> None:
    samples = np.random.default_rng(2).uniform(-1, 1, (320_000, 2 if channels == "all" else 1))
    samples[:4, 0] = (-1, 1, 0.999985, 2**-16)
    path = write(encoded(samples, format))
    with Audio.of({"audio_filepath": path, **(record or {})}) as audio:
        found = audio.integers()
        assert found is not None and found.dtype == np.int16
        np.testing.assert_array_equal(found / np.float32(2**15), audio.native())
    assert encode(path, record, channels=channels, copy=False) == as_floats(path, record, channels)


@pytest.mark.parametrize(("format", "subtype"), [("WAV", "PCM_24"), ("WAV", "FLOAT"), ("MP3", "MPEG_LAYER_III")])
def test_recordings_of_other_samples_are_no_integers(write: Any, format: str, subtype: str) -> None:
    path = write(encoded(tone(0.5), format, subtype))
    with Audio.of({"audio_filepath": path}) as audio:
        assert audio.integers() is None
        assert audio.duration_s == pytest.approx(0.5, abs=0.1)


def test_what_is_in_memory_is_not_decoded_again_for_its_integers(write: Any) -> None:
    path = write(encoded(tone(0.5), "FLAC"))
    with RecordingCache() as recordings:
        audio = recordings.audio({"audio_filepath": path})
        audio.samples()
        before = recordings.decodes
        assert audio.integers() is None
        assert recordings.audio({"audio_filepath": path, "offset": 0.1, "duration": 0.1}).integers() is None
        assert recordings.decodes == before


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ({"offset": 0.1, "duration": 0.2, "channel": 1}, "unsupported_channels"),
        ({"offset": 7.0, "duration": 0.2}, "bad_segment"),
        ({"offset": 0.0, "duration": 0.0}, "zero_samples"),
        ({"offset": 4.5, "duration": 0.4}, "truncated"),  # the last quarter of the file is missing
        (None, "truncated"),
    ],
)
def test_what_is_wrong_is_found_in_integers_as_in_floats(write: Any, record: dict[str, Any] | None, code: str) -> None:
    content = encoded(np.random.default_rng(3).uniform(-0.5, 0.5, 80_000), "FLAC")
    path = write(content[: len(content) * 3 // 4])
    for encode_it in (lambda: encode(path, record, copy=False), lambda: as_floats(path, record)):
        with pytest.raises(RecordError) as caught:
            encode_it()
        assert caught.value.code == code


def test_several_channels_become_one_or_stay(write: Any) -> None:
    stereo = np.stack([tone(0.5), 0.5 * tone(0.5)], axis=1)
    path = write(encoded(stereo, "FLAC"))
    assert encode(path).channels == 1
    kept = encode(path, channels="all")
    assert (kept.channels, kept.copied) == (2, True)
    resampled, rate_hz = decoded(encode(path, channels="all", rate_hz=8_000).content)
    assert (rate_hz, resampled.shape) == (8_000, (4_000, 2))


def test_a_rate_that_a_codec_lacks_becomes_the_next_higher_one(write: Any) -> None:
    path = write(encoded(tone(0.5, 11_025), "WAV", rate_hz=11_025))
    assert encode(path, codec="opus").rate_hz == 12_000
    assert encode(path, codec="mp3").rate_hz == 11_025


@pytest.mark.parametrize(
    "settings",
    [{"codec": "aac"}, {"channels": "left"}, {"bit_depth": 8}, {"rate_hz": 10}, {"codec": "opus", "rate_hz": 44_100}],
)
def test_settings_that_cannot_be_are_plan_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=next(iter(settings)) if len(settings) == 1 else "rate_hz"):
        AudioEncoding(**settings).check()


def test_what_a_codec_cannot_hold_is_the_records_error() -> None:
    with pytest.raises(RecordError, match="holds 2 channels, not 3"):
        encode_samples(np.zeros((100, 3), np.float32), 16_000, "mp3")
    with pytest.raises(RecordError) as caught:
        encode_samples(np.full(10, np.nan, np.float32), 16_000, "wav")
    assert caught.value.code == "non_finite"
