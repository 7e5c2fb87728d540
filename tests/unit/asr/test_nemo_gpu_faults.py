"""Faults that only a GPU has, on the CPU: torch's answers are replaced, NeMo's code and ours run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import curate.asr.nemo as nemo_module
from curate.asr import NemoRecogniser, Transcript
from curate.errors import InfrastructureError, PlanError, RecordError
from curate.models import torch_device
from curate.models.torch_device import limit_gpu_memory
from tests.models import babble

pytestmark = pytest.mark.nemo

SILENT = {
    "zeros": np.zeros(32_000, np.float32),
    "a shorter silence": np.zeros(9_000, np.float32),
    "less than half a step of 24 bits": np.full(32_000, 1e-9, np.float32),
}


@pytest.mark.parametrize(("name", "decoder"), [("rnnt", None), ("hybrid", "ctc")])
def test_digital_silence_is_empty_and_never_reaches_the_model(
    name: str, decoder: str | None, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recogniser = NemoRecogniser(checkpoint(name), decoder=decoder, timestamps=True)
    recogniser.setup()
    loaded: Any = recogniser._loaded
    batches: list[int] = []
    run = loaded.run
    monkeypatch.setattr(loaded, "run", lambda signals, *ready: batches.append(len(signals)) or run(signals, *ready))
    heard = recogniser.transcribe([SILENT["zeros"], babble(1, 2.0), *SILENT.values()])
    assert [one == Transcript("", words=()) for one in heard] == [True, False, True, True, True]
    assert batches == [1]
    assert recogniser.transcribe(list(SILENT.values())) == [Transcript("", words=())] * 3
    assert batches == [1]
    faint = np.random.default_rng(0).normal(0, 1e-5, 32_000).astype(np.float32)
    recogniser.transcribe([faint])
    assert batches == [1, 1]
    recogniser.close()


def test_huge_samples_are_finite(checkpoint: Callable[[str], Path]) -> None:
    signal, has_energy = nemo_module._checked(np.full(100, 1e30, np.float32), 0, 1)
    assert has_energy and len(signal) == 100


def accelerator_error(message: str) -> Exception:
    import torch

    return torch.AcceleratorError(message)


def test_broken_context_at_setup_is_named_and_close_works(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def run(self: Any, signals: Any, *_: Any) -> Any:
        self.on_gpu = True
        raise accelerator_error("CUDA error: device-side assert triggered (by the warm-up)")

    def synchronize(device: Any = None) -> None:
        raise accelerator_error("CUDA error: device-side assert triggered (by synchronize)")

    kept: list[Any] = []
    monkeypatch.setattr(torch_device, "_KEPT", kept)
    monkeypatch.setattr(nemo_module._Loaded, "run", run)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    recogniser = NemoRecogniser(checkpoint("ctc"))
    with pytest.raises(InfrastructureError, match="by the warm-up"):
        recogniser.setup()
    recogniser.close()
    recogniser.close()
    [(_, _, loaded)] = kept
    assert loaded._model is not None, "freeing memory in a broken context can end the process"
    with pytest.raises(InfrastructureError, match="before setup"):
        recogniser.transcribe([babble(1, 1.0)])


def test_module_that_a_model_lacks_is_named(
    checkpoint: Callable[[str], Path], nemo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(self: Any, *args: Any, **options: Any) -> None:
        raise ModuleNotFoundError("No module named 'platformdirs'")

    monkeypatch.setattr(nemo.models.EncDecRNNTModel, "__init__", lacking)
    with pytest.raises(InfrastructureError) as caught:
        NemoRecogniser(checkpoint("rnnt")).setup()
    assert "No module named 'platformdirs'" in str(caught.value)
    assert str(caught.value).endswith("pip install platformdirs")
    assert "abstract class" not in str(caught.value)


def test_lack_of_memory_that_is_a_broken_context_is_reported_when_memory_is_freed(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recogniser = NemoRecogniser(checkpoint("ctc"))
    recogniser.setup()
    loaded: Any = recogniser._loaded

    def synchronize(device: Any) -> None:
        raise accelerator_error("CUDA error: an illegal memory access was encountered")

    cuda = SimpleNamespace(empty_cache=lambda: None, synchronize=synchronize)
    monkeypatch.setattr(loaded, "on_gpu", True)
    monkeypatch.setattr(loaded, "_torch", SimpleNamespace(cuda=cuda))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        recogniser.free_memory()


def test_models_of_one_process_take_turns_on_a_gpu(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def loaded(kind: str) -> Any:
        recogniser = NemoRecogniser(checkpoint("rnnt"))
        recogniser.setup()
        one: Any = recogniser._loaded
        monkeypatch.setattr(torch.nn.Module, "to", lambda self, **_: self)
        made = nemo_module._Loaded(torch, one._model, "rnnt", torch.device(kind), "fp32", recogniser.options)
        made.on_gpu = False  # torch has no statistics of a GPU that is not there
        monkeypatch.undo()
        return made

    inside, most = [0], [0]
    both = threading.Barrier(2)
    models = [loaded("cuda"), loaded("cuda")]

    def through(signals: Any, *others: Any) -> Any:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        for _ in range(1000):
            pass
        inside[0] -= 1
        return list

    def work(model: Any) -> None:
        model._through = through
        both.wait(30)
        for _ in range(200):
            model.run([])

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert models[0]._lock is models[1]._lock
    assert loaded("cpu")._lock is not models[0]._lock


@pytest.mark.parametrize(("name", "decoder"), [("rnnt", None), ("tdt", None), ("hybrid", "ctc")])
def test_confidence_in_bf16_is_computed_in_fp32(
    name: str, decoder: str | None, checkpoint: Callable[[str], Path]
) -> None:
    import torch

    recogniser = NemoRecogniser(checkpoint(name), decoder=decoder, dtype="bf16", confidence=True)
    recogniser.setup()
    model = recogniser._loaded._model  # type: ignore[union-attr]
    assert {p.dtype for p in model.encoder.parameters()} == {torch.bfloat16}
    heads = [part for part in ("decoder", "joint", "ctc_decoder") if hasattr(model, part)]
    assert {p.dtype for part in heads for p in getattr(model, part).parameters()} == {torch.float32}
    assert recogniser.transcribe([babble(1, 3.0)])[0].confidence is not None
    recogniser.close()
    plain = NemoRecogniser(checkpoint(name), decoder=decoder, dtype="bf16")
    plain.setup()
    model = plain._loaded._model  # type: ignore[union-attr]
    assert {p.dtype for part in heads for p in getattr(model, part).parameters()} == {torch.bfloat16}
    plain.close()


def test_ctc_confidence_leaves_the_scores_on_the_device(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    recogniser = NemoRecogniser(checkpoint("ctc"), confidence=True)
    recogniser.setup()
    copied: list[int] = []
    cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self, *args: copied.append(self.dim()) or cpu(self, *args))
    assert recogniser.transcribe([babble(1, 3.0), babble(2, 1.0)])[0].confidence is not None
    assert copied and max(copied) == 2  # (B, T), never (B, T, V)
    recogniser.close()


@pytest.mark.parametrize(
    ("share", "memory_gb", "expected"),
    [(1.0, None, None), (0.5, None, 0.4925), (1.0, 20.0, 0.2425), (0.5, 60.0, 0.4925), (0.01, None, 0.005)],
)
def test_part_of_a_gpu_is_enforced(share: float, memory_gb: float | None, expected: float | None) -> None:
    import torch

    limits: list[float] = []

    def limit(fraction: float, device: int) -> None:
        assert type(device) is int, "torch takes no device without an index here"
        limits.append(fraction)

    cuda = SimpleNamespace(
        get_device_properties=lambda device: SimpleNamespace(total_memory=80e9),
        current_device=lambda: 0,
        set_per_process_memory_fraction=limit,
    )
    part = limit_gpu_memory(SimpleNamespace(cuda=cuda), torch.device("cuda"), share, memory_gb)
    assert limits == ([] if expected is None else [pytest.approx(expected)])
    assert part == pytest.approx(min(share * 80e9, (memory_gb or 80) * 1e9))


def test_share_outside_of_0_to_1_is_refused() -> None:
    with pytest.raises(PlanError, match="gpu_share must be above 0"):
        NemoRecogniser("a.nemo", gpu_share=0.0)
    with pytest.raises(PlanError, match="attention must be one of auto, sdpa, nemo"):
        NemoRecogniser("a.nemo", attention="flash")


def test_fused_attention_says_the_same(checkpoint: Callable[[str], Path]) -> None:
    clips = [babble(seed, 1.0 + seed) for seed in range(4)]
    found: list[list[Transcript]] = []
    for attention in ("nemo", "sdpa"):
        recogniser = NemoRecogniser(checkpoint("rnnt"), attention=attention)
        recogniser.setup()
        found.append(recogniser.transcribe(clips))
        assert recogniser.runtime_info()["attention"] == attention
        recogniser.close()
    assert found[0] == found[1]


def test_local_attention_that_reaches_all_frames_says_the_same(checkpoint: Callable[[str], Path]) -> None:
    clips = [babble(seed, 1.0 + seed) for seed in range(4)]
    found: list[list[Transcript]] = []
    for frames in (None, 200, 2):
        recogniser = NemoRecogniser(checkpoint("rnnt"), local_attention=frames)
        recogniser.setup()
        found.append(recogniser.transcribe(clips))
        assert recogniser.runtime_info()["attention"] == ("nemo" if frames is None else "local")
        recogniser.close()
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("threads", [1, 2])
def test_staged_batch_says_the_same(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    clips = [babble(seed, 0.5 + seed) for seed in range(4)] + [SILENT["zeros"], babble(1, 0.001)]
    recogniser = NemoRecogniser(checkpoint("rnnt"))
    recogniser.setup()
    loaded: Any = recogniser._loaded
    plain = recogniser.transcribe(clips)
    staged = recogniser.stage(clips)
    done = "_preprocessor" if threads == 1 else "_padded"  # on one thread, the features are there already
    there = getattr(loaded, done)
    monkeypatch.setattr(loaded, done, None)
    assert recogniser.transcribe(staged) == plain
    monkeypatch.setattr(loaded, done, there)
    assert recogniser.transcribe(recogniser.stage(clips[4:])) == plain[4:]
    with pytest.raises(RecordError, match="NaN"):
        recogniser.stage([np.full(100, np.nan, np.float32)])
    recogniser.close()
