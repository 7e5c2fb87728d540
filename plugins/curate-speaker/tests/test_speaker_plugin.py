"""The plugin announces its encoder, which gives the embeddings of Resemblyzer itself without importing it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from curate.errors import PlanError
from curate.models import AudioModel, Clip
from curate.testing import AudioModelContract

pytest.importorskip("curate_speaker", reason="the plugin is not installed: make .venv/.dev-all")

from curate_speaker import plugin
from curate_speaker.encoder import ResemblyzerEncoder, mel_features

MISSING = [name for name in ("torch", "resemblyzer") if importlib.util.find_spec(name) is None]
needs_model = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
needs_librosa = pytest.mark.skipif(importlib.util.find_spec("librosa") is None, reason="needs librosa")

SHA256 = "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e"
"""That of Resemblyzer 0.1.4."""


def voice(seconds: float, hz: float = 120.0) -> np.ndarray:
    time = np.arange(round(seconds * 16_000)) / 16_000
    return sum(0.1 / k * np.sin(2 * np.pi * hz * k * time) for k in range(1, 12)).astype(np.float32)  # type: ignore[union-attr]


@needs_model
class TestResemblyzerEncoder(AudioModelContract):
    def model(self) -> AudioModel:
        return _Rounded()


class _Rounded(ResemblyzerEncoder):
    """Gives lists, which the contract compares; their digits are all there, as clips go one by one on the CPU."""

    def infer(self, clips: Any) -> Any:
        return [{"embedding": row["embedding"].tolist()} for row in super().infer(clips)]


def test_it_announces_resemblyzer_without_importing_torch() -> None:
    (reference,) = plugin.curate_audio_engines()
    assert (reference.stage, reference.load()) == ("speaker_embedding", ResemblyzerEncoder)
    code = "import curate_speaker.encoder, sys; print([n for n in ('numpy', 'torch', 'librosa') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_checkpoint_that_is_missing_is_a_plan_error() -> None:
    with pytest.raises(PlanError, match=r"nowhere\.pt|pip install torch"):
        ResemblyzerEncoder(model="nowhere.pt").check()


@needs_model
def test_the_installed_weights_are_those_that_were_tested() -> None:
    assert ResemblyzerEncoder().fingerprint() == {"model": SHA256}


@needs_model
@needs_librosa
@pytest.mark.parametrize("seconds", [0.4, 1.6, 2.5, 7.3])
def test_embeddings_are_those_of_resemblyzer_of_the_same_samples(seconds: float) -> None:
    torch: Any = import_module("torch")
    librosa: Any = import_module("librosa")
    encoder = ResemblyzerEncoder()
    encoder.setup()
    samples = voice(seconds) + 0.01 * np.random.default_rng(0).standard_normal(round(seconds * 16_000)).astype(
        np.float32
    )
    (row,) = encoder.infer([Clip(samples, 16_000)])
    assert isinstance(row, dict)
    mels = librosa.feature.melspectrogram(y=samples, sr=16_000, n_fft=400, hop_length=160, n_mels=40)
    assert np.abs(mel_features(samples) - mels.T).max() < 1e-4 * mels.max()
    # As its embed_utterance() does, whose module cannot be imported with the installed scipy.
    starts = range(0, max(1, len(samples) // 160 + 1 - 160 + 78), 77)
    kept = [start for start in starts if not start or len(samples) - start * 160 >= 0.75 * 25_600]
    padded = np.pad(samples, (0, max(0, (kept[-1] + 160) * 160 - len(samples))))
    frames = librosa.feature.melspectrogram(y=padded, sr=16_000, n_fft=400, hop_length=160, n_mels=40).astype("f4").T
    state = torch.load(encoder.weights(), map_location="cpu", weights_only=True)["model_state"]
    lstm, linear = torch.nn.LSTM(40, 256, 3, batch_first=True), torch.nn.Linear(256, 256)
    lstm.load_state_dict({name[5:]: value for name, value in state.items() if name.startswith("lstm.")})
    linear.load_state_dict({name[7:]: value for name, value in state.items() if name.startswith("linear.")})
    with torch.no_grad():
        hidden = lstm(torch.from_numpy(np.stack([frames[start : start + 160] for start in kept])))[1][0][-1]
        found = torch.nn.functional.normalize(linear(hidden).relu(), dim=1).mean(dim=0)
    expected = (found / found.norm()).numpy()
    assert float(row["embedding"] @ expected) == pytest.approx(1.0, abs=1e-4)


@needs_model
def test_silence_and_one_sample_have_finite_embeddings() -> None:
    encoder = ResemblyzerEncoder()
    encoder.setup()
    rows: Any = encoder.infer([Clip(np.zeros(16_000, np.float32), 16_000), Clip(np.ones(1, np.float32), 16_000)])
    assert all(np.isfinite(row["embedding"]).all() for row in rows)
