"""The one place that talks to PyAV, whose wheel carries FFmpeg: for containers that libsndfile cannot open.

PyAV is optional (the extra `av`) and imported when such a file is opened, never before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from curate.audio.files import AudioFile
from curate.audio.frames import TS_PACKET_BYTES, adts_length
from curate.audio.mpeg import skip_id3
from curate.audio.sndfile import DecoderError
from curate.audio.window import Window
from curate.errors import InfrastructureError

if TYPE_CHECKING:
    from curate.audio.sndfile import Samples

# FFmpeg conceals damage unless it is asked to fail.
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode"}

# Only the open descriptor may be read: a playlist or an external reference inside a file reaches nothing.
_NO_PROTOCOL = {"protocol_whitelist": "none"}

_TAGGED_DURATION = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d+)?)")

_ASF = b"0&\xb2u\x8ef\xcf\x11"

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyp", "mov"),
    (4, b"moov", "mov"),
    (4, b"mdat", "mov"),
    (4, b"wide", "mov"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (0, _ASF, "asf"),
    (0, b"MAC ", "ape"),
    (0, b"wvpk", "wv"),
    (0, b"#!AMR", "amr"),
    (0, b"ADIF", "aac"),
    (0, b"FLV\x01", "flv"),
    (0, b".RMF", "rm"),
    (0, b"TTA1", "tta"),
    (0, b"MPCK", "mpc8"),
    (0, b"MP+", "mpc"),
    (0, b"\x7f\xfe\x80\x01", "dts"),
    (0, b"\x00\x00\x01\xba", "mpeg"),
)

FALLBACK_DEMUXERS = {b"OggS": "ogg", b"RIFF": "wav", b"RF64": "wav", b"FORM": "aiff", b"caff": "caf", b"riff": "w64"}
"""What FFmpeg may still read when libsndfile knows the container and not the codec in it."""

KINDS = {
    "mov": "MP4/M4A (AAC, ALAC)",
    "matroska": "Matroska or WebM",
    "asf": "WMA/ASF",
    "ape": "Monkey's Audio",
    "wv": "WavPack",
    "aac": "raw AAC",
    "avi": "AVI",
    "ac3": "AC-3",
    "eac3": "E-AC-3",
    "amr": "AMR",
    "dts": "DTS",
    "flv": "Flash video",
    "rm": "RealAudio",
    "tta": "True Audio",
    "mpc": "Musepack",
    "mpc8": "Musepack",
    "mpeg": "an MPEG programme stream",
    "mpegts": "an MPEG transport stream",
}
"""What messages call the formats that only PyAV reads."""


def demuxer_for(file: AudioFile, head: bytes) -> str | None:
    """Return FFmpeg's name for a format that libsndfile never reads, or None.

    Args:
        file: the file, for formats whose first bytes alone are too weak a sign.
        head: its first bytes.
    """
    for at, magic, name in _MAGICS:
        if head[at : at + len(magic)] == magic:
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:2] == b"\x0bw":
        return "eac3" if len(head) > 5 and head[5] >> 3 > 10 else "ac3"
    start = 0 if head[:3] != b"ID3" else skip_id3(Window(file))
    first = adts_length(file.pread(7, start) if start else head)
    if first and adts_length(file.pread(7, start + first)):
        return "aac"
    if head[:1] == b"G" and file.pread(1, TS_PACKET_BYTES) == b"G" and file.pread(1, 2 * TS_PACKET_BYTES) == b"G":
        return "mpegts"
    return None


def has_av() -> bool:
    """Whether PyAV is installed."""
    try:
        return find_spec("av") is not None
    except ValueError:  # a module that was put there without a spec, or None in its place
        return False


class AvDecoder:
    """The first audio stream of a container, decoded forward in blocks.

    Attributes:
        frames: None: what these containers say of their length is not exact, so the decoded length counts; 0 when
            nothing can be decoded.
        expected_frames: what the container says all the same; much less than that is a torn file.
        rate_hz, channels: as the first decoded frame has them, whatever the container's header says.
        format, subtype: FFmpeg's names of the container and the codec, in capitals.
    """

    def __init__(self, container: Any) -> None:
        self._container = container
        streams = container.streams.audio
        if not streams:
            raise NoAudioStreamError
        self._stream = streams[0]
        if self._stream.codec_context is None:
            raise DecoderError(0, "FFmpeg has no decoder for its codec")
        self._stream.codec_context.options = dict(_STRICT)
        self._frames = self._decoded()
        self._first: Any = self._guarded(lambda: next(self._frames, None))
        self._rest: Samples | None = None
        if container.format.name == "aac" and self._first is not None:
            # Raw AAC does not say how much of its start is the encoder's delay, as MP4 does. It is at least one frame,
            # which lacks the half of its transform that an earlier frame would have.
            self._first = self._guarded(lambda: next(self._frames, self._first))
        codec = self._stream.codec_context
        self.frames: int | None = 0 if self._first is None else None
        self.format = str(container.format.name).split(",")[0].upper()
        self.subtype = str(codec.name).upper()
        shown = codec if self._first is None else self._first
        self.rate_hz = int(shown.sample_rate or 0)
        self.channels = int(shown.layout.nb_channels)
        self._kind = None if self._first is None else self._first.format.name
        self.expected_frames = self._expected()

    def read(self, frames: int) -> Samples:
        """Return the next frames as `(frames, channels)`, integers scaled to ±1; none at the end."""
        import numpy as np

        parts: list[Samples] = []
        length = 0
        while length < frames:
            part = self._rest if self._rest is not None else self._next()
            self._rest = None
            if part is None:
                break
            if length + len(part) > frames:
                part, self._rest = part[: frames - length], part[frames - length :]
            parts.append(part)
            length += len(part)
        if not parts:
            return np.zeros((0, self.channels), np.float32)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def seek(self, frame: int) -> bool:
        """Return False: FFmpeg's seeks are to a packet, and decoding from there gives other samples."""
        return False

    def holds(self, frame: int) -> bool:
        """Return False: the answer takes decoding all that is before the frame."""
        return False

    def _next(self) -> Samples | None:
        frame = self._first
        self._first = None
        if frame is None:
            frame = self._guarded(lambda: next(self._frames, None))
        if frame is None:
            return None
        found = int(frame.sample_rate), int(frame.layout.nb_channels), frame.format.name
        if found != (self.rate_hz, self.channels, self._kind):
            raise DecoderError(
                0,
                f"it changes from {self.rate_hz} Hz and {self.channels} channels to {found[0]} Hz and {found[1]} "
                "channels: cut it there",
            )
        return _samples(frame, self.channels)

    def _decoded(self) -> Iterator[Any]:
        for packet in self._container.demux(self._stream):
            if packet.is_corrupt:
                raise DecoderError(0, "a packet is damaged or cut off")
            for frame in packet.decode():
                if frame.samples:
                    yield frame

    def _expected(self) -> int | None:
        duration, container_us = self._stream.duration, self._container.duration
        if self.format in ("AAC", "AC3", "EAC3", "AMR", "AVI", "DTS", "MPEG", "MPEGTS"):  # guessed from the bit rate
            return None
        if duration and self._stream.time_base:
            return int(duration * self._stream.time_base * self.rate_hz)
        tagged = _TAGGED_DURATION.fullmatch(str(self._stream.metadata.get("DURATION", "")))  # as FFmpeg writes Matroska
        if tagged is not None:
            hours, minutes, of_minute_s = tagged.groups()
            return int((3600 * int(hours) + 60 * int(minutes) + float(of_minute_s)) * self.rate_hz)
        if len(self._container.streams) > 1:  # the container is as long as the longest of them
            return None
        return int(container_us * self.rate_hz // 1_000_000) if container_us else None

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except _av().error.FFmpegError as error:
            raise DecoderError(0, str(error.strerror or error)) from error


class NoAudioStreamError(Exception):
    """The container holds no audio, only video, subtitles or nothing."""


def _samples(frame: Any, channels: int) -> Samples:
    """A frame's samples as float32 `(frames, channels)`; integers are scaled to ±1."""
    import numpy as np

    array: Any = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, channels)
    kind = frame.format.name.removesuffix("p")
    if kind == "u8":
        return (array.astype(np.float32) - np.float32(128)) / np.float32(128)
    if kind in ("s16", "s32", "s64"):
        scale = 2.0 ** (int(kind[1:]) - 1)
        if kind == "s16":
            return array.astype(np.float32) / np.float32(scale)
        return (array / scale).astype(np.float32)
    return np.ascontiguousarray(array, dtype=np.float32)


@contextmanager
def open_av_decoder(file: AudioFile, demuxer: str) -> Generator[AvDecoder]:
    """Decode a container from its beginning.

    Raises:
        DecoderError: FFmpeg cannot read it.
        NoAudioStreamError: it holds no audio.
    """
    av = _av()
    try:
        container: Any = av.open(
            _File(file), mode="r", format=demuxer, options=dict(_NO_PROTOCOL), metadata_errors="ignore"
        )
    except av.error.FFmpegError as error:
        raise DecoderError(0, str(error.strerror or error)) from error
    with container:
        yield AvDecoder(container)


def _av() -> Any:
    """The module, without its types: they are not for a strict checker."""
    try:
        return import_module("av")
    except ImportError as error:  # it is installed, and has no file of its own to blame
        raise InfrastructureError(f"PyAV is installed and cannot be imported: {error}") from error


class _File:
    """An open file as PyAV wants it: read by position, so that decoders do not disturb each other."""

    def __init__(self, file: AudioFile) -> None:
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return True

    def read(self, length: int) -> bytes:
        found = self._file.pread(length, self._position)
        self._position += len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position
