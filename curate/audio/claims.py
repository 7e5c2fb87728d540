"""The sampling rate and the channels that a header claims, for a file that the decoder refused to open."""

from __future__ import annotations

import math
import re
import struct

import attrs

from curate.audio.files import AudioFile

_WAVE_SEARCHED = 4096


@attrs.frozen
class FormatClaim:
    """What a header says, true or not."""

    rate_hz: int
    channels: int


def read_format_claim(file: AudioFile) -> FormatClaim | None:
    """Read the claim of a WAV, W64, AIFF, AU, CAF, NIST, FLAC, Vorbis or Opus header; None for any other."""
    head = file.pread(_WAVE_SEARCHED, 0)
    try:
        return _claim(head)
    except (struct.error, IndexError, OverflowError, ValueError):
        return None


def _claim(head: bytes) -> FormatClaim | None:
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and (at := head.find(b"fmt ")) > 0:
        channels, rate_hz = struct.unpack((">" if head[:4] == b"RIFX" else "<") + "HI", head[at + 10 : at + 16])
    elif head[:4] == b"riff" and (at := head.find(b"fmt ")) > 0:
        channels, rate_hz = struct.unpack("<HI", head[at + 26 : at + 32])
    elif head[:4] == b"FORM" and (at := head.find(b"COMM")) > 0:
        channels = struct.unpack(">H", head[at + 8 : at + 10])[0]
        exponent, mantissa = struct.unpack(">HQ", head[at + 16 : at + 26])
        rate_hz = int(mantissa * 2.0 ** ((exponent & 0x7FFF) - 16446))
    elif head[:4] == b".snd":
        rate_hz, channels = struct.unpack(">II", head[16:24])
    elif head[:4] == b"caff" and (at := head.find(b"desc")) > 0:
        rate = struct.unpack(">d", head[at + 12 : at + 20])[0]
        rate_hz = int(rate) if math.isfinite(rate) else 0
        channels = struct.unpack(">I", head[at + 36 : at + 40])[0]
    elif head[:4] == b"fLaC":
        packed = int.from_bytes(head[18:26], "big")
        rate_hz, channels = packed >> 44, (packed >> 41 & 7) + 1
    elif head.startswith(b"NIST_1A"):
        fields = dict(re.findall(rb"^(sample_rate|channel_count) -i (\d+)\s*$", head[:1024], re.MULTILINE))
        rate_hz, channels = int(fields.get(b"sample_rate", b"16000")), int(fields.get(b"channel_count", b"1"))
    elif (at := head.find(b"\x01vorbis")) > 0:
        channels, rate_hz = struct.unpack("<BI", head[at + 11 : at + 16])
    elif (at := head.find(b"OpusHead")) > 0:
        channels, rate_hz = head[at + 9], 48_000
    else:
        return None
    return FormatClaim(rate_hz=rate_hz, channels=channels)
