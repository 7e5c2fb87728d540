"""Mutated files give samples or a RecordError, and nothing else; and never more memory than the file can fill."""

from __future__ import annotations

import contextlib
import resource
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from audio_files import encoded, mp3, packed, tone, without_first_mpeg_frame
from hypothesis import given
from hypothesis import strategies as st

from curate.audio import load, probe
from curate.errors import RecordError
from tests.properties import costly

FILES = {
    "wav": encoded(tone(0.5)),
    "float wav": encoded(tone(0.5, 44_100), "WAV", "FLOAT", 44_100),
    "rf64": encoded(tone(0.2), "RF64"),
    "w64": encoded(tone(0.2), "W64"),
    "aiff": encoded(tone(0.2), "AIFF"),
    "caf": encoded(tone(0.2), "CAF"),
    "nist": encoded(tone(0.2), "NIST"),
    "flac": encoded(tone(0.5), "FLAC"),
    "vorbis": encoded(tone(0.5), "OGG"),
    "mp3": mp3(0.5),
    "bare mp3": without_first_mpeg_frame(mp3(0.5)),
    "joined mp3": mp3(0.3) + mp3(0.3),
    "chained vorbis": encoded(tone(0.3), "OGG") + encoded(tone(0.3), "OGG"),
    "stereo flac": encoded(tone(0.3, channels=2), "FLAC"),
}
if find_spec("av") is not None:
    FILES |= {
        "m4a": packed(tone(0.5), "ipod", "aac"),
        "alac": packed(tone(0.5), "mp4", "alac"),
        "webm": packed(tone(0.5, 48_000), "webm", "libopus", 48_000),
        "adts": packed(tone(0.5), "adts", "aac"),
        "ac3": packed(tone(0.5, 32_000), "ac3", "ac3", 32_000),
        "ogg flac": packed(tone(0.5), "ogg", "flac"),
        "mp3 wav": packed(tone(0.5), "wav", "libmp3lame"),
    }


@pytest.mark.parametrize("kind", FILES)
@costly()
@given(data=st.data())
def test_a_mutated_file_gives_samples_or_a_record_error(kind: str, data: st.DataObject) -> None:
    content = bytearray(FILES[kind])
    # Most of what can go wrong is in the header.
    place = st.one_of(st.integers(0, 128), st.integers(0, len(content) - 1))
    for at in data.draw(st.lists(place, max_size=6)):
        content[at] = data.draw(st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(0, 255)))
    cut = data.draw(st.one_of(st.none(), st.integers(1, len(content))))
    offset_s = data.draw(st.sampled_from([None, 0.0, 0.2]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.bin"
        path.write_bytes(content[:cut])
        info = None
        with contextlib.suppress(RecordError):
            info = probe(path)
        try:
            samples = load(path) if offset_s is None else load(path, offset_s=offset_s, duration_s=0.1)
        except RecordError:
            return
    if offset_s is None:
        assert info is not None, "what can be loaded can be probed"
        assert len(samples) == (2 * info.frames * 16_000 + info.rate_hz) // (2 * info.rate_hz)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert len(samples) > 0
    assert np.isfinite(samples).all()


def test_no_forged_header_makes_the_process_large() -> None:
    """After all files above: the peak is far below what any forged length asked for."""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * 1024 * 1024  # KiB
