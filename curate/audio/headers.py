"""The length that a file's own header declares, by which a truncated file is recognised.

libsndfile silently shortens a file whose header declares more than the file holds. Only the container headers are
read here; libsndfile reads the samples.

Covered: WAV (RIFF, RIFX, RF64), W64, AIFF, AU, CAF, NIST SPHERE, Ogg (its pages), MP3, MP4, Matroska, WMA, raw AAC.
FLAC counts its samples, which `decode` compares. Rare formats (VOC, PAF, IRCAM, …) are taken at libsndfile's word.
"""

from __future__ import annotations

import itertools
import re
import struct

import attrs

from curate.audio.containers import container_missing_bytes
from curate.audio.ffmpeg import demuxer_for
from curate.audio.files import AudioFile
from curate.audio.mpeg import MpegLength, read_mpeg_length
from curate.audio.ogg import read_ogg_layout

_UNKNOWN_32 = 0xFFFFFFFF
_UNKNOWN_64 = (0xFFFFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0)
_CHUNKS = 1000
_EXTENSIBLE = 0xFFFE
_MPEG_TAGS = (0x50, 0x55)


@attrs.frozen
class DeclaredLength:
    """The length of a file according to its container's header.

    Attributes:
        missing_bytes: how many promised bytes the file does not hold; 0 when it is whole or promises nothing.
        end: where the samples end, in bytes, when the header says it or the pages or frames show it; else None.
        patches: bytes to show the decoder in place of the file's own, as `(offset, bytes)`: the sizes that the writer
            of a WAV stream left at 0, which libsndfile would take for "no samples".
        parts: what to decode one after the other in place of the file: the streams of a chained Ogg, or the MP3
            inside a WAV; empty for the file itself.
        unended: streams of an Ogg file without a last page.
        ogg_granule: the position that the last page of an Ogg file gives; None when there are several streams.
        mpeg: the lengths of an MP3, else None.
        codec_tag: the codec of a WAV, else None.
        demuxer: FFmpeg's name of a container that libsndfile cannot read, else None.
    """

    missing_bytes: int = 0
    end: int | None = None
    patches: tuple[tuple[int, bytes], ...] = ()
    parts: tuple[AudioFile, ...] = ()
    unended: int = 0
    ogg_granule: int | None = None
    mpeg: MpegLength | None = None
    codec_tag: int | None = None
    demuxer: str | None = None


def read_declared_length(file: AudioFile) -> DeclaredLength:
    """Read the container's header. A format that is not covered, or a damaged header, declares nothing."""
    head = file.pread(1024, 0)
    magic = head[:4]
    demuxer = demuxer_for(file, head)
    if demuxer is not None:
        return DeclaredLength(missing_bytes=container_missing_bytes(file, demuxer), demuxer=demuxer)
    if magic in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return _read_wave(file, head)
    if magic == b"riff":
        return _ends(file, _find_chunk(file, 40, b"data", "<16sq", align=8, counts_header=True))
    if magic == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _ends(file, _find_chunk(file, 12, b"SSND", ">4sI", align=2))
    if magic == b"caff":
        return _ends(file, _find_chunk(file, 8, b"data", ">4sq", align=1))
    if magic in (b".snd", b"dns.") and len(head) >= 12:
        return _ends(file, struct.unpack(">II" if magic == b".snd" else "<II", head[4:12]))
    if head.startswith(b"NIST_1A"):
        return _ends(file, _nist_data(head))
    if magic == b"OggS":
        return _read_ogg(file)
    mpeg = read_mpeg_length(file) if magic[:3] == b"ID3" or magic[:1] == b"\xff" else None
    return DeclaredLength() if mpeg is None else _of_mpeg(mpeg)


def _of_mpeg(mpeg: MpegLength) -> DeclaredLength:
    return DeclaredLength(missing_bytes=mpeg.missing_bytes, end=mpeg.end, patches=mpeg.patches, mpeg=mpeg)


def _ends(file: AudioFile, data: tuple[int, int] | None) -> DeclaredLength:
    """Return the declared length of a header that gives the offset and the size in bytes of the samples."""
    if data is None:
        return DeclaredLength()
    offset, size = data
    if size < 0 or size == _UNKNOWN_32 or size in _UNKNOWN_64:
        return DeclaredLength()
    return DeclaredLength(missing_bytes=max(0, offset + size - file.size), end=min(offset + size, file.size))


def _find_chunk(
    file: AudioFile, offset: int, wanted: bytes, layout: str, *, align: int, counts_header: bool = False
) -> tuple[int, int] | None:
    """Return the offset of the chunk's contents and their declared size in bytes; None when there is no such chunk."""
    header = struct.calcsize(layout)
    for _ in range(_CHUNKS):
        raw = file.pread(header, offset)
        if len(raw) < header:
            return None
        name, size = struct.unpack(layout, raw)
        size -= header if counts_header else 0
        offset += header
        if name.startswith(wanted):
            return offset, size
        if size < 0:
            return None
        offset += -(-size // align) * align
    return None


def _read_wave(file: AudioFile, head: bytes) -> DeclaredLength:
    order = ">" if head.startswith(b"RIFX") else "<"
    data = _find_chunk(file, 12, b"data", order + "4sI", align=2)
    if data is None:
        return DeclaredLength()
    offset, size = data
    tag = _codec_tag(file, order)
    if tag in _MPEG_TAGS and size > 0:
        stop = min(offset + size, file.size)
        mpeg = read_mpeg_length(file.part(offset, stop))
        if mpeg is not None:
            whole = _of_mpeg(mpeg)
            return attrs.evolve(
                whole,
                missing_bytes=max(whole.missing_bytes, offset + size - file.size if size != _UNKNOWN_32 else 0),
                end=stop,
                parts=(file.part(offset, stop),),
                codec_tag=tag,
            )
    return attrs.evolve(_wave_end(file, head, order, offset, size), codec_tag=tag)


def _wave_end(file: AudioFile, head: bytes, order: str, offset: int, size: int) -> DeclaredLength:
    if head.startswith(b"RF64"):
        ds64 = _find_chunk(file, 12, b"ds64", "<4sI", align=2)
        raw = file.pread(16, ds64[0]) if ds64 is not None else b""
        return _ends(file, (offset, struct.unpack("<QQ", raw)[1])) if len(raw) == 16 else DeclaredLength()
    if size != 0 or offset >= file.size or _is_chunk(file, offset, order):
        return _ends(file, (offset, size))
    # A stream whose writer could not seek back to fill in the sizes: everything up to the end is samples.
    samples = min(file.size - offset, _UNKNOWN_32)
    sizes = struct.pack(order + "I", min(file.size - 8, _UNKNOWN_32)), struct.pack(order + "I", samples)
    return DeclaredLength(patches=((4, sizes[0]), (offset - 4, sizes[1])))


def _codec_tag(file: AudioFile, order: str) -> int | None:
    """The number of the codec of a WAV; for the extensible form, the number inside it."""
    fmt = _find_chunk(file, 12, b"fmt ", order + "4sI", align=2)
    raw = b"" if fmt is None else file.pread(26, fmt[0])
    if len(raw) < 2:
        return None
    tag = struct.unpack(order + "H", raw[:2])[0]
    return struct.unpack(order + "H", raw[24:26])[0] if tag == _EXTENSIBLE and len(raw) == 26 else tag


def _is_chunk(file: AudioFile, offset: int, order: str) -> bool:
    """Return whether a chunk (`LIST`, `id3 `, …) begins here, rather than samples."""
    raw = file.pread(8, offset)
    if len(raw) < 8 or not all(0x20 <= byte < 0x7F for byte in raw[:4]):
        return False
    return offset + 8 + struct.unpack(order + "I", raw[4:])[0] <= file.size


def _nist_data(head: bytes) -> tuple[int, int] | None:
    fields = dict(re.findall(rb"^(\w+) -\w+ ([^\n]*)$", head, re.MULTILINE))
    coding = fields.get(b"sample_coding", b"pcm").strip()
    try:
        header = int(head[8:16])
        count, width, channels = (int(fields[key]) for key in (b"sample_count", b"sample_n_bytes", b"channel_count"))
    except (KeyError, ValueError):
        return None
    # Compressed codings (shorten) declare samples, not bytes.
    return (header, count * width * channels) if coding in (b"pcm", b"ulaw", b"mu-law", b"alaw") else None


def _read_ogg(file: AudioFile) -> DeclaredLength:
    layout = read_ogg_layout(file)
    borders = (*layout.starts, file.size)
    parts = tuple(file.part(start, stop) for start, stop in itertools.pairwise(borders))
    return DeclaredLength(
        missing_bytes=layout.missing_bytes,
        end=layout.end,
        parts=parts if len(parts) > 1 else (),
        unended=layout.unended,
        ogg_granule=layout.last_granule,
    )
