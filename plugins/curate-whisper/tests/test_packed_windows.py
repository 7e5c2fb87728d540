"""Packed windows of 30 s against a window for each clip: at least twice as fast, with about the same errors."""

from __future__ import annotations

import json
import re
import resource
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.models import Clip
from curate.plugin import PluginHost
from curate.stages import AsrStage, ReadRecords, SplitSpeech
from curate.text import ErrorRate, corpus_rate, normaliser, word_errors

pytest.importorskip("curate_whisper", reason="the plugin is not installed: make .venv/.dev-all")

PLUGIN = Path(__file__).parents[1] / "curate_whisper" / "plugin.py"
RATE_HZ = 16_000
FASTER = 2.0
WORSE = 0.02


def speaker(clip: Clip) -> str:
    """Return the speaker of a clip, by the beginning of its file's name."""
    return re.split(r"[-_]", Path(clip.record["audio_filepath"]).stem)[0][:5]


def recordings(folder: Path, clips: list[Clip], times: int) -> list[dict[str, Any]]:
    """Write a recording for each speaker: the clips several times, in random order, with pauses of 0.4 to 1.2 s."""
    rng = np.random.default_rng(3)
    rows: list[dict[str, Any]] = []
    for name, group in groupby(sorted(clips, key=speaker), key=speaker):
        own = list(group)
        order: list[Clip] = [own[number] for _ in range(times) for number in rng.permutation(len(own)).tolist()]
        parts: list[Any] = []
        speech: list[list[float]] = []
        at = 0
        for clip in order:
            pause = np.zeros(round(rng.uniform(0.4, 1.2) * RATE_HZ), np.float32)
            parts += [pause, clip.samples]
            at += len(pause)
            speech.append([at / RATE_HZ, (at + len(clip.samples)) / RATE_HZ])
            at += len(clip.samples)
        samples = np.concatenate([*parts, np.zeros(RATE_HZ // 2, np.float32)])
        samples += 2e-4 * rng.standard_normal(len(samples)).astype(np.float32)
        path = folder / f"{name}.flac"
        soundfile.write(path, samples, RATE_HZ)
        texts = [clip.record["text"] for clip in order]
        rows.append({"audio_filepath": str(path), "speech": speech, "spans": speech, "texts": texts})
    return rows


def transcribed(rows: list[dict[str, Any]], model: Path, run_dir: Path, **settings: Any) -> tuple[list[Any], float]:
    """Return the windows with their transcripts, and the CPU seconds of the run."""
    host = PluginHost()
    host = host if "whisper" in {one.name for one in host.recognisers} else PluginHost(plugin_files=[PLUGIN])
    asr = AsrStage("whisper", options={"model": str(model), "language": "en"})
    stages = [ReadRecords(json.loads(json.dumps(rows))), SplitSpeech(**settings), asr]
    before = resource.getrusage(resource.RUSAGE_SELF)
    result = Pipeline("packing", stages).run("local", run_dir=run_dir, host=host)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return list(result.records()), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def error_rate(windows: list[Any]) -> float:
    """Return the word error rate; numbers digit by digit, because the normaliser joins those of neighbouring clips."""
    normalise = normaliser("whisper-english")

    def words(text: str) -> str:
        return re.sub(r"(?<=\d)(?=\d)", " ", normalise(text))

    errors: list[ErrorRate] = []
    for window in windows:
        begins, ends = window["offset"] - 0.001, window["offset"] + window["duration"] + 0.001
        inside = [
            text
            for (start, end), text in zip(window["spans"], window["texts"], strict=True)
            if begins <= start and end <= ends
        ]
        errors.append(word_errors(words(" ".join(inside)), words(window["pred_text"])))
    rate = corpus_rate(errors)
    assert rate is not None
    return rate


def check_packing(folder: Path, clips: list[Clip], times: int, model: Path) -> None:
    rows = recordings(folder, clips, times)
    alone, alone_s = transcribed(rows, model, folder / "alone", merge_gap_s=0.0)
    packed, packed_s = transcribed(rows, model, folder / "packed", mode="pack")
    assert len(alone) == sum(len(row["speech"]) for row in rows)
    assert sum(len(window["segments"]) for window in packed) == len(alone)
    assert max(window["duration"] for window in packed) <= 30
    rates = error_rate(alone), error_rate(packed)
    print(
        f"\n{len(alone)} clips: {alone_s:.1f} s of CPU and WER {rates[0]:.4f} alone, {packed_s:.1f} s and "
        f"{rates[1]:.4f} in {len(packed)} windows: {alone_s / packed_s:.2f} times as fast"
    )
    assert alone_s / packed_s >= FASTER
    assert abs(rates[1] - rates[0]) <= WORSE


@pytest.mark.slow
def test_packed_windows_of_two_speakers_are_faster_with_about_the_same_errors(
    tmp_path: Path, clips: list[Clip], tiny_en: Path
) -> None:
    check_packing(tmp_path, [clip for clip in clips if speaker(clip) in ("sense", "cards")], 2, tiny_en)


@pytest.mark.soak
def test_sixty_clips_in_packed_windows_are_faster_with_about_the_same_errors(
    tmp_path: Path, clips: list[Clip], tiny_en: Path
) -> None:
    check_packing(tmp_path, clips, 4, tiny_en)
