"""Recommended batch sizes to start with, by published rules of thumb, before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import attrs

from curate.batching.buckets import RATE_HZ
from curate.errors import PlanError
from curate.suggest import closest

MODEL_GB: Mapping[str, float] = MappingProxyType({"small": 2.0, "medium": 4.0, "large": 8.0})
"""Weights and workspace in fp32 by the size in a model's name, from NeMo Curator's guide."""

MB_PER_SECOND = 50.0
"""Memory per second of audio in fp32, from the same guide."""

USED_SHARE = 0.8
"""The share of the memory left by the weights that a batch may use; the rest is for fragmentation."""

ELEMENTS_PER_GB = 40_000
"""Samples in a batch per GB of GPU memory, as Omnilingual ASR recommends for training."""

MOST_ITEMS = 128
HALVES = {"fp32": 1.0, "fp16": 0.5, "bf16": 0.5}


@attrs.frozen
class Advice:
    """The recommended model and batch sizes.

    Args:
        model: the chosen model.
        batch_size: a fixed number of items that fits even when all are as long as the longest.
        mean_batch_size: the number of items of mean length in a batch, which a length-aware budget reaches.
        max_batch_s: the budget in padded seconds.
        max_num_elements: the same in samples.
        by_memory_s: the budget by the rule of memory per second.
        by_elements_s: the budget by the rule of elements per GB.
        reasons: the grounds, a sentence each: models that do not fit, and which rule decided.
    """

    model: str
    batch_size: int
    mean_batch_size: int
    max_batch_s: float
    max_num_elements: int
    by_memory_s: float
    by_elements_s: float
    reasons: tuple[str, ...]


def suggest(
    gpu_memory_gb: float,
    model: str | Sequence[str] | Mapping[str, float] = "medium",
    mean_s: float = 5.0,
    max_s: float = 30.0,
    dtype: str = "fp32",
) -> Advice:
    """Recommend batch sizes for a GPU, and the first of several models that fits.

    The smaller result of two published rules is used: (memory - model) × 0.8 / 50 MB a second, and 40,000 elements
    a GB. A batch is padded to its longest item, so `max_s` and not the mean decides what is safe; the guide's own
    formula, with the mean alone, runs out of memory at the first batch of long items.

    These are starting points: `CostModel.fit` on the device is more exact.

    Args:
        gpu_memory_gb: memory of the GPU, or the limit to stay within.
        model: a size (`small`, `medium`, `large`) or a name that contains one; several, the preferred first; or their
            sizes in GB in fp32 by name.
        mean_s: mean length of the items.
        max_s: length of the longest item.
        dtype: `fp32`, `fp16` or `bf16`; half precision takes half the memory by the first rule.

    Raises:
        PlanError: no model fits with one item of `max_s`, a model's size is unknown, or a number is out of range.
    """
    if not gpu_memory_gb > 0 or not 0 < mean_s <= max_s:
        raise PlanError(
            f"gpu_memory_gb={gpu_memory_gb:g}, mean_s={mean_s:g}, max_s={max_s:g}: all must be above 0, and the mean "
            "not above the longest"
        )
    if dtype not in HALVES:
        raise PlanError(f"unknown dtype {dtype!r}: {closest(dtype, HALVES)}")
    sizes = model if isinstance(model, Mapping) else {name: _size_gb(name) for name in _names(model)}
    reasons: list[str] = []
    for name, size_gb in sizes.items():
        model_gb = size_gb * HALVES[dtype]
        by_memory_s = (gpu_memory_gb - model_gb) * 1024 * USED_SHARE / (MB_PER_SECOND * HALVES[dtype])
        if by_memory_s < max_s:
            reasons.append(
                f"{name} does not fit: it takes {model_gb:g} GB in {dtype}, and the rest of {gpu_memory_gb:g} GB "
                f"holds {max(0.0, by_memory_s):.0f} s of audio, less than the longest item of {max_s:g} s"
            )
        else:
            reasons.append(f"{name} fits: it takes {model_gb:g} GB of {gpu_memory_gb:g} GB in {dtype}")
            return _advice(name, by_memory_s, gpu_memory_gb * ELEMENTS_PER_GB / RATE_HZ, mean_s, max_s, reasons)
    raise PlanError("no model fits. " + ". ".join(reasons))


def _advice(
    model: str, by_memory_s: float, by_elements_s: float, mean_s: float, max_s: float, reasons: list[str]
) -> Advice:
    rules = (
        f"memory per second allows {by_memory_s:.0f} s in a batch, elements per GB {by_elements_s:.0f} s; "
        "the smaller is used"
    )
    budget_s = min(by_memory_s, by_elements_s)
    if budget_s < max_s:
        budget_s = max_s
        rules += f", but not less than the longest item of {max_s:g} s"
    return Advice(
        model=model,
        batch_size=min(MOST_ITEMS, int(budget_s / max_s)),
        mean_batch_size=min(MOST_ITEMS, int(budget_s / mean_s)),
        max_batch_s=budget_s,
        max_num_elements=int(budget_s * RATE_HZ),
        by_memory_s=by_memory_s,
        by_elements_s=by_elements_s,
        reasons=(*reasons, rules),
    )


def _names(model: str | Sequence[str]) -> Sequence[str]:
    return [model] if isinstance(model, str) else model


def _size_gb(name: str) -> float:
    for size, gigabytes in MODEL_GB.items():
        if size in name.lower():
            return gigabytes
    raise PlanError(
        f"unknown size of model {name!r}: its name contains none of {', '.join(MODEL_GB)}; "
        f"give it in GB: model={{{name!r}: 2.0}}"
    )
