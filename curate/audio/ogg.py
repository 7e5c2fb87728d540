"""The pages of an Ogg file: the streams that follow each other in it, and whether the last one is whole.

Ogg has no length. But every page says how long it is, and the last page of a stream is marked. Files joined with `cat`
are valid Ogg ("chained"), of which libsndfile reads the first stream only.
"""

from __future__ import annotations

import attrs

from curate.audio.files import AudioFile
from curate.audio.window import Window

_HEADER = 27
_BEGINS, _ENDS = 2, 4
_CAPTURE = b"OggS"


@attrs.frozen
class OggLayout:
    """What the pages of an Ogg file say.

    Attributes:
        starts: where each chained stream begins, in bytes; one for an ordinary file.
        end: where the last page ends.
        missing_bytes: what the last page lacks.
        unended: how many streams have no last page.
        last_granule: the position that the last page with one gives, which is in samples for FLAC and Speex; None when
            there are several streams.
    """

    starts: tuple[int, ...]
    end: int
    missing_bytes: int
    unended: int
    last_granule: int | None


def read_ogg_layout(file: AudioFile) -> OggLayout:
    """Read the headers of all pages. Bytes between pages are skipped, as decoders skip them."""
    window = Window(file)
    starts: list[int] = []
    open_serials: set[bytes] = set()
    unended = granule = 0
    serials: set[bytes] = set()
    in_headers = False  # the first pages of multiplexed streams follow each other
    offset = end = 0
    while offset < file.size:
        header = window.read(offset, _HEADER)
        if not header.startswith(_CAPTURE) or len(header) < _HEADER:
            found = window.find_bytes(_CAPTURE, offset + 1)
            if found < 0:
                break
            offset = found
            continue
        segments = header[26]
        lacing = window.read(offset + _HEADER, segments)
        length = _HEADER + segments + sum(lacing)
        serial = header[14:18]
        serials.add(serial)
        position = int.from_bytes(header[6:14], "little", signed=True)
        granule = position if position > 0 else granule
        if header[5] & _BEGINS:
            if not in_headers:
                unended += len(open_serials)
                open_serials.clear()
                starts.append(offset)
            in_headers = True
            open_serials.add(serial)
        else:
            in_headers = False
        if header[5] & _ENDS:
            open_serials.discard(serial)
        offset += length
        end = offset
        if offset > file.size:
            break
    return OggLayout(
        starts=tuple(starts),
        end=end,
        missing_bytes=max(0, end - file.size),
        unended=unended + len(open_serials),
        last_granule=granule if len(serials) == 1 else None,
    )
