"""Recognition of files that are not audio, from their first 64 bytes.

A web page saved as `a.wav`, a Git LFS pointer or a zipped folder are common in downloaded corpora, and the decoder's
own message for them ("Format not recognised") does not help. libmpg123 may even find "frames" in them.
"""

from __future__ import annotations

from curate.errors import RecordError

SNIFFED_BYTES = 64

# Sound formats whose headers are text, which the text test below would reject.
_TEXTUAL_AUDIO = (
    b"NIST_1A",
    b"PVF1",
    b"MATLAB 5.0",
    b"Creative Voice File",
    b"Extended Instrument",
    b"ALawSoundFile",
    b"SOUND SAMPLE DATA",
    b".snd",
)

_OTHER_FILES: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the audio itself: run `git lfs pull` where it was checked out",
    ),
    (b"\x1f\x8b", "gzip-compressed: unpack it first"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"BZh", "bzip2-compressed: unpack it first"),
    (b"\xfd7zXZ\x00", "xz-compressed: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
)

_CONTROLS_OF_TEXT = frozenset(b"\t\n\r\f\x1b")


def require_audio(head: bytes, name: str) -> None:
    """Raise `RecordError("not_audio")` when the first bytes are clearly those of something else.

    Args:
        head: the first `SNIFFED_BYTES` bytes of the file, fewer when it is shorter.
        name: the path as messages print it.
    """
    if head.startswith(_TEXTUAL_AUDIO):
        return
    for magic, meaning in _OTHER_FILES:
        if head.startswith(magic):
            raise RecordError("not_audio", f"{name} is {meaning}")
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<" and _is_text(head):
        raise RecordError("not_audio", f"{name} is HTML or XML, perhaps the error page of a download: {_start(head)}")
    if _is_text(head):
        raise RecordError("not_audio", f"{name} is text: {_start(head)}")


def _is_text(head: bytes) -> bool:
    if head.startswith(b"#!AMR") or any(byte < 0x20 and byte not in _CONTROLS_OF_TEXT for byte in head):
        return False
    for cut in range(min(4, len(head))):  # the last character may be cut in two
        try:
            head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        # Two or three letters are as likely the start of a truncated header.
        return len(head) >= 8
    return False


def _start(head: bytes) -> str:
    return repr(head[:40].decode("utf-8", "replace"))
