"""A model on torch gets its GPU's memory, limits and name without a line of its own; with a fake torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from curate import Resources
from curate.models import AudioModel, DeviceMemory, MemoryPeak, ModelResources
from curate.models.inference import Inference
from curate.models.micro_batches import MicroBatches

GB = 10**9


class Cuda:
    """The memory of a GPU of 80 GB, 20 of which other processes hold; a batch takes 1 GB for each 10 s."""

    def __init__(self) -> None:
        self.allocated = 2 * GB
        self.most = 0
        self.freed = 0
        self.fraction: float | None = None

    def is_available(self) -> bool:
        return True

    def mem_get_info(self, device: Any) -> tuple[int, int]:
        return 60 * GB - self.memory_reserved(device), 80 * GB

    def memory_allocated(self, device: Any) -> int:
        return self.allocated

    def memory_reserved(self, device: Any) -> int:
        return self.allocated + GB

    def reset_peak_memory_stats(self, device: Any) -> None:
        self.most = self.allocated

    def max_memory_allocated(self, device: Any) -> int:
        return self.most

    def max_memory_reserved(self, device: Any) -> int:
        return self.most + GB

    def get_device_properties(self, device: Any) -> Any:
        return SimpleNamespace(total_memory=80 * GB, uuid="12-34")

    def current_device(self) -> int:
        return 0

    def set_per_process_memory_fraction(self, fraction: float, device: int) -> None:
        self.fraction = fraction

    def empty_cache(self) -> None:
        self.freed += 1

    def synchronize(self, device: Any) -> None: ...


class OnTorch(AudioModel):
    """A model without a word about memory."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda

    def infer(self, clips: Sequence[Any]) -> list[dict[str, Any]]:
        padded_s = len(clips) * max(clip.duration_s for clip in clips)
        self.cuda.most = max(self.cuda.most, self.cuda.allocated + int(padded_s * GB / 10))
        return [{} for _ in clips]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    cuda = Cuda()
    threads: list[int] = []
    device = SimpleNamespace(type="cuda", index=None)
    fake = SimpleNamespace(cuda=cuda, device=lambda name: device, set_num_threads=threads.append, threads=threads)
    monkeypatch.setitem(sys.modules, "torch", fake)
    return cuda


def on(resources: Resources, cuda: Cuda, batching: str = "memory") -> Inference:
    batches = MicroBatches(batching, {}, device_share=ModelResources.of(resources).gpu_share)
    inference = Inference(OnTorch(cuda), ModelResources.of(resources), batches, lambda error: False)
    inference.setup()
    return inference


def test_budget_is_calibrated_to_the_memory_that_is_free(cuda: Cuda) -> None:
    inference = on(Resources(gpus=1.0), cuda)
    assert inference.capabilities.gpu_uuid == "GPU-12-34"
    meter = inference.capabilities.meter
    assert meter is not None
    assert meter.memory() == DeviceMemory(free_bytes=58 * GB, own_bytes=2 * GB, total_bytes=80 * GB)
    report = inference.batches.report()
    assert (report["strategy"], report["budget"]) == ("memory", pytest.approx(0.8 * 58 * GB))
    assert inference.batches.controller.cost.cost(10, 10.0) == pytest.approx(10 * GB, rel=0.01)
    assert cuda.fraction is None, "the whole GPU is this worker's"


def test_peak_is_that_of_one_batch(cuda: Cuda) -> None:
    meter = on(Resources(gpus=1.0), cuda, "length").capabilities.meter
    assert meter is not None and meter.peak() is None
    for own in (3 * GB, GB):
        meter.start_batch()
        cuda.most += own
        assert meter.peak() == MemoryPeak(own, (2 * GB + own) / (80 * GB), 2 * GB, 2 * GB + own + GB)


def test_part_of_a_gpu_is_enforced(cuda: Cuda) -> None:
    inference = on(Resources(gpus=0.5), cuda)
    assert cuda.fraction == pytest.approx((40 * GB - 600e6) / (80 * GB))
    assert inference.batches.report()["budget"] == pytest.approx(0.8 * 38 * GB)


def test_on_the_cpu_threads_are_set_and_no_gpu_is_asked(cuda: Cuda) -> None:
    inference = on(Resources(cpus=3.0), cuda)
    assert inference.capabilities.meter is None
    assert sys.modules["torch"].threads == [3]
    assert inference.batches.report()["strategy"] == "length"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (Resources(cpus=2.5), ModelResources("cpu", threads=2)),
        (Resources(cpus=0.5), ModelResources("cpu", threads=1)),
        (Resources(gpus=2), ModelResources("cuda")),
        (Resources(gpus=0.25), ModelResources("cuda", gpu_share=0.25)),
        (Resources(gpu_memory_gb=6.0), ModelResources("cuda", gpu_memory_gb=6.0)),
    ],
)
def test_resources_of_a_model_follow_from_those_of_its_stage(resources: Resources, expected: ModelResources) -> None:
    assert ModelResources.of(resources) == expected
    assert ModelResources.of(resources).on_gpu == (expected.device == "cuda")


def test_a_model_that_cannot_process_noise_is_planned_in_seconds(cuda: Cuda) -> None:
    class NeedsLanguage(OnTorch):
        def infer(self, clips: Sequence[Any]) -> list[dict[str, Any]]:
            return [{"text": clip.record["lang"]} for clip in clips]

    batches = MicroBatches("memory", {})
    Inference(NeedsLanguage(cuda), ModelResources("cuda"), batches, lambda error: False).setup()
    assert batches.report()["strategy"] == "length"
