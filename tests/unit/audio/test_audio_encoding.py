"""Audio that is published: lossless where it can be, the same bytes every time, and copied where nothing changes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate.audio import Audio
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
