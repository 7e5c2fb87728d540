"""Alignment by the quickstart's model, on digits whose true times are known: times, scores, long recordings, memory."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate.align import AlignmentModel
from curate.asr import NemoRecogniser
from curate.models import Clip
from curate.records import AudioBatch
from curate.stages import Align, SplitSentences
from tests.unit.align.spoken_digits import DIGITS, QUICKSTART, RATE_HZ, Speech, draw, join, speak

pytestmark = pytest.mark.nemo

MODEL = QUICKSTART / "model.nemo"
UTTERANCES = 24


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep torch to one thread, so that the figures are the same everywhere."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(one_thread: None) -> Iterator[AlignmentModel]:
    model = AlignmentModel(NemoRecogniser(MODEL, threads=1))
    model.setup()
    yield model
    model.close()


def align(model: AlignmentModel, pairs: Sequence[tuple[Speech, str]]) -> list[dict[str, Any]]:
    rows: Any = model.infer([Clip(speech.samples, RATE_HZ, {"text": text}) for speech, text in pairs])
    return list(rows())


def area(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the area under the ROC curve: how often one of the first exceeds one of the second."""
    return float(np.mean([(a > b) + 0.5 * (a == b) for a in above for b in below]))


def replaced(words: Sequence[str], seed: int) -> str:
    choose = random.Random(seed)
    place = choose.randrange(len(words))
    other = choose.choice([digit for digit in DIGITS if digit != words[place]])
    return " ".join([*words[:place], other, *words[place + 1 :]])


def shortened(words: Sequence[str], seed: int) -> str:
    place = random.Random(seed).randrange(len(words))
    return " ".join([*words[:place], *words[place + 1 :]])


def test_times_are_those_of_the_digits(model: AlignmentModel) -> None:
    speeches = [speak(draw(seed), seed) for seed in range(UTTERANCES)]
    starts, ends = [], []
    for speech, row in zip(speeches, align(model, [(one, one.text) for one in speeches]), strict=True):
        for word, (start, end) in zip(row["words"], speech.times, strict=True):
            starts.append(abs(word["start"] - start))
            ends.append(abs(word["end"] - end))
    print([f"{value:.3f} s" for errors in (starts, ends) for value in np.quantile(errors, [0.5, 0.95])])
    assert np.median(starts) <= 0.04 and np.quantile(starts, 0.95) <= 0.08
    assert np.median(ends) <= 0.06 and np.quantile(ends, 0.95) <= 0.16


@pytest.mark.parametrize("noise", [0.002, 0.02])
def test_score_separates_right_text_from_one_wrong_word_in_eight(model: AlignmentModel, noise: float) -> None:
    speeches = [speak(draw(seed), seed, noise=noise) for seed in range(UTTERANCES)]
    right, wrong, lacking = (
        [row["align_score"] for row in align(model, list(zip(speeches, texts, strict=True)))]
        for texts in (
            [one.text for one in speeches],
            [replaced(one.words, seed) for seed, one in enumerate(speeches)],
            [shortened(one.words, seed) for seed, one in enumerate(speeches)],
        )
    )
    print(f"noise {noise}: replaced {area(right, wrong):.4f}, missing {area(right, lacking):.4f}")
    assert area(right, wrong) >= 0.98
    assert area(right, lacking) >= 0.98


def chapter(sentences: int, left_out: Sequence[int], put_in: Sequence[int]) -> tuple[Speech, list[Speech | None], str]:
    """Return a recording, and the sentences of its text, which lacks some of it and has some that it lacks."""
    spoken = [speak(draw(seed), seed) for seed in range(sentences)]
    shown = [None if place in put_in else one for place, one in enumerate(spoken) if place not in left_out]
    text = " ".join(f"{one.text}." for place, one in enumerate(spoken) if place not in left_out)
    return join([one for place, one in enumerate(spoken) if place not in put_in]), shown, text


def aligned_chapter(folder: Path, sentences: int, left_out: Sequence[int], put_in: Sequence[int]) -> dict[str, Any]:
    """Check a chapter of sentences of which some are left out of the text, and others out of the audio."""
    speech, shown, text = chapter(sentences, left_out, put_in)
    path = folder / "chapter.flac"
    soundfile.write(path, speech.samples, RATE_HZ, subtype="PCM_16")
    stage = Align(options={"model_name": str(MODEL)})
    stage.setup()
    record = {"audio_filepath": str(path), "duration": len(speech.samples) / RATE_HZ, "text": text}
    try:
        [record] = stage.process(AudioBatch([record])).data
    finally:
        stage.teardown()
    named = [one["text"] for one in record["align_missing"]]
    assert named == [f"{' '.join(draw(place))}." for place in put_in]
    assert [one["text"] for one in record["align_uncovered"]] == [" ".join(draw(place)) for place in left_out]
    children = SplitSentences(align_prefix="align").process(AudioBatch([record])).data
    assert [child["align_score"] == 0.0 for child in children] == [one is None for one in shown]
    assert min(child["align_score"] for child, one in zip(children, shown, strict=True) if one is not None) > 0.9
    return record


def test_chapter_is_aligned_around_what_text_and_audio_lack(tmp_path: Path) -> None:
    aligned_chapter(tmp_path, 30, left_out=[4, 15, 26], put_in=[9, 20, 28])


@pytest.mark.soak
def test_ten_minutes_are_aligned_around_six_sentences(tmp_path: Path) -> None:
    record = aligned_chapter(tmp_path, 125, left_out=[30, 64, 90], put_in=[12, 75, 110])
    assert record["duration"] > 600


CHILD = """
import resource, sys
from pathlib import Path
from tests.unit.align.test_align_digits import *
from curate.stages import Align
path, sentences = Path(sys.argv[1]), int(sys.argv[2])
text = path.with_suffix(".txt").read_text()
stage = Align(options={"model_name": str(MODEL)})
stage.setup()
with open("/proc/self/statm") as statm:
    before = int(statm.read().split()[1]) * resource.getpagesize()
info = soundfile.info(path)
record = {"audio_filepath": str(path), "duration": info.duration, "text": text}
[record] = stage.process(AudioBatch([record])).data
assert record["align_score"] > 0.98, record["align_score"]
# ru_maxrss begins with the size of the process that has started this one
status = Path("/proc/self/status").read_text()
peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
cpu = resource.getrusage(resource.RUSAGE_SELF).ru_utime
print(f"{info.duration:.0f} s, {len(record['words'])} words: {(peak - before) / 1e6:.0f} MB more, {cpu:.0f} s CPU")
print(peak - before)
"""


def memory_above_the_model(folder: Path, sentences: int) -> int:
    """Return the bytes that a chapter of sentences needs in a process of its own, in addition to the model."""
    spoken = [speak(draw(seed), seed) for seed in range(sentences)]
    soundfile.write(folder / "hour.flac", join(spoken).samples, RATE_HZ, subtype="PCM_16")
    (folder / "hour.txt").write_text(" ".join(f"{one.text}." for one in spoken))
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", CHILD, str(folder / "hour.flac"), str(sentences)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    *_, line, peak = done.stdout.splitlines()
    print(line)
    return int(peak)


@pytest.mark.slow
def test_memory_of_four_minutes_is_small(tmp_path: Path) -> None:
    assert memory_above_the_model(tmp_path, 50) < 300e6


@pytest.mark.soak
def test_memory_of_an_hour_is_bounded(tmp_path: Path) -> None:
    assert memory_above_the_model(tmp_path, 720) < 1e9
