"""The micro-batch planner of one worker: it adapts its budget to the memory that finished batches needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from loguru import logger

from curate.audio import ASSUMED_DURATION_S
from curate.batching import (
    ITEMS,
    PADDED_SECONDS,
    BatchController,
    Batcher,
    Calibration,
    CostModel,
    DurationBatcher,
    LengthBatcher,
    MemoryBatcher,
    make_batcher,
)
from curate.errors import PlanError
from curate.gpu_errors import is_oom
from curate.models.capabilities import DeviceMemory, MemoryMeter, MemoryPeak

DEFAULT_MAX_BATCH_S = 200.0

DEFAULT_MAX_BATCH_ON_CPU_S = 30.0
"""On the CPU, larger batches are slower: their padding costs time, and their activations leave the caches."""

DEFAULT_SATURATION_S = 1600.0
"""Padded seconds beyond which a batch of a 115 M FastConformer in bf16 gains no speed on an H200: 18,000 times real
time there, 18,800 at four times as much. A larger batch only delays its results and risks more records together."""

DEFAULT_MEMORY_SHARE = 0.8
"""The share of the free memory that a batch may need; the rest is for fragmentation and unmeasured use."""

SHAPES = ((1, 5.0), (4, 5.0), (1, 20.0), (4, 20.0), (16, 5.0), (32, 2.0), (2, 40.0), (16, 20.0))
"""The synthetic batches that calibrate the cost model: items, and seconds of each; from small to large."""

MIN_PEAK_SHARE = 0.1
"""Peaks below this share of the budget are ignored: they depend on workspaces more than on the batch."""

MAX_WINDOW = 65_536
"""The maximum number of records that are planned as a whole; more records are planned with a moving window."""

CROWDED_SHARE = 0.15
"""The share of a worker's own memory that other processes must hold before the worker waits for it: CUDA itself keeps
some as well."""

_BY_WINDOW = (LengthBatcher, MemoryBatcher, DurationBatcher)


class MicroBatches:
    """A batcher with its budget, and the controller that adapts the budget to the memory.

    `plan` may be called in any thread; all other methods in the model's thread.

    Args:
        strategy: one of `curate.batching.STRATEGIES`. `memory` plans by padded seconds until it has been calibrated.
        options: further options of the batcher.
        max_batch_s: the budget in seconds.
        batch_size: the number of items in a batch, for `static`.
        memory_share: for `memory`, the share of the free memory that a batch may need; for other strategies, the share
            of the device's memory that batches grow towards. None: 0.8, and no growth.
        device_share: this worker's share of the device.
        device_bytes: this worker's part of the device's memory; None: its share.
        by_size: plan by number of items with this controller instead, records of similar length together.
        saturation_s: for `memory`, the maximum padded seconds of a batch; None: as many as the memory allows.
        window_s: the seconds that each item is padded to; None: those of the longest in its batch.
    """

    def __init__(
        self,
        strategy: str,
        options: Mapping[str, Any],
        *,
        max_batch_s: float = DEFAULT_MAX_BATCH_S,
        batch_size: int = 1,
        memory_share: float | None = None,
        device_share: float = 1.0,
        device_bytes: float | None = None,
        by_size: BatchController | None = None,
        saturation_s: float | None = DEFAULT_SATURATION_S,
        window_s: float | None = None,
    ) -> None:
        self.strategy = "length" if strategy == "memory" else strategy
        self._wants_memory = strategy == "memory" and by_size is None
        self._options = {"assumed_s": min(ASSUMED_DURATION_S, options.get("max_s") or math.inf), **options}
        self._memory_share = memory_share
        self._device_share = device_share
        self._device_bytes = device_bytes
        self._saturation_s = math.inf if saturation_s is None else saturation_s
        self._calibration: Calibration | None = None
        if strategy == "static":
            self.controller = BatchController(float(batch_size), ITEMS)
            self.batcher = make_batcher("static", batch_size=batch_size, **self._options)
        elif by_size is not None:
            self.controller = by_size
            self.batcher = self._by_length()
        else:
            self.batcher = make_batcher(self.strategy, max_batch_s=max_batch_s, **self._options)
            padding = self.batcher.max_padding if isinstance(self.batcher, DurationBatcher) else 1.0
            cost = PADDED_SECONDS if window_s is None else CostModel(a=0.0, per_item=window_s)
            self.controller = BatchController(max_batch_s * padding, cost, target_share=memory_share)
            if isinstance(self.batcher, LengthBatcher):
                self.batcher = self._by_length()

    def calibrate(self, meter: MemoryMeter | None, measure: Callable[[int, float], int]) -> None:
        """Fit the cost model to the memory that a few synthetic batches need.

        Does nothing with another strategy than `memory`, or when the device's memory cannot be measured: then the
        budget remains in padded seconds.

        Args:
            meter: reports the memory of the device.
            measure: runs a batch of items of a length in seconds, and returns the bytes that it needed.
        """
        if not self._wants_memory or meter is None or meter.memory() is None:
            return
        calibration = Calibration()
        samples = 0
        for items, longest_s in SHAPES:
            message = ""
            try:
                calibration.observe(items, longest_s, float(max(1, measure(items, longest_s))))
                samples += 1
            except Exception as error:
                if not is_oom(error):
                    raise
                message = str(error)
            if message:  # outside of the `except`, whose traceback holds the tensors
                meter.free_memory()
                logger.debug("{} items of {:g} s do not fit into memory: {}", items, longest_s, message)
        meter.free_memory()
        if not samples:
            logger.warning("one item of {:g} s does not fit into memory; batches are planned in seconds", SHAPES[0][1])
            return
        self._calibration = calibration
        self.update_budget(meter)

    def update_budget(self, meter: MemoryMeter | None) -> None:
        """Set the budget to the memory that is free now. No batch may be running."""
        memory = None if meter is None else meter.memory()
        if self._calibration is None or memory is None:
            return
        available = max(1.0, min(memory.free_bytes, self._limit(memory) - memory.own_bytes))
        budget = (self._memory_share or DEFAULT_MEMORY_SHARE) * available
        cost = self._calibration.model()
        try:
            if isinstance(self.batcher, MemoryBatcher):
                self.batcher = attrs.evolve(self.batcher, budget_bytes=budget, cost=cost)
                self.controller.budget, self.controller.cost = budget, cost
            else:
                controller = BatchController(budget, cost, target_share=self._memory_share)
                options = {"scale": self._memory_scale, **self._options}
                self.batcher = make_batcher("memory", budget_bytes=budget, cost=cost, **options)
                self.strategy, self.controller = "memory", controller
        except PlanError as error:
            logger.warning("{}; the previous batch plan is kept", error)

    def is_crowded(self, meter: MemoryMeter | None) -> bool:
        """Return whether other processes hold memory of the device that is this worker's."""
        memory = None if meter is None else meter.memory()
        if memory is None:
            return False
        limit = self._limit(memory)
        return limit - memory.own_bytes - memory.free_bytes > CROWDED_SHARE * limit

    def _limit(self, memory: DeviceMemory) -> float:
        """Return the memory of the device that is this worker's, in bytes."""
        return min(self._device_share * memory.total_bytes, self._device_bytes or math.inf)

    def plan(self, durations: Sequence[Any]) -> tuple[list[list[int]], list[tuple[int, str]]]:
        """Return batches of indices, and the filtered indices, each with its reason."""
        self._refine()
        batcher = self.batcher
        if isinstance(batcher, _BY_WINDOW) and "window" not in self._options:
            window = min(MAX_WINDOW, max(batcher.window, len(durations)))
            batcher = attrs.evolve(batcher, window=window)
        batches = batcher.plan(durations)
        return list(batches), [(dropped.index, dropped.reason) for dropped in batches.dropped]

    def max_items(self, longest_s: float) -> int:
        """Return how many items a batch may have now whose longest has `longest_s` seconds; at least 1."""
        most = self.controller.max_items(longest_s)
        return min(most, self._saturating_items(longest_s)) if self.strategy == "memory" else most

    def record_success(self, items: int, longest_s: float, peak: MemoryPeak | None) -> None:
        """Record that a batch succeeded, with its memory peak."""
        self.controller.record_success(items, longest_s, None if peak is None else peak.share)
        if self._calibration is not None and peak is not None:
            self._learn(self._calibration, items, longest_s, peak.own_bytes)

    def record_oom(self, items: int, longest_s: float) -> None:
        """Record that a batch, or a part of one, did not fit into memory."""
        self.controller.record_oom(longest_s, items)

    def report(self) -> dict[str, Any]:
        """Return the batching strategy, the budget and its changes, as plain data."""
        controller = self.controller
        report: dict[str, Any] = {
            "strategy": self.strategy,
            "budget": controller.budget,
            "unit": "items" if controller.cost == ITEMS else "bytes" if self.strategy == "memory" else "padded seconds",
            "ooms": controller.ooms,
            "history": [attrs.asdict(adjustment) for adjustment in controller.history],
        }
        if self.strategy == "memory":
            report["cost"] = attrs.asdict(controller.cost)
        return report

    def _memory_scale(self, length_s: float) -> float:
        """Return the factor on the budget in bytes: the controller's, or less where the GPU is saturated before."""
        controller = self.controller
        saturating = controller.cost.cost(self._saturating_items(length_s), length_s) / controller.budget
        return min(controller.scale(length_s), saturating)

    def _saturating_items(self, length_s: float) -> int:
        """Return how many items of this length saturate the device; at least 1."""
        return max(1, math.floor(min(self._saturation_s / max(length_s, 1e-3), MAX_WINDOW)))

    def _by_length(self) -> Batcher:
        controller = self.controller
        budget = {"max_batch_s": controller.budget, "cost": controller.cost, "scale": controller.scale}
        return make_batcher("length", **{**budget, **self._options})

    def _learn(self, calibration: Calibration, items: int, longest_s: float, own_bytes: int) -> None:
        if own_bytes < MIN_PEAK_SHARE * self.controller.budget or longest_s <= 0:
            return
        calibration.observe(items, longest_s, float(own_bytes))
        if own_bytes > self.controller.cost.cost(items, longest_s):
            self.controller.cost = calibration.model()  # the next window is planned with it

    def _refine(self) -> None:
        batcher, cost = self.batcher, self.controller.cost
        if isinstance(batcher, MemoryBatcher) and batcher.cost != cost:
            try:
                self.batcher = attrs.evolve(batcher, cost=cost)
            except PlanError:  # by this cost no item fits; the controller allows one item at a time
                logger.warning("a batch was measured to need more memory than is free; records are tried one by one")
