"""The length of an MP3 file in samples, counted from its frame headers.

MPEG audio has no length. libsndfile takes the one in the Xing/Info frame of the encoder, or else guesses from the
first frame's bitrate and the file's size, and never gives more samples than it guessed: a variable-bitrate file
without that frame, or two files joined with `cat`, lose their end without a word. So the headers are walked here,
without decoding, whenever the Xing frame is missing or describes only a part of the file; and libsndfile is shown a
Xing frame with the number that was found.
"""

from __future__ import annotations

import struct

import attrs

from curate.audio.files import AudioFile
from curate.audio.window import Window

_SEARCH_BYTES = 1 << 16
_FREE_FORMAT_BYTES = 8192
_HEADER = 4
_XING = (b"Xing", b"Info")
_CONSTANT = b"Info"
"""What the Xing frame of a constant bit rate is called."""

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
        has_length: a Xing frame, the encoder's or one that is shown in its place, covers the whole file.
        frames: samples per channel in all frames, when they had to be walked; else None.
        missing_bytes: how far the last frame, or the length in bytes of the Xing frame, reaches behind the end.
        end: where the last frame ends, in bytes.
        start: where the first frame begins, in bytes.
        prefix: a Xing frame to show before the first frame.
        patches: bytes to show in place of the file's own, as `(offset, bytes)`.
        changes_at: where frames of another rate or number of channels begin, in bytes; None when they do not.
    """

    has_length: bool
    frames: int | None
    missing_bytes: int
    end: int
    start: int = 0
    prefix: bytes = b""
    patches: tuple[tuple[int, bytes], ...] = ()
    changes_at: int | None = None


@attrs.frozen
class _Frame:
    """One frame header: the bits that no frame of a stream may change, its bytes, those of the mean frame of its bit
    rate, its samples, its Xing offset.
    """

    kind: tuple[int, int, int, bool]
    length: int
    mean_length: float
    samples: int
    xing_at: int


def read_mpeg_length(file: AudioFile) -> MpegLength | None:
    """The length of an MPEG audio file, or None when the file is something else (or of free bitrate)."""
    window = Window(file)
    start = skip_id3(window)
    first = _frame_at(window, start)
    if first is None or not _followed(window, start, first):
        found = _search(window, start + 1, start + _SEARCH_BYTES, None)
        if found is None:
            return None
        start, first = found
    xing = window.read(start + first.xing_at, 16)
    if xing[:4] in _XING and len(xing) == 16:
        flags, frame_count, byte_count = struct.unpack(">III", xing[4:])
        if flags & 1 and flags & 2 and (frame_count or byte_count):
            end = start + byte_count
            whole = MpegLength(True, None, max(0, end - file.size), min(end, file.size), start)
            if end > file.size:
                return whole
            # Frames behind the promised end: joined files, whose Xing frame counts only the first of them.
            is_last = byte_count > 0 and _search(window, end, file.size, None) is None
            if (
                is_last
                and xing[:4] == _CONSTANT
                and abs(frame_count * first.mean_length - byte_count) < 3 * first.length
            ):
                return whole
            walked = _walk(window, start, first)  # of a variable bit rate nothing else shows that the number is too low
            if walked.changes_at is None and walked.count <= frame_count + 2:
                return whole  # it counts all frames, and only its bytes are wrong
            return walked.as_length(_patched_xing(window, start + first.xing_at, flags, walked, file.size))
        if flags & 1 and frame_count and not flags & 2:
            walked = _walk(window, start, first)
            if walked.changes_at is None and walked.count <= frame_count + 2:
                return attrs.evolve(walked.as_length(()), frames=None)
            return walked.as_length(())
    return _without_xing(file, _walk(window, start, first), window.read(start, _HEADER))


def is_free_format(file: AudioFile) -> bool:
    """Whether the file begins with MPEG frames of free bit rate, whose lengths are not in their headers."""
    window = Window(file)
    start = skip_id3(window)
    header = window.read(start, _HEADER)
    if len(header) < _HEADER or header[2] >> 4 or _parse(bytes((*header[:2], header[2] | 0x50, header[3]))) is None:
        return False
    again = window.read(start + _HEADER, _FREE_FORMAT_BYTES)
    return again.count(header[:3]) >= 1


@attrs.frozen
class _Walk:
    """All frames of a file: how many, their samples, and how they end."""

    start: int
    end: int
    count: int
    samples: int
    missing_bytes: int
    changes_at: int | None

    def as_length(self, patches: tuple[tuple[int, bytes], ...], prefix: bytes = b"") -> MpegLength:
        return MpegLength(
            has_length=bool(patches or prefix),
            frames=self.samples,
            missing_bytes=self.missing_bytes,
            end=self.end,
            start=self.start,
            prefix=prefix,
            patches=patches,
            changes_at=self.changes_at,
        )


def _walk(window: Window, start: int, first: _Frame) -> _Walk:
    """Follow the frames to the end. A Xing frame at the start is none of them; one in the middle is decoded."""
    samples = count = missing_bytes = 0
    changes_at: int | None = None
    offset = end = start
    if window.read(offset + first.xing_at, 4) in _XING:
        offset = end = start + first.length
    while True:
        frame = _frame_at(window, offset)
        if frame is None or frame.kind != first.kind:
            # A tag at the end, or damage in the middle that the decoder will step over as well.
            found = _search(window, offset, window.size, None)
            if found is None:
                break
            if found[1].kind != first.kind:
                changes_at = found[0]
                break
            offset, frame = found
        if offset + frame.length > window.size:
            missing_bytes = offset + frame.length - window.size
            end = window.size
            break
        samples += frame.samples
        count += 1
        offset += frame.length
        end = offset
    return _Walk(start, end, count, samples, missing_bytes, changes_at)


def _patched_xing(window: Window, at: int, flags: int, walked: _Walk, size: int) -> tuple[tuple[int, bytes], ...]:
    """What to show in place of a Xing frame that counts only the first of several joined files.

    The encoder's delay at the start stays; its padding at the end is in the middle now.
    """
    patches = [(at + 8, struct.pack(">II", walked.count, size - walked.start))]
    lame = at + 16 + (100 if flags & 4 else 0) + (4 if flags & 8 else 0)
    delays = window.read(lame + 21, 3)
    if window.read(lame, 4) in (b"LAME", b"Lavf", b"Lavc") and len(delays) == 3:
        patches.append((lame + 21, bytes((delays[0], delays[1] & 0xF0, 0))))
    return tuple(patches)


def _without_xing(file: AudioFile, walked: _Walk, header: bytes) -> MpegLength:
    """Show a Xing frame before the first frame of a file that has none, which libsndfile would take a guess at."""
    return walked.as_length((), _xing_frame(header, walked.count, file.size - walked.start))


def _xing_frame(header: bytes, count: int, size: int) -> bytes:
    """A silent frame of the same kind that says how many frames follow; empty for layers that have none."""
    for bitrate in range(1, 15):
        shown = bytes((0xFF, header[1] | 1, bitrate << 4 | header[2] & 0x0C, header[3]))
        frame = _parse(shown)
        if frame is not None and frame.kind[1] == 3 and frame.length >= frame.xing_at + 16:
            body = bytearray(frame.length)
            body[:_HEADER] = shown
            body[frame.xing_at : frame.xing_at + 16] = b"Xing" + struct.pack(">III", 3, count, size + frame.length)
            return bytes(body)
    return b""


def _search(
    window: Window, start: int, stop: int, kind: tuple[int, int, int, bool] | None
) -> tuple[int, _Frame] | None:
    """The first place in `[start, stop)` where some frames of one kind follow each other."""
    offset = start
    while (offset := window.find(b"\xff", offset, stop)) >= 0:
        frame = _frame_at(window, offset)
        if frame is not None and kind in (None, frame.kind) and _followed(window, offset, frame):
            return offset, frame
        offset += 1
    return None


def _followed(window: Window, offset: int, frame: _Frame) -> bool:
    """Whether two more frames of the same kind follow, or the file ends behind this or the next one.

    Two bytes in 30,000 look like the start of a frame, so one that follows could be chance.
    """
    for more in range(2):
        offset += frame.length
        if offset >= window.size:
            return more > 0
        after = _frame_at(window, offset)
        if after is None or after.kind != frame.kind:
            return more > 0 and _is_tag(window, offset)
        frame = after
    return True


def _is_tag(window: Window, offset: int) -> bool:
    return window.read(offset, 3) in (b"TAG", b"APE", b"ID3", b"LYR")


def _frame_at(window: Window, offset: int) -> _Frame | None:
    return _parse(window.read(offset, _HEADER))


def _parse(header: bytes) -> _Frame | None:
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
    return _Frame(
        kind=(version, layer, rate, mono),
        length=length,
        mean_length=samples / 8 * bits / rate_hz,
        samples=samples,
        xing_at=_HEADER + side_info,
    )


def skip_id3(window: Window) -> int:
    """Return where the ID3 tags at the start of a file end."""
    offset = 0
    while (tag := window.read(offset, 10))[:3] == b"ID3" and len(tag) == 10:
        size = 0
        for byte in tag[6:10]:
            size = size << 7 | byte & 0x7F
        offset += 10 + size
    return offset
