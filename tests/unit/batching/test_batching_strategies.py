"""Strategies by name, published bucket sizes, advice on sizes, and lightness."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.batching import (
    STRATEGIES,
    BucketBatcher,
    CostModel,
    LengthBatcher,
    create_bucket_sizes,
    make_batcher,
    score,
    suggest,
)
from curate.errors import PlanError

NEEDED: dict[str, dict[str, Any]] = {
    "static": {"batch_size": 16},
    "memory": {"budget_bytes": 1e9, "cost": CostModel(a=1e6)},
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_is_made_by_name_and_plans(strategy: str) -> None:
    batcher = make_batcher(strategy, **NEEDED.get(strategy, {}))
    assert isinstance(batcher, STRATEGIES[strategy])
    assert sorted(index for batch in batcher.plan([3.0, 5.0, 4.0]) for index in batch) == [0, 1, 2]


@pytest.mark.parametrize(
    ("strategy", "options", "what"),
    [
        ("lenght", {}, "did you mean 'length'"),
        ("zzz", {}, "choose from static, length, duration, bucket, memory"),
        ("length", {"max_batch": 3}, "did you mean 'max_batch_s'"),
        ("static", {}, "needs batch_size"),
        ("memory", {"budget_bytes": 1.0}, "needs cost"),
        ("memory", {"budget_bytes": 1.0, "cost": 5}, "CostModel"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_nearest(strategy: str, options: dict[str, Any], what: str) -> None:
    with pytest.raises(PlanError, match=what):
        make_batcher(strategy, **options)


def test_importing_the_package_loads_neither_numpy_nor_torch() -> None:
    code = "import sys, curate.batching; print([n for n in ('numpy', 'torch', 'scipy') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_bucket_sizes_are_the_published_ones() -> None:
    sizes = create_bucket_sizes(max_num_elements=16, max_seq_len=8, min_seq_len=2)
    assert sizes == [(8, 2), (5, 3), (4, 4), (3, 5), (2, 8)]
    even = create_bucket_sizes(max_num_elements=16, max_seq_len=8, min_seq_len=2, num_seqs_multiple_of=2)
    assert even == [(8, 2), (4, 3), (4, 4), (2, 5), (2, 8)]


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 40), st.integers(1, 300))
def test_no_bucket_holds_more_than_the_elements(longest: int, times: int, multiple: int, shortest: int) -> None:
    sizes = create_bucket_sizes(
        max_num_elements=longest * times,
        max_seq_len=longest,
        min_seq_len=min(shortest, longest),
        num_seqs_multiple_of=multiple,
    )
    assert all(items >= 1 and items * length <= longest * times for items, length in sizes)
    assert all(items % multiple == 0 for items, _ in sizes if items >= multiple)
    assert [length for _, length in sizes] == sorted({length for _, length in sizes})
    assert sizes[-1][1] == longest


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_num_elements": 15, "max_seq_len": 8},
        {"max_num_elements": 4, "max_seq_len": 8},
        {"max_num_elements": 16, "max_seq_len": 8, "min_seq_len": 9},
        {"max_num_elements": 16, "max_seq_len": 8, "min_seq_len": 0},
        {"max_num_elements": 16, "max_seq_len": 8, "num_seqs_multiple_of": 0},
    ],
)
def test_bucket_sizes_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(PlanError):
        create_bucket_sizes(**wrong)


def test_a_budget_is_rounded_down_to_a_multiple_of_the_longest_bucket() -> None:
    assert BucketBatcher(max_batch_s=25.0, max_s=10.0).buckets()[-1] == (2, 10.0)
    with pytest.raises(PlanError, match="would not fit in a batch"):
        BucketBatcher(max_batch_s=5.0, max_s=10.0)


def test_advice_follows_the_published_rule_of_elements() -> None:
    for gigabytes, elements in ((80, 3_200_000), (40, 1_600_000), (16, 640_000)):
        assert suggest(gigabytes, "medium", mean_s=5.0, max_s=20.0).max_num_elements == elements


def test_advice_is_safe_for_a_batch_of_the_longest() -> None:
    short, long = suggest(24, "large", 5.0, 10.0), suggest(24, "large", 5.0, 60.0)
    assert short.batch_size == 6 and long.batch_size == 1
    assert short.mean_batch_size == long.mean_batch_size == 12


def test_half_precision_takes_half_of_the_memory() -> None:
    full, half = suggest(24, "large", dtype="fp32"), suggest(24, "large", dtype="bf16")
    assert half.by_memory_s == pytest.approx((24 - 4) * 1024 * 0.8 / 25)
    assert half.by_memory_s > 2 * full.by_memory_s
    with pytest.raises(PlanError, match="did you mean 'bf16'"):
        suggest(24, "large", dtype="bfloat16")


def test_among_several_models_the_first_that_fits_is_chosen_and_the_others_get_a_reason() -> None:
    names = [f"nvidia/stt_en_fastconformer_hybrid_{size}_pc" for size in ("large", "medium", "small")]
    assert [suggest(limit, names, 5.0, 20.0).model.split("_")[-2] for limit in (24, 8, 4)] == [
        "large",
        "medium",
        "small",
    ]
    assert "does not fit" in suggest(8, names, 5.0, 20.0).reasons[0]
    with pytest.raises(PlanError, match="no model fits"):
        suggest(1, names)
    assert suggest(8, {"mine.nemo": 1.5}).model == "mine.nemo"
    with pytest.raises(PlanError, match="unknown size of model"):
        suggest(8, "mine.nemo")


def test_a_score_finds_what_is_wrong_with_a_plan() -> None:
    durations = [10.0, 20.0, 30.0, 40.0, 300.0]
    figures = score([[0, 1], [1, 2, 3], [4], [7]], durations, 100.0)
    assert (figures.lost, figures.duplicated, figures.invented) == (0, 1, 1)
    assert (figures.over_budget, figures.oversized) == (1, 1)
    assert figures.worst == 3.0
    assert figures.padded_s == 40.0 + 120.0 + 300.0
    assert figures.waste == pytest.approx(460 / 420 - 1)
    assert score([], durations).lost == 5


def test_a_score_agrees_with_its_plan() -> None:
    durations = [1.0, 2.0, 3.0]
    figures = score(LengthBatcher(9.0).plan(durations), durations, 9.0)
    assert (figures.batches, figures.items, figures.fill, figures.audio_s) == (1, 3, 1.0, 6.0)
    assert figures.waste == 0.5


@pytest.mark.parametrize("strategy", ["length", "bucket"])
def test_an_assumed_length_that_would_be_left_out_is_refused(strategy: str) -> None:
    with pytest.raises(PlanError, match="assumed_s=60 is above max_s=40"):
        make_batcher(strategy, max_batch_s=200.0, max_s=40.0, assumed_s=60.0)
