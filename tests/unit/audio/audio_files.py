"""Makes the sound files, whole and evil, that the audio tests read. Nothing is checked in."""

from __future__ import annotations

import io
import struct
from functools import cache
from typing import Any

import numpy as np
import soundfile

FLAC_TOTAL_AT = 18  # the 8 bytes of STREAMINFO whose low 36 bits are the number of samples


def tone(seconds: float = 1.0, rate_hz: int = 16_000, hz: float = 440.0, channels: int = 1) -> np.ndarray:
    """A sine with some noise, so that no codec makes it vanish; the channels are alike."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(0).standard_normal(len(t))
    mono = (0.3 * np.sin(2 * np.pi * hz * t) + 0.01 * noise).astype(np.float32)
    return mono if channels == 1 else np.stack([mono] * channels, axis=1)


def encoded(samples: np.ndarray, container: str = "WAV", subtype: str | None = None, rate_hz: int = 16_000) -> bytes:
    out = io.BytesIO()
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(out, "w", rate_hz, channels, subtype, format=container) as file:
        for at in range(0, len(samples), 65_536):  # libsndfile overflows its stack on a long Vorbis at once
            file.write(samples[at : at + 65_536])
    return out.getvalue()


def wav_with_sizes(wav: bytes, riff: int, data: int) -> bytes:
    """The same WAV (44 bytes of header) with other sizes in its header."""
    assert wav[36:40] == b"data"
    return wav[:4] + struct.pack("<I", riff) + wav[8:40] + struct.pack("<I", data) + wav[44:]


def flac_with_length(flac: bytes, frames: int) -> bytes:
    """The same FLAC with another number of samples in its STREAMINFO."""
    field = int.from_bytes(flac[FLAC_TOTAL_AT : FLAC_TOTAL_AT + 8], "big")
    field = field & ~((1 << 36) - 1) | frames
    return flac[:FLAC_TOTAL_AT] + field.to_bytes(8, "big") + flac[FLAC_TOTAL_AT + 8 :]


@cache
def mp3(seconds: float = 3.0, mode: str = "CONSTANT", rate_hz: int = 44_100) -> bytes:
    """An MP3 with the Xing/Info frame that LAME writes."""
    out = io.BytesIO()
    with soundfile.SoundFile(
        out, "w", rate_hz, 1, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode=mode, compression_level=0.5
    ) as f:
        f.write(swept(seconds, rate_hz))
    return out.getvalue()


def swept(seconds: float, rate_hz: int) -> np.ndarray:
    """Quiet first and busy later, so that a variable bitrate varies."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(1).standard_normal(len(t))
    return (0.2 * np.sin(2 * np.pi * (200 + 300 * t) * t) + 0.1 * noise * (t / seconds) ** 2).astype(np.float32)


def without_first_mpeg_frame(data: bytes) -> bytes:
    """The same MP3 without its Xing/Info frame."""
    kbit = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[data[2] >> 4]
    assert data[1] >> 3 & 3 == 3, "MPEG 1 only"
    length = 144 * kbit * 1000 // (44_100, 48_000, 32_000)[data[2] >> 2 & 3] + (data[2] >> 1 & 1)
    assert any(tag in data[:length] for tag in (b"Xing", b"Info"))
    return data[length:]


def packed(
    samples: np.ndarray, container: str, codec: str, rate_hz: int = 16_000, sample_format: str = "fltp"
) -> bytes:
    """The samples in a container that only FFmpeg reads, by PyAV. Several channels have shape `(frames, channels)`."""
    import av

    channels = 1 if samples.ndim == 1 else samples.shape[1]
    layout = {1: "mono", 2: "stereo"}[channels]
    out = io.BytesIO()
    with av.open(out, "w", format=container) as muxer:
        stream: Any = muxer.add_stream(codec, rate=rate_hz, layout=layout)
        resampler = av.AudioResampler(format=stream.codec_context.format or sample_format, layout=layout, rate=rate_hz)
        planes = np.ascontiguousarray(samples.reshape(-1, channels).T.astype(np.float32))
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
        frame.sample_rate = rate_hz
        frame.pts = 0
        fifo = av.AudioFifo()
        for part in resampler.resample(frame):
            fifo.write(part)
        size = stream.codec_context.frame_size or 1024
        while (part := fifo.read(size, partial=True)) is not None:
            for packet in stream.encode(part):
                muxer.mux(packet)
        for packet in stream.encode(None):
            muxer.mux(packet)
    return out.getvalue()
