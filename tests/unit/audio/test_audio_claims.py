"""Headers whose sampling rate or channels cannot be true get the code for it, in every container."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest
from audio_files import encoded, tone

from curate.audio import load, probe
from curate.errors import RecordError


def patched(content: bytes, at: int, value: bytes) -> bytes:
    return content[:at] + value + content[at + len(value) :]


def wav(rate_hz: int = 16_000, channels: int = 1) -> bytes:
    return patched(patched(encoded(tone()), 24, struct.pack("<I", rate_hz)), 22, struct.pack("<H", channels))


def au(rate_hz: int = 16_000, channels: int = 1) -> bytes:
    content = encoded(tone(), "AU")
    assert content.startswith(b".snd")
    return patched(content, 16, struct.pack(">II", rate_hz, channels))


def aiff(extended_rate: bytes, channels: int = 1) -> bytes:
    content = encoded(tone(), "AIFF")
    at = content.find(b"COMM")
    return patched(patched(content, at + 16, extended_rate), at + 8, struct.pack(">H", channels))


def caf(rate_hz: float = 16_000.0, channels: int = 1) -> bytes:
    content = encoded(tone(), "CAF")
    at = content.find(b"desc")
    return patched(patched(content, at + 12, struct.pack(">d", rate_hz)), at + 36, struct.pack(">I", channels))


def w64(rate_hz: int = 16_000, channels: int = 1) -> bytes:
    content = encoded(tone(), "W64")
    at = content.find(b"fmt ")
    return patched(patched(content, at + 28, struct.pack("<I", rate_hz)), at + 26, struct.pack("<H", channels))


def flac(rate_hz: int) -> bytes:
    content = encoded(tone(), "FLAC")
    packed = int.from_bytes(content[18:26], "big") & ~(((1 << 20) - 1) << 44) | rate_hz << 44
    return patched(content, 18, packed.to_bytes(8, "big"))


def vorbis(rate_hz: int = 16_000, channels: int = 1) -> bytes:
    content = encoded(tone(), "OGG")
    at = content.find(b"\x01vorbis")
    return patched(content, at + 11, struct.pack("<BI", channels, rate_hz))


def opus(channels: int) -> bytes:
    content = encoded(tone(), "OGG", "OPUS")
    return patched(content, content.find(b"OpusHead") + 9, bytes((channels,)))


def nist(field: bytes, other: bytes) -> bytes:
    content = encoded(tone(), "NIST")
    assert field in content
    return content.replace(field, other)


EXTENDED_16_KHZ = bytes.fromhex("400cfa00000000000000")


def codes_of(tmp_path: Path, content: bytes) -> set[str]:
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    found = set[str]()
    for read in (load, probe):
        with pytest.raises(RecordError) as caught:
            read(path)
        found.add(caught.value.code)
    return found


@pytest.mark.parametrize(
    "content",
    [
        *(wav(rate_hz=rate) for rate in (0, 1, 999, 768_001, 2**31, 2**32 - 1)),
        *(au(rate_hz=rate) for rate in (0, 5, 2**32 - 1)),
        *(caf(rate_hz=rate) for rate in (0.0, -1.0, 1e9, math.nan)),
        nist(b"sample_rate -i 16000", b"sample_rate -i 00000"),
        *(w64(rate_hz=rate) for rate in (0, 2**32 - 1)),
        *(flac(rate_hz=rate) for rate in (0, 1, 999)),
        aiff(bytes(10)),
        aiff(b"\x40\x30" + b"\xff" * 8),
    ],
)
def test_a_rate_that_cannot_be_true_is_unsupported(tmp_path: Path, content: bytes) -> None:
    assert codes_of(tmp_path, content) == {"unsupported_rate"}


@pytest.mark.parametrize(
    "content",
    [
        *(wav(channels=channels) for channels in (0, 65, 1000, 65_535)),
        *(au(channels=channels) for channels in (0, 65, 2**31)),
        *(caf(channels=channels) for channels in (0, 65)),
        *(w64(channels=channels) for channels in (0, 65)),
        *(aiff(EXTENDED_16_KHZ, channels) for channels in (0, 65, 40_000)),
        nist(b"channel_count -i 1", b"channel_count -i 0"),
    ],
)
def test_channels_that_cannot_be_true_are_unsupported(tmp_path: Path, content: bytes) -> None:
    assert codes_of(tmp_path, content) == {"unsupported_channels"}


@pytest.mark.parametrize("content", [vorbis(rate_hz=0), vorbis(channels=0), opus(0), opus(200)])
def test_any_other_header_that_cannot_be_true_is_refused_with_a_code(tmp_path: Path, content: bytes) -> None:
    assert codes_of(tmp_path, content) <= {"unsupported_rate", "unsupported_channels", "decode_error"}
