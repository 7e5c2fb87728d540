"""Files that are not audio say what they are; audio is never mistaken for them."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import encoded, tone

from curate.audio import load, probe
from curate.audio.sniff import require_audio
from curate.errors import RecordError


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.wav", encoded(tone()))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>", "HTML"),
        (b'\xef\xbb\xbf  \n<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
        (b'{"error": "not found"}', "text"),
        ("Größe: unbekannt, Straße gesperrt. ".encode() * 3, "text"),
        (gzip.compress(encoded(tone())), "gzip"),
        (zipped(), "zip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(100), "JPEG"),
        (b"%PDF-1.7\n", "PDF"),
    ],
)
def test_another_kind_of_file_is_not_audio_and_the_message_says_what_it_is(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for read in (load, probe):
        with pytest.raises(RecordError, match=says) as caught:
            read(path)
        assert caught.value.code == "not_audio"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00" + bytes(100), "M4A"),
        (b"\x1aE\xdf\xa3" + bytes(100), "WebM"),
        (b"RIFF\x24\x00\x00\x00WAVE", "cannot be decoded"),
    ],
)
def test_audio_that_libsndfile_cannot_read_is_a_decode_error(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=says) as caught:
        load(path)
    assert caught.value.code == "decode_error"


@pytest.mark.parametrize(
    "content",
    [
        bytes(4000),
        np.random.default_rng(7).bytes(40_000),
        b"\xff\xfb" + np.random.default_rng(8).bytes(40_000),
        b"\xff\xe3" + np.random.default_rng(9).bytes(200),
        (tone(1.0) * 20_000).astype("<i2").tobytes(),
        tone(1.0).tobytes(),
    ],
)
def test_random_bytes_and_samples_without_a_header_are_not_audio(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for read in (load, probe):
        with pytest.raises(RecordError) as caught:
            read(path)
        assert caught.value.code == "not_audio"


@pytest.mark.parametrize("container", sorted(set(soundfile.available_formats()) - {"RAW", "SD2", "XI", "WVE"}))
def test_no_sound_format_is_taken_for_something_else(container: str) -> None:
    rate_hz = 44_100 if container in {"MPC2K"} else 16_000
    require_audio(encoded(tone(0.1, rate_hz), container, rate_hz=rate_hz)[:64], "a")
