"""Batches adapt to the memory of each length on its own, and soon: Show 8 of the issue, with a fake device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.batching import BatchController, LengthBatcher, Unfit, run_splitting, score
from curate.gpu_errors import is_oom
from curate.models.capabilities import MemoryPeak
from curate.models.clip import Clip
from curate.models.inference import Inference
from curate.models.micro_batches import MicroBatches
from curate.models.model import AudioModel
from curate.models.resources import ModelResources

TARGET = 0.8
RATE_HZ = 100


class Device:
    """A device on which a batch takes as much of its memory as it has padded seconds.

    Args:
        room_s: the padded seconds that fill it.
    """

    def __init__(self, room_s: float) -> None:
        self.room_s = room_s
        self.attempts: list[tuple[int, float]] = []
        self.failures: list[int] = []

    def share(self, items: int, longest_s: float) -> float:
        return items * longest_s / self.room_s

    def run(self, lengths_s: Sequence[float]) -> MemoryPeak:
        shape = len(lengths_s), max(lengths_s)
        self.attempts.append(shape)
        share = self.share(*shape)
        if share > 1:
            self.failures.append(len(self.attempts))
            raise MemoryError(f"{shape}")
        return MemoryPeak(int(share * 1e9), share)


def run_window(batches: MicroBatches, device: Device, durations: Sequence[float]) -> list[list[int]]:
    """Plan a window and run its batches, as the runner does; return the plan."""
    plan, dropped = batches.plan(durations)
    assert not dropped
    for indices in plan:
        parts = run_splitting(
            indices,
            lambda part: device.run([durations[index] for index in part]),
            is_oom=is_oom,
            on_oom=lambda part, _: batches.record_oom(len(part), max(durations[index] for index in part)),
            length_s=lambda index: durations[index],
            max_items=batches.max_items,
        )
        for part in parts:
            if not isinstance(part, Unfit):
                batches.record_success(len(part.items), max(durations[index] for index in part.items), part.result)
    return plan


def mixed(count: int, seed: int = 0) -> list[float]:
    """Return lengths of 2 to 12 s, with a single clip of 0.3 s."""
    lengths = np.random.default_rng(seed).uniform(2.0, 12.0, count - 1).tolist()
    return [*lengths, 0.3]


def test_one_short_clip_does_not_keep_batches_from_growing_to_the_target() -> None:
    controller = BatchController.by_size(4, 1, 64, target_share=TARGET)
    batches = MicroBatches("length", {}, by_size=controller)
    device = Device(room_s=240.0)
    for window in range(10):
        run_window(batches, device, mixed(512, seed=window))
    device.attempts.clear()
    run_window(batches, device, mixed(512, seed=99))
    for from_s in (2.83, 4.0, 5.66, 8.0):
        shares = [device.share(*shape) for shape in device.attempts if from_s <= shape[1] < from_s * math.sqrt(2)]
        assert 0.8 * TARGET <= max(shares) <= 1.1 * TARGET, (from_s, shares)
    assert not device.failures


def test_three_ooms_on_short_clips_leave_the_plan_of_long_clips_as_it_was() -> None:
    batches = MicroBatches("length", {}, max_batch_s=60.0)
    durations = [0.3] * 400 + [5.0] * 240
    before, _ = batches.plan(durations)
    for items in (200, 100, 50):
        batches.record_oom(items, 0.3)
    batches.record_success(25, 0.3, None)
    after, _ = batches.plan(durations)

    def long(plan: list[list[int]]) -> list[int]:
        return [len(batch) for batch in plan if durations[batch[0]] == 5.0]

    assert long(after) == long(before) == [12] * 20
    assert max(len(batch) for batch in after if durations[batch[0]] == 0.3) <= 40


@pytest.mark.parametrize("times", [5, 20, 50, 200])
def test_a_budget_far_too_large_is_corrected_within_a_few_batches(times: int) -> None:
    device = Device(room_s=100.0)
    batches = MicroBatches("length", {}, max_batch_s=100.0 * times)
    durations = np.random.default_rng(3).uniform(0.5, 20.0, 3000).tolist()
    run_window(batches, device, durations)
    first = [attempt for attempt in device.failures if attempt <= 50]
    assert len(first) <= math.log2(times) + 6, first
    assert len(device.failures) <= math.log2(times) + 20, "each of eleven length classes may fail once or twice"
    device.attempts.clear()
    device.failures.clear()
    run_window(batches, device, durations)
    assert len(device.failures) <= 0.1 * len(device.attempts)
    assert sum(items * longest_s for items, longest_s in device.attempts) / len(device.attempts) >= 40, "not too small"


def test_one_record_that_never_fits_does_not_shrink_the_batches_of_its_length() -> None:
    class Odd(Device):
        def run(self, lengths_s: Sequence[float]) -> MemoryPeak:
            if 5.0001 in lengths_s:
                self.failures.append(len(self.attempts))
                raise MemoryError("this one alone")
            return super().run(lengths_s)

    device = Odd(room_s=1e9)
    batches = MicroBatches("length", {}, max_batch_s=320.0)
    durations = [5.0] * 63 + [5.0001]
    run_window(batches, device, durations)
    assert batches.controller.scale(5.0) >= 0.8
    assert len(device.failures) <= 8
    assert sum(items for items, _ in device.attempts) == 63


def test_the_parts_that_wait_are_cut_to_what_was_learnt() -> None:
    clips = [Clip(np.zeros(RATE_HZ, np.float32), RATE_HZ) for _ in range(256)]
    seen: list[int] = []

    class Small(AudioModel):
        rate_hz = RATE_HZ

        def infer(self, clips: Sequence[Clip]) -> Any:
            seen.append(len(clips))
            if len(clips) > 10:
                raise MemoryError("as if")
            return [{} for _ in clips]

    batches = MicroBatches("length", {}, max_batch_s=256.0)
    inference = Inference(Small(), ModelResources(), batches, is_oom)
    inference.setup()
    result = inference.run([({"n": number}, clip) for number, clip in enumerate(clips)])
    assert sum(size for size in seen if size <= 10) == 256
    assert [size for size in seen if size > 10] == [256, 128, 64, 32, 16, 12]
    assert result.notes["ooms"] == 6


@given(
    lengths=st.lists(st.floats(0.1, 40.0), min_size=1, max_size=300),
    scale=st.dictionaries(st.integers(-8, 11), st.floats(0.05, 4.0), max_size=10),
    window=st.integers(8, 400),
)
def test_any_scales_of_the_lengths_lose_and_repeat_no_item_and_keep_to_the_caps(
    lengths: list[float], scale: dict[int, float], window: int
) -> None:
    def factor(length_s: float) -> float:
        return scale.get(math.floor(2 * math.log2(length_s)), 1.0)

    plan = list(LengthBatcher(60.0, scale=factor, window=window).plan(lengths))
    figures = score(plan, lengths, 60.0 * 4)
    assert (figures.lost, figures.duplicated, figures.invented) == (0, 0, 0)
    for batch in plan:
        longest_s = max(lengths[index] for index in batch)
        assert len(batch) == 1 or len(batch) * longest_s <= 60.0 * factor(longest_s) * (1 + 1e-6)
