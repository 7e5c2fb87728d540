"""Fixtures that need NeMo: tiny models, audio files, and what `transcribe()` itself says about them."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DURATIONS_S = (1.3, 0.4, 3.1, 0.05, 2.2, 0.9, 4.0, 0.16, 1.9, 2.7)
"""Mixed, and deliberately not sorted."""


@pytest.fixture(scope="session")
def nemo() -> Any:
    """NeMo's ASR collection, or a skip that says why."""
    pytest.importorskip("torch", reason="needs torch: make .venv/.dev-all")
    return pytest.importorskip("nemo.collections.asr", reason="needs nemo_toolkit: make .venv/.dev-all")


@pytest.fixture(scope="session")
def one_thread(nemo: Any) -> Iterator[None]:
    """One CPU thread for torch: tiny models gain nothing from more, and the tests share their machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def checkpoint(nemo: Any, one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Builds each of the tiny models of `tests.models` once, by name."""
    from tests.models import BUILDERS

    folder = tmp_path_factory.mktemp("models")

    def build(name: str) -> Path:
        path = folder / f"{name}.nemo"
        return path if path.exists() else BUILDERS[name](path)

    return build


@pytest.fixture(scope="module", params=["rnnt", "tdt"])
def path(request: pytest.FixtureRequest, checkpoint: Callable[[str], Path]) -> Path:
    """The checkpoint of each kind of transducer."""
    return checkpoint(request.param)


@pytest.fixture
def recogniser(path: Path) -> Iterator[Any]:
    """A recogniser of each kind of transducer, set up."""
    from curate.asr import NemoRecogniser

    one = NemoRecogniser(path)
    one.setup()
    yield one
    one.close()


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Any]]:
    """Speech-like clips of `DURATIONS_S`: (file, samples as read back from it)."""
    soundfile = pytest.importorskip("soundfile")
    from tests.models import RATE_HZ, babble

    folder = tmp_path_factory.mktemp("clips")
    made: list[tuple[Path, Any]] = []
    for seed, duration_s in enumerate(DURATIONS_S):
        path = folder / f"{seed}.wav"
        soundfile.write(path, babble(seed, duration_s), RATE_HZ, subtype="PCM_16")
        made.append((path, soundfile.read(path, dtype="float32")[0]))
    return made


@pytest.fixture(scope="session")
def nemo_says(nemo: Any, checkpoint: Callable[[str], Path], clips: list[tuple[Path, Any]]) -> Callable[..., list[str]]:
    """What `model.transcribe()` says about each clip, alone: (model, decoder) → texts."""
    known: dict[tuple[str, str | None], list[str]] = {}

    def say(name: str, decoder: str | None = None) -> list[str]:
        if (name, decoder) not in known:
            known[name, decoder] = transcribe_with_nemo(nemo, checkpoint(name), [path for path, _ in clips], decoder)
        return known[name, decoder]

    return say


@pytest.fixture(scope="session")
def nemo_process(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process that has loaded a NeMo model observed about itself, and what it printed (nemo_child.py)."""
    observations = tmp_path_factory.mktemp("nemo-process") / "observations.json"
    command = [sys.executable, str(Path(__file__).with_name("nemo_child.py")), str(checkpoint("hybrid"))]
    done = subprocess.run([*command, str(observations)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {**json.loads(observations.read_text()), "stdout": done.stdout, "stderr": done.stderr}


def transcribe_with_nemo(nemo: Any, checkpoint: Path, files: list[Path], decoder: str | None = None) -> list[str]:
    """Run NeMo's own `transcribe()`, one file at a time."""
    import torch

    model = nemo.models.ASRModel.restore_from(str(checkpoint), map_location=torch.device("cpu"))
    if decoder is not None:
        model.change_decoding_strategy(None, decoder_type=decoder)
    texts = [model.transcribe([str(file)], batch_size=1, verbose=False)[0].text for file in files]
    del model
    gc.collect()
    return texts
