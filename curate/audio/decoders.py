"""Which decoder reads a file: libsndfile, one after the other for chained streams, or FFmpeg."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

from curate.audio.ffmpeg import FALLBACK_DEMUXERS, KINDS, NoAudioStreamError, has_av, open_av_decoder
from curate.audio.files import AudioFile
from curate.audio.headers import DeclaredLength
from curate.audio.sndfile import Decoder, DecoderError, open_decoder
from curate.errors import RecordError

if TYPE_CHECKING:
    from curate.audio.sndfile import Samples

AV_REMEDY = "install the extra `av` (pip install 'curate-speech[av]'), or convert the file to FLAC"

# Codecs of a WAV that libsndfile reads: a file of these that it refuses is damaged.
_SNDFILE_WAVE_TAGS = frozenset({1, 2, 3, 6, 7, 0x10, 0x11, 0x31, 0x40, 0x50, 0x55, 0xFFFE})


class SoundDecoder(Protocol):
    """One open stream, read forward in blocks."""

    frames: int | None
    expected_frames: int | None
    rate_hz: int
    channels: int
    format: str
    subtype: str

    def read(self, frames: int) -> Samples: ...

    def seek(self, frame: int) -> bool: ...

    def holds(self, frame: int) -> bool: ...


class ChainedDecoder:
    """Streams that follow each other in one file, read as one.

    Attributes:
        frames: None: each stream's own is known when it is opened.
        rate_hz, channels, format, subtype: of the first stream; another one that differs is a `DecoderError`.
    """

    def __init__(self, parts: Sequence[AudioFile], stack: ExitStack) -> None:
        self._parts = list(parts)
        self._stack = stack
        self._decoder = stack.enter_context(open_decoder(self._parts.pop(0)))
        self.frames: int | None = None
        self.expected_frames: int | None = None
        self.rate_hz = self._decoder.rate_hz
        self.channels = self._decoder.channels
        self.format = self._decoder.format
        self.subtype = self._decoder.subtype

    def read(self, frames: int) -> Samples:
        """Return the next frames, of one stream at a time; none at the end of the last."""
        while True:
            block = self._decoder.read(frames)
            if len(block) or not self._parts or not frames:
                return block
            self._stack.close()
            self._decoder = self._stack.enter_context(open_decoder(self._parts.pop(0)))
            self._require_same(self._decoder)

    def seek(self, frame: int) -> bool:
        """Return False: a chain is read from its beginning."""
        return False

    def holds(self, frame: int) -> bool:
        """Return False: the answer takes decoding all that is before the frame."""
        return False

    def _require_same(self, decoder: Decoder) -> None:
        if (decoder.rate_hz, decoder.channels) != (self.rate_hz, self.channels):
            raise DecoderError(
                0,
                f"it is joined of streams of {self.rate_hz} Hz with {self.channels} channels and {decoder.rate_hz} Hz "
                f"with {decoder.channels} channels: cut it there",
            )


@contextmanager
def open_sound(file: AudioFile, declared: DeclaredLength) -> Generator[SoundDecoder]:
    """Decode a file from its beginning.

    Raises:
        DecoderError: the decoder gave up.
        RecordError: `decode_error` when PyAV would be needed and is not installed; `not_audio`, `zero_samples`.
    """
    with ExitStack() as stack:
        if declared.demuxer is not None:
            yield _open_av(file, declared.demuxer, declared, stack)
        elif len(declared.parts) > 1:
            yield ChainedDecoder(declared.parts, stack)
        else:
            yield _open_sndfile(file, declared, stack)


def _open_sndfile(file: AudioFile, declared: DeclaredLength, stack: ExitStack) -> SoundDecoder:
    source = declared.parts[0] if declared.parts else file
    prefix = b""
    if declared.mpeg is not None and declared.mpeg.prefix:
        source, prefix = source.part(declared.mpeg.start, source.size), declared.mpeg.prefix
    try:
        return stack.enter_context(open_decoder(source, declared.patches, prefix))
    except DecoderError:
        demuxer = FALLBACK_DEMUXERS.get(file.pread(4, 0))
        if demuxer is None or (demuxer == "wav" and declared.codec_tag in {None, *_SNDFILE_WAVE_TAGS}):
            raise
        if demuxer in ("aiff", "caf", "w64") and not has_av():
            raise
    return _open_av(file, demuxer, declared, stack)


def _open_av(file: AudioFile, demuxer: str, declared: DeclaredLength, stack: ExitStack) -> SoundDecoder:
    if not has_av():
        kind = KINDS.get(demuxer, f"a codec in {demuxer.upper()} that libsndfile cannot read")
        raise RecordError("decode_error", f"{file.name} is {kind}, which needs PyAV: {AV_REMEDY}")
    try:
        decoder = stack.enter_context(open_av_decoder(file, demuxer))
    except NoAudioStreamError as error:
        if declared.missing_bytes:
            raise RecordError("truncated", f"{file.name} ends before its list of streams: copy it again") from error
        raise RecordError("not_audio", f"{file.name} holds no audio stream") from error
    return decoder
