"""Encodes audio that is published, the same bytes for the same samples, or copies the bytes of a file as they are."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from curate.audio.audio import Audio
from curate.audio.sniff import SNIFFED_BYTES
from curate.errors import PlanError, RecordError

if TYPE_CHECKING:
    import numpy as np

    from curate.audio.sndfile import Integers, Samples

Codec: TypeAlias = Literal["flac", "wav", "mp3", "opus"]
CODECS: tuple[Codec, ...] = ("flac", "wav", "mp3", "opus")

BYTES_PER_S = {"flac": 19_000, "wav": 32_000, "mp3": 8_000, "opus": 5_000}
"""About how many bytes a second of speech takes, of one channel at 16 kHz: only to estimate the sizes of shards."""

_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
_MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_OPUS_FRAME_S = 0.02
_FLAC_LEVEL = 0.5
"""Of libsndfile's scale from 0 to 1."""
_MAX_CHANNELS = {"flac": 8, "wav": 64, "mp3": 2, "opus": 2}
_MOST_COPIED_BYTES = 2**31


@dataclass(frozen=True)
class EncodedAudio:
    """One audio file in memory.

    Args:
        content: the bytes of the file.
        extension: of its name, without a dot.
        rate_hz, channels, frames: of what is in it.
        copied: whether the bytes are those of the record's own file.
    """

    content: bytes
    extension: str
    rate_hz: int
    channels: int
    frames: int
    copied: bool = False

    @property
    def duration_s(self) -> float:
        return round(self.frames / self.rate_hz, 6)


@dataclass(frozen=True)
class AudioEncoding:
    """How audio is written.

    Args:
        codec: `flac` and `wav` are lossless; `mp3` (variable bit rate) and `opus` (with PyAV, extra `av`) are not.
        rate_hz: the sampling rate; None: the recording's own.
        channels: `mono`: the channel that the record names, or else the mean, as everywhere; `all`: as recorded.
        bit_depth: of FLAC and WAV, 16 or 24.
        copy: whether a whole file that has the codec, rate and channels already is copied byte by byte.
    """

    codec: Codec = "flac"
    rate_hz: int | None = None
    channels: Literal["mono", "all"] = "mono"
    bit_depth: int = 16
    copy: bool = True

    def check(self) -> None:
        """Check the settings.

        Raises:
            PlanError: the mistake, and the remedy.
        """
        if self.codec not in CODECS:
            raise PlanError(f"codec={self.codec!r} is none of {', '.join(CODECS)}")
        if self.channels not in ("mono", "all"):
            raise PlanError(f"channels={self.channels!r} is neither 'mono' nor 'all'")
        if self.bit_depth not in (16, 24):
            raise PlanError(f"bit_depth={self.bit_depth!r} is neither 16 nor 24")
        rates = {"opus": _OPUS_RATES, "mp3": _MP3_RATES}.get(self.codec)
        if self.rate_hz is not None and not 1_000 <= self.rate_hz <= 384_000:
            raise PlanError(f"rate_hz={self.rate_hz!r} is not between 1,000 and 384,000")
        if rates and self.rate_hz is not None and self.rate_hz not in rates:
            raise PlanError(f"rate_hz={self.rate_hz}: {self.codec} has {', '.join(map(str, rates))} Hz only")
        if self.codec == "opus":
            from importlib.util import find_spec

            if find_spec("av") is None:
                raise PlanError("codec='opus' needs PyAV: pip install 'curate-speech[av]'")

    def encode(self, audio: Audio, *, is_whole: bool) -> EncodedAudio:
        """Return a record's audio as a file.

        Args:
            audio: the record's; its file is copied where that is allowed.
            is_whole: whether the record is the whole file, without an `offset` and a channel of its own.

        Raises:
            RecordError: it cannot be decoded, or not encoded with this codec.
        """
        if self.copy and is_whole:
            copied = self._copied(audio)
            if copied is not None:
                return copied
        rate_hz = self.rate_hz or self._rate_for(audio.rate_hz)
        integers = self._integers_of(audio, rate_hz)
        if integers is not None:
            return encode_samples(integers, rate_hz, self.codec)
        if self.channels == "all" and audio.channels > 1:
            if rate_hz != audio.rate_hz:
                import numpy as np

                samples: Samples = np.stack(
                    [audio.samples(rate_hz, channel=channel) for channel in range(audio.channels)], axis=1
                )
            else:
                samples = audio.native()
        else:
            samples = audio.samples(rate_hz)
        return encode_samples(samples, rate_hz, self.codec, bit_depth=self.bit_depth)

    def _integers_of(self, audio: Audio, rate_hz: int) -> Integers | None:
        """Return the integers that need no rounding; floats give the same bytes and take longer."""
        if self.codec not in ("flac", "wav") or self.bit_depth != 16 or rate_hz != audio.rate_hz:
            return None
        return audio.integers() if audio.channels == 1 or self.channels == "all" else None

    def _rate_for(self, rate_hz: int) -> int:
        """Return the codec's rate that loses least: the recording's own, or the next higher one."""
        rates = {"opus": _OPUS_RATES, "mp3": _MP3_RATES}.get(self.codec)
        if rates is None or rate_hz in rates:
            return rate_hz
        return next((rate for rate in rates if rate >= rate_hz), rates[-1])

    def _copied(self, audio: Audio) -> EncodedAudio | None:
        """Return the file as it is if that is what encoding should give; None: it is not."""
        file, rate_hz, channels = audio.file, audio.rate_hz, audio.channels
        if file.size > _MOST_COPIED_BYTES or codec_of(file.pread(SNIFFED_BYTES, 0)) != self.codec:
            return None
        if self.rate_hz not in (None, rate_hz) or (self.channels == "mono" and channels > 1):
            return None
        frames = round(audio.duration_s * rate_hz)  # by its header, and its last frame is there
        return EncodedAudio(file.pread(file.size, 0), self.codec, rate_hz, channels, frames, copied=True)


def codec_of(head: bytes) -> Codec | None:
    """Return the codec of a file by its first bytes; None: none that is written here."""
    if head.startswith(b"fLaC"):
        return "flac"
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return "wav"
    if head.startswith(b"OggS") and head[28:36] == b"OpusHead":
        return "opus"
    if head.startswith(b"ID3") or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2):
        return "mp3"
    return None


def encode_samples(samples: Samples | Integers, rate_hz: int, codec: Codec, *, bit_depth: int = 16) -> EncodedAudio:
    """Return samples as a file. What was decoded from 16 bits is encoded to 16 bits without loss.

    Args:
        samples: full scale is ±1; of shape (n,) or (frames, channels). Or 16-bit integers, for FLAC and WAV of 16 bits.
        rate_hz: of the samples.
        codec: the codec.
        bit_depth: of FLAC and WAV.

    Raises:
        RecordError: `zero_samples`, `non_finite`, `unsupported_rate`, `unsupported_channels`.
    """
    channels = 1 if samples.ndim == 1 else int(samples.shape[1])
    if samples.size == 0:
        raise RecordError("zero_samples", "audio without samples cannot be written")
    if channels > _MAX_CHANNELS[codec]:
        raise RecordError("unsupported_channels", f"{codec} holds {_MAX_CHANNELS[codec]} channels, not {channels}")
    is_integer = samples.dtype.kind == "i"
    is_limited = is_integer or _is_limited(samples)
    if codec == "opus":
        content = _opus(samples, rate_hz)
    elif codec == "mp3":
        content = _with_soundfile(samples, rate_hz, codec, "MPEG_LAYER_III")
    else:
        array = samples if is_integer else _integers(samples, bit_depth, is_limited=is_limited)
        content = _with_soundfile(array, rate_hz, codec, f"PCM_{bit_depth}")
    return EncodedAudio(content, codec, rate_hz, channels, len(samples))


def _is_limited(samples: np.ndarray[Any, Any]) -> bool:
    """Return whether 16 bits hold all samples; raise where one is not a number."""
    low, high = float(samples.min()), float(samples.max())  # NaN if there is one
    if not math.isfinite(low) or not math.isfinite(high):
        raise RecordError("non_finite", "the audio holds NaN or infinite samples")
    return low >= -1 and high <= 1 - 2**-15


def _with_soundfile(array: np.ndarray[Any, Any], rate_hz: int, codec: Codec, subtype: str) -> bytes:
    import soundfile

    file = io.BytesIO()
    options: dict[str, Any] = {"compression_level": _FLAC_LEVEL} if codec == "flac" else {}
    try:
        soundfile.write(file, array, rate_hz, format=codec.upper(), subtype=subtype, **options)
    except soundfile.LibsndfileError as error:
        raise RecordError("unsupported_rate", f"{codec} cannot hold {rate_hz} Hz: {error.error_string}") from error
    return file.getvalue()


def _integers(samples: np.ndarray[Any, Any], bit_depth: int, *, is_limited: bool) -> np.ndarray[Any, Any]:
    import numpy as np

    full_scale = 1 << (bit_depth - 1)
    # A power of two scales floats of any size exactly, and 24 bits are all that the smaller ones hold.
    scaled = samples * samples.dtype.type(full_scale)
    np.rint(scaled, out=scaled)
    if not is_limited:
        np.clip(scaled, -full_scale, full_scale - 1, out=scaled)
    if bit_depth == 16:
        return scaled.astype(np.int16)
    return scaled.astype(np.int32) << 8


def _opus(samples: np.ndarray[Any, Any], rate_hz: int) -> bytes:
    """Encode with FFmpeg's libopus in frames of 20 ms; `bitexact` gives the stream a fixed serial number."""
    import numpy as np

    av: Any = import_module("av")
    array = samples if samples.ndim == 2 else samples[:, None]
    channels, step = array.shape[1], round(_OPUS_FRAME_S * rate_hz)
    file = io.BytesIO()
    with av.open(file, "w", format="ogg", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libopus", rate=rate_hz)
        stream.layout = layout = "mono" if channels == 1 else "stereo"
        stream.format = "flt"
        stream.codec_context.flags |= 1 << 23  # AV_CODEC_FLAG_BITEXACT: no version of the encoder in the comments
        for start in range(0, len(array), step):
            block = np.ascontiguousarray(array[start : start + step].reshape(1, -1), dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(block, format="flt", layout=layout)
            frame.sample_rate, frame.pts = rate_hz, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
