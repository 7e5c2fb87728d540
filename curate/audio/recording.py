"""A sound file that is open for decoding, with the checks of its true length against the declared one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from curate.audio.buffer import Block
from curate.audio.claims import read_format_claim
from curate.audio.decoders import open_sound
from curate.audio.ffmpeg import FALLBACK_DEMUXERS, KINDS
from curate.audio.files import AudioFile, Roots, open_file
from curate.audio.headers import DeclaredLength, read_declared_length
from curate.audio.mpeg import is_free_format
from curate.audio.seams import find_second_stream
from curate.audio.sndfile import Decoder, DecoderError
from curate.audio.sniff import SNIFFED_BYTES, require_audio
from curate.errors import RecordError

if TYPE_CHECKING:
    from curate.audio.sndfile import Integers, Samples

MIN_RATE_HZ, MAX_RATE_HZ, MAX_CHANNELS = 1_000, 768_000, 64

# 1 MB of float32: most utterances are one block, which is handed on as it was decoded. Joining several blocks of a clip
# of 12 s costs three times its decoding, nearly all of it for memory that is new to the process.
BLOCK_SAMPLES = 262_144


# Codecs whose frames do not depend on earlier ones, so that a seek gives the frames that decoding from the start gives.
# The others (MP3, Vorbis, Opus, GSM, …) converge after a seek, or miss the place.
_EXACT_SUBTYPES = frozenset(
    {
        *("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
        *("ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"),
    }
)

# Encoders disagree about whether the Xing frame and their own delay count.
_MPEG_TOLERANCE_FRAMES = 2 * 1152

# +20 dB: no signal is so far over full scale, and integers that were never scaled are further.
_MOST_PEAK = 10.0
_LOOKS, _LOOK_FRAMES = 9, 1024
_FLOAT_SUBTYPES = frozenset({"FLOAT", "DOUBLE", "PCM_F32LE", "PCM_F32BE", "PCM_F64LE", "PCM_F64BE"})

# Containers round their length, count the encoder's delay, or do not.
_EXPECTED_TOLERANCE_S = 0.15

_UNRECOGNISED = 1  # libsndfile: "Format not recognised"
_CHANNEL_ERRORS = frozenset({32, 33})  # libsndfile: "Channel count is zero", "Channel count is too high"


def block_frames(channels: int) -> int:
    """Return the number of frames of a block."""
    return max(1, BLOCK_SAMPLES // channels)


class Recording:
    """A file that has been opened, sniffed and recognised, with one live decoder on its descriptor."""

    def __init__(self, file: AudioFile, declared: DeclaredLength, stack: ExitStack) -> None:
        self.file = file
        self.declaration = declared
        self._stack = stack
        self.decoder = stack.enter_context(open_sound(file, declared))
        self._position = 0
        self._has_floats = self.decoder.subtype in _FLOAT_SUBTYPES
        self._second_stream: int | None = -1

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

    @property
    def seeks_exactly(self) -> bool:
        """Whether a segment can be read without what is before it."""
        return self.decoder.subtype in _EXACT_SUBTYPES

    @property
    def holds_integers(self) -> bool:
        """Whether it holds 16-bit integers, which `read_integers` gives as they are."""
        return self.decoder.subtype == "PCM_16" and isinstance(self.decoder, Decoder)

    def restart(self) -> None:
        """Decode from the beginning again. The old decoder shares the descriptor's position, so it is closed first."""
        self._stack.close()
        self.decoder = self._stack.enter_context(open_sound(self.file, self.declaration))
        self._position = 0

    def read(self, position: int, frames: int) -> Samples:
        """Return at most `frames` frames from `position`, as decoded from the start; none behind the end."""
        return self._at(position, frames, self._read)

    def read_integers(self, position: int, frames: int) -> Integers:
        """Return the frames that `read` returns, before they are scaled to ±1, where it `holds_integers`."""
        return self._at(position, frames, self._read_integers)

    def _at(self, position: int, frames: int, read: Callable[[int], Block]) -> Block:
        try:
            self._go_to(position)
            return read(frames if self._position == position else 0)
        except DecoderError as error:
            self.file.require_readable()
            reached = self._position
            self.restart()  # after an error a decoder no longer seeks
            where = f"after {reached / self.decoder.rate_hz:.3f} s"
            if self.declared is not None and not self.reaches(self.declared):
                raise RecordError("truncated", f"{self.file.name} breaks off {where}, before its end") from error
            raise RecordError("decode_error", f"{self.file.name} is damaged {where}: {error}") from error

    def _go_to(self, position: int) -> None:
        if position == self._position:
            return
        if self._position < 0 and not self.seeks_exactly:
            self.restart()
        if self.seeks_exactly:
            if self.decoder.seek(position):
                self._position = position
                return
            self.restart()
        if self._position > position:
            self.restart()
        most = block_frames(self.decoder.channels)
        while self._position < position and len(self._read(min(most, position - self._position))):
            pass

    def _read(self, frames: int) -> Samples:
        block = self.decoder.read(frames)
        if self._has_floats:
            self._require_scale(block)
        self._position += len(block)
        return block

    def _read_integers(self, frames: int) -> Integers:
        assert isinstance(self.decoder, Decoder), "it holds integers"
        block = self.decoder.read_integers(frames)
        self._position += len(block)
        return block

    def reaches(self, frames: int) -> bool:
        """Return whether the file has at least this many frames; the next `read` finds its place by itself."""
        if frames == 0 or self.decoder.holds(frames - 1):
            self._position = -1  # opening a decoder again takes longer than seeking, and few are read afterwards
            return True
        self.restart()
        return False

    def _require_scale(self, block: Samples) -> None:
        """Raise for a float file that holds integers: their level would be 90 dB over full scale."""
        if not len(block):
            return
        peak = max(abs(float(block.max())), abs(float(block.min())))  # NaN and infinity are for others to refuse
        if _MOST_PEAK < peak < math.inf:
            raise RecordError(
                "unsupported_scale",
                f"{self.file.name} holds floating-point samples of up to {peak:.6g}, where full scale is 1: divide "
                "them by 32768 (16-bit integers) or 2147483648 (32-bit), and write the file again",
            )

    def require_scale(self) -> None:
        """Look at a few places of a float file, so that all its segments get the same verdict."""
        frames = self.decoder.frames
        if not self._has_floats or frames is None:
            return
        for place in range(_LOOKS):
            if not self.decoder.seek(place * max(0, frames - _LOOK_FRAMES) // (_LOOKS - 1)):
                break
            try:
                block = self.decoder.read(_LOOK_FRAMES)
            except DecoderError:
                break
            self._require_scale(block)
        self.restart()

    def require_bounds(self) -> None:
        if self.decoder.frames == 0:
            self.require_whole()
            raise RecordError("zero_samples", f"{self.file.name} has a header, but no samples")
        rate_hz, channels = self.decoder.rate_hz, self.decoder.channels
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise RecordError("unsupported_rate", f"{self.file.name} has {rate_hz} Hz, outside 1 kHz to 768 kHz")
        if not 1 <= channels <= MAX_CHANNELS:
            raise RecordError("unsupported_channels", f"{self.file.name} has {channels} channels; at most 64 are read")
        if self.decoder.format == "MP3" and self.declaration.mpeg is None and not is_free_format(self.file):
            raise _not_audio(self.file)

    def require_whole(self) -> None:
        """Raise when the file's own headers show that its end is missing, or that libsndfile would not read it."""
        if self.declaration.missing_bytes:
            raise RecordError(
                "truncated",
                f"{self.file.name} is {self.declaration.missing_bytes} bytes shorter than its header says: "
                "copy it again; if a program wrote it to a pipe, rewrite its header",
            )
        if self.declaration.unended:
            raise RecordError(
                "truncated",
                f"{self.file.name} was cut off between two Ogg pages: its last page is not marked as the last. If its "
                "recorder leaves that mark out, rewrite it: `ffmpeg -i in.ogg -c copy out.ogg`",
            )
        mpeg, seen = self.declaration.mpeg, self.decoder.frames
        if mpeg is not None and mpeg.changes_at is not None:
            raise RecordError(
                "decode_error",
                f"{self.file.name} is joined of MP3 files of different sampling rates or channels: cut it at byte "
                f"{mpeg.changes_at}",
            )
        if self._second_stream == -1:
            self._second_stream = find_second_stream(self.file, self.declaration.end)
        if self._second_stream is not None:
            raise _joined(self.file, self._second_stream)
        if mpeg and mpeg.frames is not None and seen is not None and mpeg.frames > seen + _MPEG_TOLERANCE_FRAMES:
            raise RecordError(
                "decode_error",
                f"{self.file.name} holds {mpeg.frames} samples, but libsndfile reads only {seen}, because the MP3 "
                "has no (or a wrong) Xing header: `ffmpeg -i in.mp3 -c copy out.mp3` writes one",
            )

    def stop_within(self, start: int, stop: int | None, declared: int, tolerance_s: float) -> int:
        """Return the frame to stop at in a file of `declared` frames; raise when the segment does not lie in them."""
        rate_hz, name = self.decoder.rate_hz, self.file.name
        held = f"{name} has {declared / rate_hz:.3f} s"
        if start >= declared:
            code = "truncated" if self.declaration.missing_bytes else "bad_segment"
            raise RecordError(code, f"{held}, and the segment begins at {start / rate_hz:.3f} s")
        if stop is None:
            return declared
        if stop > declared + round(tolerance_s * rate_hz):
            raise RecordError(
                "truncated", f"{held}, and the segment ends at {stop / rate_hz:.3f} s: {_tolerated(tolerance_s)}"
            )
        return min(stop, declared)

    def require_end(self, start: int, stop: int | None, end: int, tolerance_s: float) -> None:
        """Raise when decoding ended before the place that the header or the segment asks for."""
        rate_hz, name = self.decoder.rate_hz, self.file.name
        if end == start and start > 0 and (stop is None or self.declared is None):
            self.file.require_readable()
            raise RecordError("bad_segment", f"the segment begins at {start / rate_hz:.3f} s, behind the end of {name}")
        if stop is None:
            self.require_frames(end)
            return
        # Without a declared length, `stop` is the record's own rounded figure.
        known = self.declared is not None
        if end < stop - (self.slack if known else round(tolerance_s * rate_hz)) or end == start:
            self.file.require_readable()
            advice = "" if known else f": {_tolerated(tolerance_s)}"
            raise RecordError(
                "truncated", f"{name} ends at {end / rate_hz:.3f} s, before {stop / rate_hz:.3f} s{advice}"
            )

    def require_frames(self, end: int) -> None:
        """Compare where decoding ended with what the header promises."""
        expected = self.decoder.expected_frames
        if self.decoder.format == "OGG" and expected is not None and self.declaration.ogg_granule is not None:
            expected = self.declaration.ogg_granule  # FFmpeg's figure leaves out pages that are damaged
        if expected is not None and end < expected - _EXPECTED_TOLERANCE_S * self.decoder.rate_hz:
            self.file.require_readable()
            raise RecordError(
                "truncated",
                f"{self.file.name} ends at {end / self.decoder.rate_hz:.3f} s, and its header says "
                f"{expected / self.decoder.rate_hz:.3f} s",
            )
        if self.declared is not None and end < self.declared - self.slack:
            self.file.require_readable()
            raise RecordError(
                "truncated", f"{self.file.name} ends after {end} of the {self.declared} frames in its header"
            )
        if end == 0:
            self.file.require_readable()
            raise RecordError("zero_samples", f"{self.file.name} has a header, but no samples")


def _tolerated(tolerance_s: float) -> str:
    return f"end_tolerance_s, of the pipeline's `audio:` settings, allows {tolerance_s} s"


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
                audio.require_scale()
                yield audio
            except DecoderError as error:  # at opening, or at opening again when the file has changed meanwhile
                raise _unopened(file, declared, error) from error


def _joined(file: AudioFile, at: int) -> RecordError:
    return RecordError(
        "decode_error",
        f"a second recording begins in {file.name} at byte {at}, which would be left out: cut the file there",
    )


def _unopened(file: AudioFile, declared: DeclaredLength, error: DecoderError) -> RecordError:
    file.require_readable()
    claim = read_format_claim(file)
    if error.code in _CHANNEL_ERRORS or (claim is not None and not 1 <= claim.channels <= MAX_CHANNELS):
        fault = error if claim is None else f"its header declares {claim.channels} channels, not 1 to {MAX_CHANNELS}"
        return RecordError("unsupported_channels", f"{file.name}: {fault}")
    if claim is not None and not MIN_RATE_HZ <= claim.rate_hz <= MAX_RATE_HZ:
        return RecordError("unsupported_rate", f"{file.name} has {claim.rate_hz} Hz, outside 1 kHz to 768 kHz")
    if declared.missing_bytes:
        return RecordError("truncated", f"{file.name} is {declared.missing_bytes} bytes shorter than its header says")
    second = find_second_stream(file, declared.end)
    if second is not None:
        return _joined(file, second)
    head = file.pread(4, 0)
    is_like_mpeg = head[:1] == b"\xff" and declared.mpeg is None and not is_free_format(file)
    if is_like_mpeg or (error.code == _UNRECOGNISED and head not in FALLBACK_DEMUXERS and declared.demuxer is None):
        return _not_audio(file)
    kind = "" if declared.demuxer is None else f", as {KINDS[declared.demuxer]}"
    return RecordError("decode_error", f"{file.name} cannot be decoded{kind}: {error}")


def _not_audio(file: AudioFile) -> RecordError:
    return RecordError(
        "not_audio",
        f"{file.name} begins like no audio file: {file.pread(8, 0).hex(' ')}. Raw samples without a header need one: "
        "`sox -t raw -r 16000 -e signed -b 16 -c 1 in.raw out.wav`",
    )
