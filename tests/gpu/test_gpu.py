"""What a card makes of it: memory, batching, half precision, captured graphs. `make bench-gpu` prints the tables.

Every test skips where there is no card. Ratios are asserted with room to spare, and held against the goals in print:
a goal that is missed on some card is a figure to look at, and only a ratio that is absurd is a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.bench.seeded_durations import seeded_durations
from tests.gpu import measuring
from tests.gpu.conformer import LARGE
from tests.gpu.memory import CudaMemory, blocked
from tests.gpu.tables import Tables

pytestmark = pytest.mark.timeout(600)

Make = Callable[..., Any]
Files = Callable[[list[float]], list[dict[str, Any]]]

LONGEST_S = 40.0
BUDGET_S = 16 * LONGEST_S
"""Padded seconds: what 16 records in arrival order need when one of the longest is among them."""

COUNTS = (1, 4, 8, 16, 32, 64)
LENGTHS_S = (2.0, 5.0, 10.0, 20.0, 30.0, 40.0)


@pytest.fixture(scope="module")
def durations_s() -> list[float]:
    return seeded_durations("tail", count=2048)


@pytest.fixture(scope="module")
def records(cuda: str, files: Files, durations_s: list[float]) -> list[dict[str, Any]]:
    return files(durations_s)


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_peak_memory_is_as_predicted(cuda: str, make: Make, tables: Tables, dtype: str) -> None:
    with measuring.ready(make(dtype=dtype)) as recogniser:
        model, rows = measuring.memory_grid(recogniser, CudaMemory(cuda), COUNTS, LENGTHS_S)
    tables.add(f"peak memory of a batch, {dtype}", rows)
    print(model)
    unseen = [row["error_%"] for row in rows if not row["fitted"]]
    tables.goal(f"worst error of predicted memory, {dtype}, %", max(map(abs, unseen)), most=10)
    assert len(rows) == len(COUNTS) * len(LENGTHS_S)
    assert max(map(abs, unseen)) <= 10


def test_records_survive_a_card_that_is_nearly_full(
    cuda: str, make: Make, tables: Tables, records: list[dict[str, Any]]
) -> None:
    some = records[:512]
    longest = measuring.noise(max(record["duration"] for record in some))
    with measuring.ready(make()) as recogniser:
        recogniser.transcribe([longest])
        room = 2 * CudaMemory(cuda).peak_bytes(lambda: recogniser.transcribe([longest])) + 256 * 2**20
        row = measuring.oom_recovery(recogniser, cuda, some, BUDGET_S, pressure=blocked(room, cuda))
    tables.add("a card with little memory left", [{"left_mb": room / 1e6} | row])
    assert (row["done"], row["twice"], row["failed"]) == (len(some), 0, 0)
    assert row["ooms"] > 0
    assert row["attempts"] == row["batches"] + row["ooms"] < 2 * len(some)


def test_budgets_beat_a_fixed_number(cuda: str, make: Make, tables: Tables, durations_s: list[float]) -> None:
    with measuring.ready(make()) as recogniser:
        rows = measuring.batching_speeds(recogniser, cuda, durations_s, (200.0, BUDGET_S, 1600.0), rounds=3)
    tables.add(f"the model alone, {len(durations_s)} clips with a long tail", rows)
    ratio = next(row["to_fixed"] for row in rows if row["batching"] == f"length, {BUDGET_S:g} s")
    tables.goal("RTFx of budgeted batches to 16 in arrival order, at the same worst case of memory", ratio, least=2.5)
    assert ratio > 1.5


def test_half_precision_beats_fp32_and_autocast(cuda: str, make: Make, tables: Tables) -> None:
    rows = measuring.number_speeds(make, cuda, [measuring.noise(20.0, seed) for seed in range(32)], rounds=7)
    tables.add("one batch of 32 × 20 s", rows)
    ratios = {row["numbers"]: row["to_fp32"] for row in rows}
    tables.goal("speed of bf16 to fp32", ratios["bf16"], least=2)
    tables.goal("speed of bf16 to autocast", ratios["bf16"] / ratios["bf16 by autocast"], least=1)
    assert ratios["bf16"] > 1.3
    assert ratios["bf16"] > 0.95 * ratios["bf16 by autocast"]


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_captured_graphs_beat_eager_decoding(cuda: str, fastconformer: Make, tables: Tables, dtype: str) -> None:
    from curate.asr.checkpoint import read_checkpoint, restore
    from tests.models import babble

    model = restore(read_checkpoint(fastconformer(LARGE)))
    shapes = [(64, 20.0), (1, 20.0), (64, 4.0), (16, 10.0), (32, 20.0)]
    rows = measuring.decoding_speeds(model, cuda, dtype, shapes, babble(0, 20.0), rounds=5)
    tables.add(f"decoding alone, RNNT, {dtype}", rows)
    captured = [row for row in rows if row["decoding"] == "captured"]
    slowest, fastest = (pick(row["to_label_looping"] for row in captured) for pick in (min, max))
    tables.goal(f"speed of captured to eager decoding, {dtype}, best shape", fastest, least=2)
    tables.goal(f"speed of captured to eager decoding, {dtype}, worst shape", slowest, least=2)
    assert {row["captures"] for row in captured} == {1}
    assert fastest > 1.3
    assert all(row["letters"] for row in rows)
    if dtype == "fp32":  # in half precision a model that has learnt nothing is undecided too often
        assert all(row["same_text_%"] >= 90 for row in captured)


def test_a_run_captures_graphs_once(
    cuda: str, fastconformer: Make, make: Make, tables: Tables, records: list[dict[str, Any]]
) -> None:
    with measuring.ready(make(decoder="rnnt")) as recogniser:
        watched = measuring.Watched(recogniser, cuda)
        options = {"batching": "length", "max_batch_s": BUDGET_S, "batching_options": {"max_items": 256}}
        with measuring.stage_around(watched, options) as stage, measuring.counting_captures() as captured:
            _, done = measuring.transcribe_all(stage, records)
    row = {"records": len(done), "batches": len(watched.batches), "captures": len(captured), "shapes": str(captured)}
    tables.add("graphs captured in a run, RNNT", [row])
    assert len(done) == len(records)
    assert len(captured) == 1


def test_the_card_does_not_wait_for_audio(cuda: str, make: Make, tables: Tables, records: list[dict[str, Any]]) -> None:
    budget: dict[str, Any] = {"batching": "length", "max_batch_s": BUDGET_S}
    variants: dict[str, dict[str, Any]] = {
        "fixed 16": {"batching": "static", "batch_size": 16, "prefetch_batches": 2},
        "budget, no prefetch": budget | {"prefetch_batches": 0},
        "budget, prefetch 1": budget | {"prefetch_batches": 1},
        "budget, prefetch 2": budget | {"prefetch_batches": 2},
        "budget, prefetch 4": budget | {"prefetch_batches": 4},
        "memory, prefetch 2": {"batching": "memory", "prefetch_batches": 2},
    }
    with measuring.ready(make()) as recogniser:
        rows = measuring.stage_speeds(recogniser, cuda, records, variants)
    tables.add(f"the whole stage, {len(records)} WAV files", rows)
    by_name = {row["stage"]: row for row in rows}
    default = by_name["budget, prefetch 2"]
    tables.goal("share of time in which the card had no batch, with prefetch, %", default["idle_%"], most=5)
    tables.goal("RTFx of the stage with a budget to fixed 16", default["to_first"], least=2.5)
    assert all(row["records"] == len(records) for row in rows)
    assert default["idle_%"] < 5
