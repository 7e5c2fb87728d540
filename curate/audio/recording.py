"""A sound file that is open for decoding, with the checks of its true length against the declared one."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from curate.audio.files import AudioFile, Roots, open_file
from curate.audio.headers import DeclaredLength, read_declared_length
from curate.audio.sndfile import DecoderError, open_decoder
from curate.audio.sniff import SNIFFED_BYTES, require_audio, unsupported_format
from curate.errors import RecordError

if TYPE_CHECKING:
    from curate.audio.sndfile import Samples

MIN_RATE_HZ, MAX_RATE_HZ, MAX_CHANNELS = 1_000, 768_000, 64

_BLOCK_FRAMES = 65_536

# A decoder that starts in the middle of an MP3 lacks the bits of earlier frames, an Opus decoder converges slowly, and
# libsndfile's Vorbis seek fails inside the last page: so decoding starts this much earlier, and the extra is dropped.
_LOSSY_FORMATS = frozenset({"MP3", "OGG"})
_PREROLL_S = 2.0

# Encoders disagree about whether the Xing frame and their own delay count.
_MPEG_TOLERANCE_FRAMES = 2 * 1152

_CHANNEL_ERRORS = frozenset({32, 33})  # libsndfile: "Channel count is zero", "Channel count is too high"


class Recording:
    """A file that has been opened, sniffed and recognised, with one live decoder on its descriptor."""

    def __init__(self, file: AudioFile, declared: DeclaredLength, stack: ExitStack) -> None:
        self.file = file
        self.declaration = declared
        self._stack = stack
        self.decoder = stack.enter_context(open_decoder(file, declared.patches))

    @property
    def declared(self) -> int | None:
        """The number of frames that the header declares; None when it declares none and libsndfile only guesses."""
        mpeg = self.declaration.mpeg
        guessed = self.decoder.format == "MP3" and (mpeg is None or not mpeg.has_length)
        return None if guessed else self.decoder.frames

    @property
    def slack(self) -> int:
        """How many of the declared frames may be missing."""
        return _MPEG_TOLERANCE_FRAMES if self.decoder.format == "MP3" else 0

    def restart(self) -> None:
        """Decode from the beginning again. The old decoder shares the descriptor's position, so it is closed first."""
        self._stack.close()
        self.decoder = self._stack.enter_context(open_decoder(self.file, self.declaration.patches))

    def start_at(self, frame: int) -> int:
        """Move the decoder to a frame, or to a place before it, and return its position."""
        if self.decoder.format in _LOSSY_FORMATS:
            frame = max(0, frame - round(_PREROLL_S * self.decoder.rate_hz))
        if frame == 0 or self.decoder.seek(frame):
            return frame
        self.restart()
        return 0

    def reaches(self, frames: int) -> bool:
        """Return whether the file has at least this many frames; leave the decoder at the beginning."""
        try:
            return frames == 0 or (self.decoder.seek(frames - 1) and len(self.decoder.read(1)) == 1)
        except DecoderError:
            return False
        finally:
            self.restart()

    def require_bounds(self) -> None:
        rate_hz, channels = self.decoder.rate_hz, self.decoder.channels
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise RecordError("unsupported_rate", f"{self.file.name} has {rate_hz} Hz, outside 1 kHz to 768 kHz")
        if not 1 <= channels <= MAX_CHANNELS:
            raise RecordError("unsupported_channels", f"{self.file.name} has {channels} channels; at most 64 are read")
        if self.decoder.frames == 0:
            self.require_whole()
            raise RecordError("zero_samples", f"{self.file.name} has a header, but no samples")

    def require_whole(self) -> None:
        """Raise when the file's own headers show that its end is missing, or that libsndfile would not read it."""
        if self.declaration.missing_bytes:
            raise RecordError(
                "truncated",
                f"{self.file.name} is {self.declaration.missing_bytes} bytes shorter than its header says: "
                "copy it again; if a program wrote it to a pipe, rewrite its header",
            )
        mpeg, seen = self.declaration.mpeg, self.decoder.frames
        if mpeg and mpeg.frames is not None and seen is not None and mpeg.frames > seen + _MPEG_TOLERANCE_FRAMES:
            raise RecordError(
                "decode_error",
                f"{self.file.name} holds {mpeg.frames} samples, but libsndfile reads only {seen}, because the MP3 "
                "has no (or a wrong) Xing header: `ffmpeg -i in.mp3 -c copy out.mp3` writes one",
            )

    def count(self) -> int:
        """Decode everything and count the frames. The decoder must be at the beginning."""
        frames = sum(len(block) for block in self.blocks(0))
        self.require_frames(frames)
        return frames

    def blocks(self, position: int, stop: int | None = None) -> Iterator[Samples]:
        """Yield blocks of shape `(frames, channels)` from `position`, where the decoder is, up to `stop`.

        Nothing after `stop` is read: damage there does not concern this segment.
        """
        try:
            while stop is None or position < stop:
                block = self.decoder.read(_BLOCK_FRAMES if stop is None else min(_BLOCK_FRAMES, stop - position))
                if len(block) == 0:
                    return
                position += len(block)
                yield block
        except DecoderError as error:
            self.file.require_readable()
            self.restart()  # after an error a decoder can no longer seek
            where = f"after {position / self.decoder.rate_hz:.3f} s"
            if self.declared is not None and not self.reaches(self.declared):
                raise RecordError("truncated", f"{self.file.name} breaks off {where}, before its end") from error
            raise RecordError("decode_error", f"{self.file.name} is damaged {where}: {error}") from error

    def require_frames(self, end: int) -> None:
        """Compare the number of decoded frames with the declared one."""
        if self.declared is not None and end < self.declared - self.slack:
            self.file.require_readable()
            raise RecordError(
                "truncated", f"{self.file.name} ends after {end} of the {self.declared} frames in its header"
            )
        if end == 0:
            self.file.require_readable()
            raise RecordError("zero_samples", f"{self.file.name} has a header, but no samples")


@contextmanager
def open_recording(path: str | os.PathLike[str], roots: Roots) -> Generator[Recording]:
    with open_file(path, roots) as file:
        head = file.pread(SNIFFED_BYTES, 0)
        require_audio(head, file.name)
        declared = read_declared_length(file)
        with ExitStack() as stack:
            try:
                audio = Recording(file, declared, stack)
                audio.require_bounds()
                yield audio
            except DecoderError as error:  # at opening, or at opening again when the file has changed meanwhile
                raise _unopened(file, head, declared, error) from error


def _unopened(file: AudioFile, head: bytes, declared: DeclaredLength, error: DecoderError) -> RecordError:
    file.require_readable()
    if error.code in _CHANNEL_ERRORS:
        return RecordError("unsupported_channels", f"{file.name}: {error}")
    if declared.missing_bytes:
        return RecordError("truncated", f"{file.name} is {declared.missing_bytes} bytes shorter than its header says")
    if unsupported := unsupported_format(head):
        return RecordError("decode_error", f"{file.name} is {unsupported}, which cannot be read: convert it to FLAC")
    return RecordError("decode_error", f"{file.name} cannot be decoded: {error}")
