"""The plugin announces its engine, which gives the scores of speechmos itself without importing it."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.errors import PlanError
from curate.plugin import AudioEngineRef

pytest.importorskip("curate_dnsmos", reason="the plugin is not installed: make .venv/.dev-all")

from curate_dnsmos import plugin
from curate_dnsmos.meter import DnsmosMeter, mel_features

MISSING = [name for name in ("onnxruntime", "speechmos") if importlib.util.find_spec(name) is None]
needs_model = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
needs_librosa = pytest.mark.skipif(importlib.util.find_spec("librosa") is None, reason="needs librosa")

SHA256 = {
    "sig_bak_ovr.onnx": "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd",
    "model_v8.onnx": "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91",
}
"""Those of speechmos 0.0.1.1."""


def noise(seconds: float) -> np.ndarray:
    return (0.05 * np.random.default_rng(0).standard_normal(round(seconds * 16_000))).astype(np.float32)


def test_it_announces_dnsmos_without_importing_onnxruntime() -> None:
    (reference,) = plugin.curate_audio_engines()
    assert isinstance(reference, AudioEngineRef)
    assert (reference.stage, reference.load()) == ("speech_quality", DnsmosMeter)
    code = (
        "import curate_dnsmos.meter, sys; print([n for n in ('numpy', 'onnxruntime', 'librosa') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_models_that_are_missing_are_a_plan_error(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"sig_bak_ovr|onnxruntime"):
        DnsmosMeter(models=str(tmp_path)).check()


@needs_model
def test_the_installed_models_are_those_that_were_tested() -> None:
    assert DnsmosMeter().fingerprint() == SHA256


@needs_model
@needs_librosa
def test_scores_are_those_of_speechmos() -> None:
    spec = importlib.util.find_spec("speechmos")
    assert spec is not None
    assert spec.submodule_search_locations
    meter = DnsmosMeter()
    meter.setup()
    window = noise(9.01)
    window[40_000:60_000] += 0.3 * np.sin(np.arange(20_000) / 20).astype(np.float32)
    theirs: Any = import_module("speechmos.dnsmos").run(window, 16_000)
    names = ("ovrl_mos", "sig_mos", "bak_mos", "p808_mos")
    assert meter.scores(window) == pytest.approx([float(theirs[name]) for name in names], abs=2e-3)


@needs_librosa
def test_features_are_those_of_librosa() -> None:
    librosa: Any = import_module("librosa")
    samples = noise(2.0)
    mels = librosa.feature.melspectrogram(y=samples, sr=16_000, n_fft=321, hop_length=160, n_mels=120)
    theirs = (librosa.power_to_db(mels, ref=np.max) + 40) / 40
    assert np.abs(mel_features(samples) - theirs.T).max() < 1e-5


def test_the_hash_of_a_models_folder_is_that_of_its_files(tmp_path: Path) -> None:
    for name in SHA256:
        (tmp_path / name).write_bytes(name.encode())
    found = DnsmosMeter(models=str(tmp_path)).fingerprint()
    assert found == {name: hashlib.sha256(name.encode()).hexdigest() for name in SHA256}
