"""Raw streams that are a row of frames, each with its length: AAC (ADTS), AC-3, E-AC-3, MPEG transport streams.

They have no length; but the last frame of a torn one is cut off, and FFmpeg leaves it out without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from curate.audio.files import AudioFile
from curate.audio.mpeg import skip_id3
from curate.audio.window import Window

TS_PACKET_BYTES = 188

_HEADER = 7
_AC3_KBIT = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def frames_missing_bytes(file: AudioFile, demuxer: str) -> int:
    """Return how many bytes the last frame lacks: 0 when it is whole, or something else ends the stream."""
    if demuxer == "mpegts":
        return -file.size % TS_PACKET_BYTES
    length_of = _LENGTHS[demuxer]
    window = Window(file)
    offset = skip_id3(window)
    while offset < file.size:
        length = length_of(window.read(offset, min(_HEADER, file.size - offset)))
        if not length:
            return 0
        offset += length
    return offset - file.size


def adts_length(header: bytes) -> int:
    """Return the bytes of the ADTS frame that begins here; 0 when none does."""
    if len(header) < _HEADER or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or header[2] >> 2 & 15 > 12:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length > _HEADER else 0


def _ac3_length(header: bytes) -> int:
    if len(header) < 5 or header[:2] != b"\x0bw":
        return 0
    rate, size = header[4] >> 6, header[4] & 63
    if rate == 3 or size >= 2 * len(_AC3_KBIT):
        return 0
    kbit = _AC3_KBIT[size // 2]
    return 2 * (2 * kbit, 320 * kbit // 147 + (size & 1), 3 * kbit)[rate]


def _eac3_length(header: bytes) -> int:
    return 2 * (((header[2] & 7) << 8 | header[3]) + 1) if len(header) >= 4 and header[:2] == b"\x0bw" else 0


_LENGTHS: Mapping[str, Callable[[bytes], int]] = {"aac": adts_length, "ac3": _ac3_length, "eac3": _eac3_length}
FRAMED_DEMUXERS = frozenset({*_LENGTHS, "mpegts"})
"""The formats that `frames_missing_bytes` knows."""
