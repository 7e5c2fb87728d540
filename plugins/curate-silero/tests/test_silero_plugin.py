"""The plugin announces its detector, which checks and runs without curate's other parts."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from curate.errors import PlanError
from curate.plugin import VoiceDetectorRef

pytest.importorskip("curate_silero", reason="the plugin is not installed: make .venv/.dev-all")

from curate_silero import plugin
from curate_silero.detector import SileroDetector

MISSING = [name for name in ("onnxruntime", "silero_vad") if importlib.util.find_spec(name) is None]
needs_model = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")


def test_it_announces_silero_without_importing_onnxruntime() -> None:
    (reference,) = plugin.curate_voice_detectors()
    assert isinstance(reference, VoiceDetectorRef)
    assert reference.load() is SileroDetector
    code = (
        "import curate_silero.detector, sys; print([n for n in ('numpy', 'onnxruntime', 'torch') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_model
def test_a_model_that_is_missing_is_a_plan_error() -> None:
    with pytest.raises(PlanError, match=r"nowhere\.onnx"):
        SileroDetector(model="nowhere.onnx").check()


@needs_model
def test_silence_and_noise_are_improbable_speech_in_any_blocks() -> None:
    detector = SileroDetector()
    detector.check()
    assert len(detector.fingerprint()["model"]) == 64
    detector.setup()
    noise = (0.05 * np.random.default_rng(0).standard_normal(20 * 16_000)).astype(np.float32)
    for samples in (np.zeros(16_000, np.float32), noise, np.zeros(1, np.float32)):
        found = np.concatenate(list(detector.probabilities([samples])))
        assert len(found) == -(-len(samples) // 512)
        assert found.max() < 0.4
        parts = detector.probabilities(samples[at : at + 999] for at in range(0, len(samples), 999))
        assert (np.concatenate(list(parts)) == found).all()
    assert list(detector.probabilities([])) == []


@needs_model
def test_torch_is_not_imported() -> None:
    code = (
        "import sys; from curate_silero.detector import SileroDetector as D; d = D(); d.check(); d.setup(); "
        "print([n for n in ('torch', 'torchaudio', 'silero_vad') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
