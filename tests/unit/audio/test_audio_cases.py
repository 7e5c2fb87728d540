"""The recordings of the shared cases, as FFmpeg, sox and espeak-ng make them: heard in full, or refused with a code."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from curate.audio import AudioSettings, load, load_record, probe
from curate.errors import RecordError

SCRIPT = Path(__file__).parents[4] / "shared" / "cases" / "audio.sh"
TOOLS = ("ffmpeg", "sox", "espeak-ng")

pytestmark = pytest.mark.skipif(
    not SCRIPT.is_file() or not all(shutil.which(tool) for tool in TOOLS),
    reason="the shared cases, or the programs that make them, are not here",
)

CONTAINERS = ("container.m4a", "container.mp4", "container.aac", "container.wma", "container.ac3", "container.webm")
LIBSNDFILE = ("container.oga", "mp3in.wav", "vbr.mp3", "o.opus", "v.ogg", "x.flac")
JOINED = ("joined.mp3", "joined_gap.mp3", "joined_rates.mp3", "joined.flac", "chained.opus", "chained.ogg")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    subprocess.run(["bash", str(SCRIPT)], cwd=folder, check=True, capture_output=True, timeout=120)
    return folder


def similarity(samples: np.ndarray, wanted: np.ndarray) -> float:
    """The correlation after the codec's delay, of what is surely inside both."""
    part = wanted[4_000:24_000]
    searched = samples[3_000 : 7_000 + len(part)]
    lag = int(np.argmax(np.correlate(searched, part, "valid")))
    return float(np.corrcoef(searched[lag : lag + len(part)], part)[0, 1])


@pytest.mark.parametrize("name", CONTAINERS + LIBSNDFILE)
def test_a_container_gives_the_length_and_the_samples_of_its_source(cases: Path, name: str) -> None:
    if name in CONTAINERS or name.endswith(".oga"):
        pytest.importorskip("av")
    samples = load(cases / name)
    assert len(samples) / 16_000 == pytest.approx(2.0, abs=0.1)
    assert similarity(samples, load(cases / "base.wav")) >= 0.99
    assert probe(cases / name).duration_s == pytest.approx(len(samples) / 16_000, abs=1e-3)


@pytest.mark.parametrize("name", JOINED)
def test_a_joined_file_is_decoded_as_far_as_ffmpeg_does_or_refused(cases: Path, name: str) -> None:
    command = ["ffmpeg", "-v", "quiet", "-i", name, "-f", "f32le", "-ac", "1", "-ar", "16000", "-"]
    decoded = subprocess.run(command, cwd=cases, check=True, capture_output=True, timeout=60).stdout
    try:
        samples = load(cases / name)
    except RecordError as error:
        assert error.code == "decode_error"
        assert name in ("joined_rates.mp3", "joined.flac")
    else:
        assert len(samples) / 16_000 == pytest.approx(len(decoded) / 4 / 16_000, abs=0.1)


def test_each_channel_gives_its_own_words(cases: Path) -> None:
    path = str(cases / "two_speakers.wav")
    for channel, name in enumerate(("l.wav", "r.wav")):
        words = load(cases / name)
        np.testing.assert_array_equal(load_record({"audio_filepath": path, "channel": channel})[: len(words)], words)
        settings = AudioSettings(channel=channel)
        np.testing.assert_array_equal(load_record({"audio_filepath": path}, settings=settings)[: len(words)], words)


def test_channels_in_antiphase_give_the_words_of_one(cases: Path) -> None:
    np.testing.assert_allclose(load(cases / "antiphase.wav"), load(cases / "l.wav"), atol=1e-4)
