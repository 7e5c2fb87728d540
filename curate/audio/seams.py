"""Where a second recording begins in a file, which a decoder of the first would leave out without a word.

Files are joined with `cat`, by recorders that append, and by downloads that were resumed from the start. Streams that
a decoder reads on (chained Ogg, MP3 frames of the same kind) do not count as seams.
"""

from __future__ import annotations

import re

from curate.audio.files import AudioFile
from curate.audio.window import Window

_STREAMS = re.compile(
    rb"(?:RIFF|RIFX|RF64|FORM)....(?:WAVE|AIFF|AIFC)|fLaC[\x00\x80]\x00\x00\x22|OggS\x00\x02"
    rb"|caff\x00[\x01\x02]\x00\x00|riff\x2e\x91\xcf\x11|\x1aE\xdf\xa3[\x80-\xff\x01-\x10]|....ftyp[\x20-\x7e]{4}",
    re.DOTALL,
)
_WAVE = re.compile(rb"(?:RIFF|RIFX|RF64)....WAVE(?:fmt |JUNK|ds64|bext|LIST)", re.DOTALL)
_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22", re.DOTALL)
_FTYP = re.compile(rb"\x00\x00[\x00-\x04].ftyp[\x20-\x7e]{4}", re.DOTALL)
_EBML = re.compile(rb"\x1aE\xdf\xa3.{0,60}?(?:webm|matroska)", re.DOTALL)
_ASF = re.compile(rb"0&\xb2u\x8ef\xcf\x11\xa6\xd9\x00\xaa\x00b\xcel", re.DOTALL)

_LONGEST_MATCH = 80

# Signs of a second stream so strong that they are looked for in the whole file.
_WITHIN = ((b"fLaC", _FLAC), (b"\x1aE\xdf\xa3", _EBML), (b"0&\xb2u", _ASF))


def find_second_stream(file: AudioFile, end: int | None) -> int | None:
    """Return where another recording begins in a file, in bytes; None when none is found.

    Args:
        file: the file.
        end: where the first stream ends, when that is known: only what is behind it is looked at.
    """
    pattern, literal, start = _STREAMS, b"", end
    if end is None:
        head = file.pread(16, 0)
        start = 8
        if head[:4] in (b"RIFF", b"RIFX", b"RF64"):
            pattern = _WAVE
        elif head[4:8] == b"ftyp":
            pattern = _FTYP
        else:
            for magic, within in _WITHIN:
                if head.startswith(magic):
                    pattern, literal = within, magic
                    break
            else:
                return None
    found = Window(file).search(pattern, start or 0, _LONGEST_MATCH, literal=literal)
    return None if found < 0 else found
