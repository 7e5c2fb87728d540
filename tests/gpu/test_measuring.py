"""The measurements of `test_gpu` on the CPU, with toy models: they run, and their tables make sense."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.gpu import measuring
from tests.gpu.conformer import TINY, TorchConformer
from tests.gpu.memory import TensorMemory
from tests.gpu.tables import Tables, describe_machine

DURATIONS_S = [0.3, 2.0, 0.5, 0.4, 0.9, 1.1, 0.3, 0.6, 0.2, 1.7, 0.4, 0.8]


@pytest.fixture(autouse=True)
def one_thread(torch: Any) -> Iterator[None]:
    """One CPU thread for torch: toys gain nothing from more, and the tests share their machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def recogniser(torch: Any) -> Iterator[Any]:
    with measuring.ready(TorchConformer(TINY)) as one:
        yield one


def test_the_memory_grid_is_predicted_from_a_few_shapes(recogniser: TorchConformer) -> None:
    fitted = [(1, 0.5), (1, 2.0), (4, 0.5), (4, 2.0)]
    model, rows = measuring.memory_grid(recogniser, TensorMemory(), (1, 2, 4), (0.5, 1.0, 2.0), fitted)
    assert len(rows) == 9
    assert sum(row["fitted"] for row in rows) == 4
    assert model.safety >= 1
    assert all(row["measured_mb"] > 0 and abs(row["error_%"]) < 10 for row in rows)
    assert rows[-1]["measured_mb"] > 10 * rows[0]["measured_mb"]


def test_live_tensors_are_counted_and_weights_are_not(torch: Any) -> None:
    weights = torch.ones(1000)
    assert TensorMemory().peak_bytes(lambda: weights.view(10, 100).T) == 0
    assert TensorMemory().peak_bytes(lambda: [weights + 1 for _ in range(3)]) == 3 * 4000
    assert TensorMemory().peak_bytes(lambda: [(weights + 1).sum() for _ in range(3)]) < 2 * 4000


def test_numbers_are_compared(torch: Any) -> None:
    def make(dtype: str, decoder: str) -> TorchConformer:
        return TorchConformer(TINY, dtype=dtype)

    rows = measuring.number_speeds(make, "cpu", [measuring.noise(0.5)] * 2, rounds=1)
    assert [row["numbers"] for row in rows] == ["fp32", "fp32, TF32 allowed", "bf16 by autocast", "bf16"]
    assert rows[0]["to_fp32"] == 1
    assert all(row["rtfx"] > 0 for row in rows)


def test_batchings_are_compared(recogniser: TorchConformer) -> None:
    rows = measuring.batching_speeds(recogniser, "cpu", DURATIONS_S, (4.0,), rounds=1, fixed=4)
    assert [row["batching"] for row in rows] == ["fixed 4, arrival order", "length, 4 s"]
    assert rows[0]["batches"] == 3
    assert rows[1]["waste_%"] < rows[0]["waste_%"]
    assert all(row["rtfx"] > 0 for row in rows)


def test_stages_are_compared(recogniser: TorchConformer, files: Callable[..., Any]) -> None:
    variants = {
        "fixed": {"batching": "static", "batch_size": 4},
        "no prefetch": {"batching": "length", "max_batch_s": 4.0, "prefetch_batches": 0},
        "memory": {"batching": "memory", "prefetch_batches": 2},
    }
    rows = measuring.stage_speeds(recogniser, "cpu", files(DURATIONS_S), variants)
    assert [row["stage"] for row in rows] == list(variants)
    assert [row["strategy"] for row in rows] == ["static", "length", "length"]
    assert all(row["records"] == len(DURATIONS_S) and -0.01 < row["idle_%"] < 100 for row in rows)


def test_recovery_is_counted(recogniser: TorchConformer, files: Callable[..., Any]) -> None:
    row = measuring.oom_recovery(recogniser, "cpu", files(DURATIONS_S), 20.0, limit_s=2.5)
    assert (row["done"], row["twice"], row["failed"]) == (len(DURATIONS_S), 0, 0)
    assert row["ooms"] > 0
    assert row["attempts"] == row["batches"] + row["ooms"] < 2 * len(DURATIONS_S)


@pytest.mark.nemo
def test_decodings_are_compared(fastconformer: Callable[..., Path]) -> None:
    from curate.asr.checkpoint import read_checkpoint, restore
    from tests.models import babble

    model = restore(read_checkpoint(fastconformer(TINY)))
    rows = measuring.decoding_speeds(model, "cpu", "fp32", [(2, 1.0), (1, 0.5)], babble(0, 1.0), rounds=1)
    assert [row["decoding"] for row in rows] == 2 * ["frame looping", "label looping", "captured"]
    assert all(row["captures"] == 0 and row["same_text_%"] == 100 and row["letters"] for row in rows)


def test_tables_are_printed_and_kept(torch: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = Tables(describe_machine("cpu"), tmp_path / "new" / "gpu.json")
    tables.add("speeds", [{"batching": "fixed", "rtfx": 1234.5678}, {"batching": "budget", "rtfx": 5000.0}])
    tables.goal("ratio", 4.05, least=2.5)
    tables.goal("idle", 7.0, most=5)
    printed = capsys.readouterr().out
    assert "torch: " in printed
    assert "fixed     1235\nbudget    5000\n" in printed
    assert "wanted >= 2.5: met" in printed
    assert "wanted <= 5: NOT MET" in printed
    kept = json.loads((tmp_path / "new" / "gpu.json").read_text())
    assert kept["tables"]["speeds"][1]["rtfx"] == 5000.0
    assert [goal["met"] for goal in kept["goals"]] == [True, False]
