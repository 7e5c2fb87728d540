"""What the headers of containers that only FFmpeg reads say of their length in bytes.

FFmpeg reads a torn file to where it ends and says nothing.
"""

from __future__ import annotations

import struct

from curate.audio.files import AudioFile
from curate.audio.frames import FRAMED_DEMUXERS, frames_missing_bytes

_UNKNOWN_32 = 0xFFFFFFFF
_BOXES = 100_000
_UNKNOWN_SIZE = {length: (1 << 7 * length) - 1 for length in range(1, 9)}
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_OBJECTS = 1000


def container_missing_bytes(file: AudioFile, demuxer: str) -> int:
    """Return how many bytes the container promises and the file does not hold; 0 when it promises nothing."""
    if demuxer == "mov":
        return _boxes_missing(file)
    if demuxer == "matroska":
        return _matroska_missing(file)
    if demuxer == "asf":
        return _asf_missing(file)
    if demuxer == "avi":
        return _riff_missing(file)
    return frames_missing_bytes(file, demuxer) if demuxer in FRAMED_DEMUXERS else 0


def _boxes_missing(file: AudioFile) -> int:
    """MP4 is a row of boxes, each with its size."""
    offset = 0
    for _ in range(_BOXES):
        header = file.pread(16, offset)
        if len(header) < 8:
            return 0
        size = struct.unpack(">I", header[:4])[0]
        if size == 1 and len(header) == 16:
            size = struct.unpack(">Q", header[8:])[0]
        if size == 0:  # up to the end of the file
            return 0
        if size < 8 or not all(0x20 <= byte < 0x7F for byte in header[4:8]):
            return 0
        offset += size
        if offset >= file.size:
            return offset - file.size
    return 0


def _riff_missing(file: AudioFile) -> int:
    """AVI is a RIFF file; one above 1 GB has several, of which the first says its own size."""
    size = struct.unpack("<I", file.pread(8, 0)[4:])[0]
    return max(0, size + 8 - file.size) if size != _UNKNOWN_32 else 0


def _matroska_missing(file: AudioFile) -> int:
    """Matroska is an EBML header and a segment; a segment of unknown size is a stream, which lasts to the end."""
    offset = 0
    for _ in range(2):
        name, at = _ebml_number(file, offset, keep_marker=True)
        size, at = _ebml_number(file, at, keep_marker=False)
        if name is None or size is None:
            return 0
        if name == _SEGMENT:
            return max(0, at + size - file.size)
        offset = at + size
    return 0


def _ebml_number(file: AudioFile, offset: int, *, keep_marker: bool) -> tuple[int | None, int]:
    """An EBML number and what is behind it; None when there is none, or it says "unknown"."""
    first = file.pread(1, offset)
    if not first or not first[0]:
        return None, offset
    length = 9 - first[0].bit_length()
    raw = file.pread(length, offset)
    if len(raw) < length:
        return None, offset
    value = int.from_bytes(raw, "big")
    if keep_marker:
        return value, offset + length
    value &= _UNKNOWN_SIZE[length]
    return (None if value == _UNKNOWN_SIZE[length] else value), offset + length


def _asf_missing(file: AudioFile) -> int:
    """WMA has its size in bytes in an object of its header; 0 for a live stream."""
    offset = 30
    for _ in range(_ASF_OBJECTS):
        header = file.pread(24, offset)
        if len(header) < 24:
            return 0
        size = struct.unpack("<Q", header[16:])[0]
        if header.startswith(_ASF_FILE_PROPERTIES):
            raw = file.pread(24, offset + 24)
            return max(0, struct.unpack("<Q", raw[16:])[0] - file.size) if len(raw) == 24 else 0
        if size < 24:
            return 0
        offset += size
    return 0
