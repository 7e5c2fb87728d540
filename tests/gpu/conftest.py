"""What the measurements run on: a card, or a skip that says why; models; files of sound."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.conformer import LARGE, Size, TorchConformer, save_fastconformer
from tests.gpu.tables import Tables, describe_machine, out_file


@pytest.fixture(scope="session")
def torch() -> Any:
    return pytest.importorskip("torch", reason="needs torch: make .venv/.dev-all")


@pytest.fixture(scope="session")
def cuda(torch: Any) -> str:
    """The card, or a skip."""
    if not torch.cuda.is_available():
        pytest.skip(f"needs a GPU: torch {torch.__version__} sees none here")
    return "cuda"


@pytest.fixture(scope="session")
def fastconformer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Size], Path]:
    """Builds a NeMo model of a size, once."""
    pytest.importorskip("nemo.collections.asr", reason="needs nemo_toolkit: make .venv/.dev-all")
    folder = tmp_path_factory.mktemp("fastconformers")

    def build(size: Size) -> Path:
        path = folder / f"{size.layers}x{size.width}.nemo"
        return path if path.exists() else save_fastconformer(path, size)

    return build


@pytest.fixture(scope="session")
def make(cuda: str, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes recognisers of a realistic size: of NeMo where it is installed, else of torch alone."""
    if find_spec("nemo") is None:

        def make_torch(dtype: str = "bf16", **_: Any) -> Any:
            return TorchConformer(LARGE, device=cuda, dtype=dtype)

        return make_torch
    path = request.getfixturevalue("fastconformer")(LARGE)
    from curate.asr import NemoRecogniser

    def make_nemo(dtype: str = "bf16", **options: Any) -> Any:
        return NemoRecogniser(path, device=cuda, dtype=dtype, **{"decoder": "ctc", **options})

    return make_nemo


@pytest.fixture(scope="session")
def tables(cuda: str) -> Tables:
    machine = describe_machine(cuda) | {"model": "torch conformer" if find_spec("nemo") is None else "FastConformer"}
    return Tables(machine, out_file("gpu.json"))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[float]], list[dict[str, Any]]]:
    """Writes a file of noise for each duration, and returns their records."""
    soundfile = pytest.importorskip("soundfile")

    def write(durations_s: list[float]) -> list[dict[str, Any]]:
        from tests.gpu.measuring import RATE_HZ, slices

        folder = tmp_path_factory.mktemp("noise")
        records: list[dict[str, Any]] = []
        for n, waveform in enumerate(slices(durations_s)):
            path = folder / f"{n:06}.wav"
            soundfile.write(path, waveform, RATE_HZ, subtype="PCM_16")
            records.append({"audio_filepath": str(path), "duration": len(waveform) / RATE_HZ, "n": n})
        return records

    return write
