"""The engine of `spoken_language` on real speech."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.errors import InfrastructureError
from curate.models import AudioModel, Clip
from curate.testing import AudioModelContract

pytest.importorskip("curate_whisper", reason="the plugin is not installed: make .venv/.dev-all")

from curate_whisper.spoken_language import WhisperLanguageIdentifier


class TestWhisperLanguages(AudioModelContract):
    lengths_s = (1.0, 0.5)

    @pytest.fixture(autouse=True)
    def _weights(self, base: Path) -> None:
        self.folder = base

    def model(self) -> AudioModel:
        return WhisperLanguageIdentifier(self.folder)


def test_english_is_recognised_and_silence_has_no_language(base: Path, clips: list[Clip]) -> None:
    model = WhisperLanguageIdentifier(base)
    model.setup()
    longest: Sequence[Clip] = sorted(clips, key=lambda clip: -clip.duration_s)[:2]
    found: list[Any] = [row["languages"] for row in model.infer([*longest, Clip(np.zeros(16_000, np.float32), 16_000)])]
    for languages in found[:2]:
        assert len(languages) > 90 and abs(sum(languages.values()) - 1) < 0.01
        assert max(languages, key=languages.__getitem__) == "en" and languages["en"] > 0.9
    assert found[2] == {}


def test_model_of_one_language_stops_the_run(tiny_en: Path) -> None:
    with pytest.raises(InfrastructureError, match="knows en alone"):
        WhisperLanguageIdentifier(tiny_en).setup()
