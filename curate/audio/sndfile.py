"""The adapter over soundfile and soxr, the only module that calls them. Both are imported when a file is opened."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from curate.audio.files import AudioFile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples: TypeAlias = npt.NDArray[np.float32]
    Integers: TypeAlias = npt.NDArray[np.int16]

# libsndfile answers SF_COUNT_MAX (2**63 - 1) for "unknown".
_UNKNOWN_FRAMES = 1 << 62

_HELD_BYTES = 4 << 20
"""A recording in a tar is held while it is decoded, up to this size: libsndfile asks for 8 KB at a time."""

_NAMED = Path("/dev/fd")
"""The folder in which some systems name every open descriptor."""

_WITHOUT_NAME = (b"fLaC", b"RIFF")
"""How files begin that libsndfile recognises by their head; a descriptor without a name takes less time to open."""


class DecoderError(Exception):
    """A failure of libsndfile to open or decode a file.

    Args:
        code: libsndfile's error number, 0 when it has none.
        message: libsndfile's message.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class Decoder:
    """One open sound file, read forward in blocks.

    Attributes:
        frames: samples per channel that libsndfile expects, from the header or a guess; None when it does not know.
        expected_frames: None; `frames` is exact where it is not a guess.
        rate_hz, channels, format, subtype: as in the header.
    """

    def __init__(self, sound: Any) -> None:
        self._sound = sound
        frames = int(sound.frames)
        self.frames: int | None = frames if frames < _UNKNOWN_FRAMES else None
        self.expected_frames: int | None = None
        self.rate_hz = int(sound.samplerate)
        self.channels = int(sound.channels)
        self.format = str(sound.format)
        self.subtype = str(sound.subtype)

    def read(self, frames: int) -> Samples:
        """Return the next frames as `(frames, channels)`, integers scaled to ±1; zero frames at the end."""
        return self._read(frames, "float32")

    def read_integers(self, frames: int) -> Integers:
        """Return the next frames as `read` does, as 16-bit integers: what a recording of `PCM_16` holds."""
        return self._read(frames, "int16")

    def _read(self, frames: int, dtype: str) -> Any:
        try:
            return self._sound.read(frames, dtype=dtype, always_2d=True)
        except _soundfile().LibsndfileError as error:
            raise DecoderError(error.code, error.error_string) from error

    def seek(self, frame: int) -> bool:
        """Move to a frame; return False when the decoder cannot, after which it must not be used."""
        try:
            return int(self._sound.seek(frame)) == frame
        except _soundfile().LibsndfileError:
            return False

    def holds(self, frame: int) -> bool:
        """Return whether a frame is there to be decoded; the next `seek` finds its place by itself."""
        try:
            return self.seek(frame) and self._sound.buffer_read_into(bytearray(2 * self.channels), "int16") == 1
        except _soundfile().LibsndfileError:
            return False


@contextmanager
def open_decoder(
    file: AudioFile, patches: tuple[tuple[int, bytes], ...] = (), prefix: bytes = b""
) -> Generator[Decoder]:
    """Decode from the descriptor of an open file, from its beginning. `DecoderError` when libsndfile will not.

    Args:
        patches: bytes to show in place of the file's own, as `(offset, bytes)`.
        prefix: bytes to show before the file's first.
    """
    source: Any
    if not file.is_whole or patches or prefix:
        source = _PatchedFile(file, patches, prefix)
    elif file.stored.descriptor is not None:
        source = _source(file.stored.descriptor, file.pread(4, 0))
    elif not file.stored.is_remote and file.size <= _HELD_BYTES:
        source = BytesIO(file.pread(file.size, 0))
    else:
        source = _PatchedFile(file, (), b"")
    try:
        sound = _forward_sound_file()(source, closefd=False)
    except _soundfile().LibsndfileError as error:
        raise DecoderError(error.code, error.error_string) from error
    with sound:
        yield Decoder(sound)


def _source(descriptor: int, head: bytes) -> int | str:
    """Return the descriptor of a file, or a name for it where libsndfile needs one.

    With a bare descriptor libsndfile looks for the resource fork of an MP3 below the working directory: where that
    holds a folder `.AppleDouble`, no MP3 could be decoded.
    """
    if head not in _WITHOUT_NAME and _has_names():
        return f"{_NAMED}/{descriptor}"
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


@cache
def _has_names() -> bool:
    return _NAMED.is_dir()


def _soundfile() -> Any:
    """Return the module as `Any`: its types are too incomplete for a strict checker."""
    return import_module("soundfile")


@cache
def _forward_sound_file() -> Any:
    sound_file: Any = _soundfile().SoundFile

    class ForwardSoundFile(sound_file):
        """A SoundFile that does not seek on its own.

        After each read soundfile seeks to its current position. In an MP3 that restarts the decoder, so that the
        samples depend on the block size; in a FLAC of unknown length it fails.
        """

        def seekable(self) -> bool:
            return False

    return ForwardSoundFile


class _PatchedFile:
    """A part of a file, or one with some bytes of its header replaced, as soundfile wants its file objects."""

    def __init__(self, file: AudioFile, patches: tuple[tuple[int, bytes], ...], prefix: bytes) -> None:
        self._file = file
        self._patches = patches
        self._prefix = prefix
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._prefix) + self._file.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, length: int) -> bytes:
        start = self._position - len(self._prefix)
        if start < 0:
            found = self._prefix[start:][:length]
            self._position += len(found)
            return found
        # Past errors of the disk: soundfile's callback reports them as a short read, and `require_readable` finds them.
        found = bytearray(self._file.pread(length, start))
        for offset, patch in self._patches:
            for at, byte in enumerate(patch, offset - start):
                if 0 <= at < len(found):
                    found[at] = byte
        self._position += len(found)
        return bytes(found)


class Resampler:
    """A streaming resampler of mono blocks; the result does not depend on how the samples are cut into blocks.

    Blocks also keep soxr from holding the interpreter lock for the length of a file.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int) -> None:
        self._stream: Any = import_module("soxr").ResampleStream(
            rate_in_hz, rate_out_hz, 1, dtype="float32", quality="HQ"
        )

    def push(self, block: Samples) -> Samples:
        """Resample one more block and return the samples that are ready, possibly none."""
        return self._stream.resample_chunk(block)

    def finish(self) -> Samples:
        """Return the samples still buffered; called once, after the last block."""
        import numpy as np

        return self._stream.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def resampled_frames(frames: int, rate_in_hz: int, rate_out_hz: int) -> int:
    """Return the number of samples of a clip after resampling: the exact length, rounded half up."""
    return (2 * frames * rate_out_hz + rate_in_hz) // (2 * rate_in_hz)
