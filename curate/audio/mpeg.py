"""The length of an MP3 file in samples, counted from its frame headers.

MPEG audio declares no length. libsndfile takes the one in the encoder's Xing/Info frame, or else guesses from the
first frame's bitrate and the file's size, and never returns more samples than it guessed: a variable-bitrate file
without that frame, or two files joined with `cat`, silently lose their end. So this module walks the headers, without
decoding, whenever the Xing frame is missing or describes only a part of the file.
"""

from __future__ import annotations

import struct

import attrs

from curate.audio.files import AudioFile

_WINDOW_BYTES = 1 << 20
_SEARCH_BYTES = 1 << 16
_HEADER = 4

_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_KBIT = {
    (3, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@attrs.frozen
class MpegLength:
    """The length of an MPEG audio file according to its frame headers.

    Attributes:
        has_length: whether the encoder wrote a length that covers the whole file.
        frames: samples per channel in all frames, when they had to be counted; else None.
        missing_bytes: how far the last frame, or the byte count of the Xing frame, reaches past the end.
    """

    has_length: bool
    frames: int | None
    missing_bytes: int


@attrs.frozen
class _Frame:
    """One frame header: the bits that no frame of a stream may change, its bytes, its samples, its Xing offset."""

    kind: tuple[int, int, int]
    length: int
    samples: int
    xing_at: int


def read_mpeg_length(file: AudioFile) -> MpegLength | None:
    """Return the length of an MPEG audio file, or None when the file is something else (or of free bitrate)."""
    window = _Window(file)
    start = _skip_id3(window)
    first = _frame_at(window, start)
    if first is None or not _followed(window, start, first):
        found = _search(window, start + 1, start + _SEARCH_BYTES, None)
        if found is None:
            return None
        start, first = found
    xing = window.read(start + first.xing_at, 16)
    if xing[:4] in (b"Xing", b"Info") and len(xing) == 16:
        flags, frame_count, byte_count = struct.unpack(">III", xing[4:])
        if flags & 1 and frame_count and flags & 2 and byte_count:
            end = start + byte_count
            # A frame after the declared end means joined files, of which the Xing frame counts only the first.
            if end > file.size or _frame_at(window, end) is None:
                return MpegLength(has_length=True, frames=None, missing_bytes=max(0, end - file.size))
        elif flags & 1 and frame_count:
            return MpegLength(has_length=True, frames=None, missing_bytes=0)
    return _walk(window, start, first)


def _walk(window: _Window, start: int, first: _Frame) -> MpegLength:
    samples = 0
    offset = start
    while True:
        frame = _frame_at(window, offset)
        if frame is None or frame.kind != first.kind:
            # A tag at the end, or damage in the middle that the decoder will skip as well.
            found = _search(window, offset, window.size, first.kind)
            if found is None:
                return MpegLength(has_length=False, frames=samples, missing_bytes=0)
            offset, frame = found
        if offset + frame.length > window.size:
            return MpegLength(has_length=False, frames=samples, missing_bytes=offset + frame.length - window.size)
        if window.read(offset + frame.xing_at, 4) not in (b"Xing", b"Info"):
            samples += frame.samples
        offset += frame.length


def _search(window: _Window, start: int, stop: int, kind: tuple[int, int, int] | None) -> tuple[int, _Frame] | None:
    """Return the first offset in `[start, stop)` where two frames of one kind follow each other."""
    offset = start
    while (offset := window.find(b"\xff", offset, stop)) >= 0:
        frame = _frame_at(window, offset)
        if frame is not None and kind in (None, frame.kind) and _followed(window, offset, frame):
            return offset, frame
        offset += 1
    return None


def _followed(window: _Window, offset: int, frame: _Frame) -> bool:
    after = _frame_at(window, offset + frame.length)
    return after is not None and after.kind == frame.kind


def _frame_at(window: _Window, offset: int) -> _Frame | None:
    header = window.read(offset, _HEADER)
    if len(header) < _HEADER or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bitrate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return None
    rate_hz = _RATES_HZ[version][rate]
    bits = 1000 * _KBIT[(3, layer) if version == 3 else (2, min(layer, 2))][bitrate - 1]
    if layer == 1:
        samples, length = 384, (12 * bits // rate_hz + padding) * 4
    else:
        samples = 576 if layer == 3 and version != 3 else 1152
        length = samples // 8 * bits // rate_hz + padding
    mono = header[3] >> 6 == 3
    side_info = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return _Frame(kind=(version, layer, rate), length=length, samples=samples, xing_at=_HEADER + side_info)


def _skip_id3(window: _Window) -> int:
    offset = 0
    while (tag := window.read(offset, 10))[:3] == b"ID3" and len(tag) == 10:
        size = 0
        for byte in tag[6:10]:
            size = size << 7 | byte & 0x7F
        offset += 10 + size
    return offset


class _Window:
    """Small reads at rising offsets out of large ones."""

    def __init__(self, file: AudioFile) -> None:
        self.size = file.size
        self._file = file
        self._start = 0
        self._bytes = b""

    def read(self, offset: int, length: int) -> bytes:
        if not self._start <= offset <= offset + length <= self._start + len(self._bytes):
            self._start = offset
            self._bytes = self._file.pread(_WINDOW_BYTES, offset) if offset < self.size else b""
        at = offset - self._start
        return self._bytes[at : at + length]

    def find(self, byte: bytes, start: int, stop: int) -> int:
        """Return the offset of the next such byte in `[start, stop)`, or -1."""
        stop = min(stop, self.size)
        while start < stop:
            self.read(start, 1)
            at = self._bytes.find(byte, start - self._start, stop - self._start)
            if at >= 0:
                return self._start + at
            start = self._start + len(self._bytes)
        return -1
