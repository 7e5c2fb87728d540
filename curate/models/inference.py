"""The part of a model's work that is done in its own thread: batches that do not fit into memory are split."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeAlias

import attrs
from loguru import logger

from curate.batching import Unfit, run_splitting
from curate.errors import CurateError, InfrastructureError, RecordError
from curate.gpu_errors import classify_gpu_error, is_oom
from curate.models.capabilities import MemoryPeak, ModelCapabilities
from curate.models.clip import Clip
from curate.models.micro_batches import MicroBatches
from curate.models.model import AudioModel, Rows
from curate.models.resources import ModelResources
from curate.models.torch_device import restrict_torch
from curate.monitoring import GpuMeter
from curate.records import Record

Loaded: TypeAlias = "tuple[Record, Clip]"

PAUSES_S = (1.0, 5.0, 20.0)
"""The waits before retries of a single record that does not fit while other processes hold the GPU's memory."""

_NOISE = 1e-3
"""The level of the faint noise that stands for audio in trial batches."""


@dataclass(slots=True)
class InferenceFailed:
    """A record that could not be loaded, or that does not fit into memory alone."""

    record: Record
    error: RecordError


@dataclass(slots=True)
class PendingRows:
    """Records of one model call, and the function that makes their rows."""

    records: list[Record]
    make: Callable[[], Rows]


@dataclass(slots=True)
class ModelCall:
    """The measurements of one successful model call."""

    items: int
    audio_s: float
    longest_s: float
    model_s: float
    notes: dict[str, Any]

    @property
    def described_memory(self) -> str:
        """The peak of device memory for a log line; empty if it is unknown."""
        memory = self.notes.get("memory", {})
        if "max_bytes_per_sample" not in memory:
            return ""
        return f", {memory['max_bytes_per_sample'] * self.items / 1e6:.0f} MB of device memory"


@dataclass(slots=True)
class MicroBatchResult:
    """The outcomes of a micro-batch, and its measurements, which count once its records are yielded."""

    outcomes: list[PendingRows | InferenceFailed]
    calls: list[ModelCall]
    notes: dict[str, Any]


class Inference:
    """A model with the budget of its batches. All methods are called in the model's thread.

    Args:
        model: not yet set up.
        resources: where and how it runs.
        batches: the budget, which learns from each batch.
        is_oom: returns whether an error of the model means that memory ran out.
        pause: waits for a number of seconds, while other processes hold memory of this worker.
    """

    def __init__(
        self,
        model: AudioModel,
        resources: ModelResources,
        batches: MicroBatches,
        is_oom: Callable[[BaseException], bool],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.model = model
        self.batches = batches
        self.pause = pause
        self.capabilities = ModelCapabilities()
        self.idle_since = 0.0
        """When the model finished its last batch."""
        self._resources = resources
        self._is_oom = is_oom
        self._gpu: GpuMeter | None = None
        self._calls: list[ModelCall] = []  # of the micro-batch at work
        self._ooms = 0  # of the same micro-batch

    def setup(self) -> None:
        """Load the model, and measure the memory that batches need.

        Raises:
            InfrastructureError: a package that the model needs is missing; whatever the model raises.
        """
        object.__setattr__(self.model, "resources", self._resources)  # the model's class may be frozen
        try:
            self.model.setup()
        except ModuleNotFoundError as error:
            raise InfrastructureError(
                f"the model {type(self.model).__name__} needs the package {error.name!r}, which is not installed where "
                f"this worker runs: pip install {error.name}"
            ) from error
        if type(self.model).capabilities is AudioModel.capabilities:  # one that reports its own restricts itself
            restrict_torch(self._resources)
        self.capabilities = self.model.capabilities()
        self._gpu = GpuMeter.open(self.capabilities.gpu_uuid)
        self._calibrate()

    def close(self) -> None:
        """Release the model."""
        try:
            self.model.close()
        finally:
            if self._gpu is not None:
                self._gpu.close()

    def runtime_info(self) -> dict[str, Any]:
        """Return the device, number format and the like that the model reports; empty if it reports none."""
        described = self.capabilities.runtime_info
        return {} if described is None else dict(described())

    def run(self, loaded: list[Loaded], staged: Future[Sequence[Clip]] | None = None) -> MicroBatchResult:
        """Run one micro-batch through the model, in parts if it does not fit."""
        outcomes: list[PendingRows | InferenceFailed] = []
        self._calls, self._ooms = [], 0
        waiting = [staged]  # for the batch as a whole, once

        def infer(part: list[Loaded]) -> Callable[[], Rows]:
            return self._infer(part, waiting.pop() if waiting else None)

        parts = run_splitting(loaded, infer, is_oom=self._is_oom, on_oom=self._record_oom, length_s=_length_s)
        for part in parts:
            if isinstance(part, Unfit):
                outcomes.append(self._try_again(part))
            else:
                outcomes.append(PendingRows([record for record, _ in part.items], part.result))
        self.idle_since = time.monotonic()
        changes = [attrs.asdict(change) for change in self.batches.controller.take_changes()]
        notes = ({"ooms": self._ooms} if self._ooms else {}) | ({"history": changes} if changes else {})
        return MicroBatchResult(outcomes, self._calls, notes)

    def reserve(self, shapes: Sequence[tuple[int, float]]) -> bool:
        """Let the model make room for the planned batches, before the first.

        Args:
            shapes: the number of clips and the length of the longest, of each batch.

        Returns:
            Whether that took memory, which batches can no longer use.
        """
        reserve = self.capabilities.reserve
        if reserve is None or not shapes:
            return False
        longest_first = sorted(set(shapes), key=lambda shape: (-shape[1], -shape[0]))  # its buffers hold shorter ones
        items, longest_s = longest_first[0]

        def work(_: list[None]) -> bool:
            nonlocal items, longest_s
            took = False
            for items, longest_s in longest_first:
                took |= reserve(items, longest_s)
            return took

        try:
            [part] = run_splitting([None], work, is_oom=is_oom)
        except Exception as error:
            raise InfrastructureError(
                f"cannot capture CUDA graphs for {items} records of {longest_s:g} s ({type(error).__name__}: {error}); "
                "cuda_graphs: false switches them off"
            ) from error
        if isinstance(part, Unfit):  # each batch will make its own room
            self._free_memory()
            return False
        if part.result:
            self.batches.update_budget(self.capabilities.meter)
        return part.result

    def _calibrate(self) -> None:
        try:
            self.batches.calibrate(self.capabilities.meter, self._measure)
        except CurateError:
            raise
        except Exception as error:
            if classify_gpu_error(error) is not None:
                raise
            logger.opt(exception=error).warning(
                "the model {} cannot process clips of noise without a record ({}: {}), so the memory of its batches is "
                "not measured; they are planned in seconds",
                type(self.model).__name__,
                type(error).__name__,
                error,
            )

    def _measure(self, items: int, longest_s: float) -> int:
        """Run one batch of faint noise, and return the bytes of device memory that it needed; 0: unknown."""
        import numpy as np

        if self.capabilities.reserve is not None:
            self.capabilities.reserve(items, longest_s)  # buffers that stay are not what the batch needs
        rate_hz = self.model.rate_hz
        noise = np.random.default_rng(0).normal(0, _NOISE, int(longest_s * rate_hz)).astype(np.float32)
        self._call([Clip(noise, rate_hz)] * items)()
        peak = self._peak()
        return peak.own_bytes if peak is not None else 0

    def _call(self, clips: Sequence[Clip]) -> Callable[[], Rows]:
        """Call the model, and return the function that makes the rows."""
        if self.capabilities.meter is not None:
            self.capabilities.meter.start_batch()
        result = self.model.infer(clips)
        return result if callable(result) else lambda: result

    def _infer(self, loaded: list[Loaded], staged: Future[Sequence[Clip]] | None) -> Callable[[], Rows]:
        clips = [clip for _, clip in loaded] if staged is None else staged.result()
        started = time.monotonic()
        make = self._call(clips)
        model_s = time.monotonic() - started
        peak = self._peak()
        lengths_s = list(map(_length_s, loaded))
        longest_s = max(lengths_s)
        self.batches.record_success(len(loaded), longest_s, peak)
        self._calls.append(
            ModelCall(len(loaded), sum(lengths_s), longest_s, model_s, self._device_notes(peak, len(loaded)))
        )
        return make

    def _peak(self) -> MemoryPeak | None:
        meter = self.capabilities.meter
        return None if meter is None else meter.peak()

    def _device_notes(self, peak: MemoryPeak | None, items: int) -> dict[str, Any]:
        """Return the utilisation and the memory of the device, as far as they can be measured."""
        notes: dict[str, Any] = {}
        utilisation = self._gpu.utilisation() if self._gpu is not None else None
        if utilisation is not None:
            notes["gpu"] = {"readings": 1, "utilisation": utilisation}
        if peak is not None:
            notes["memory"] = _memory_notes(peak, items)
        return notes

    def _try_again(self, unfit: Unfit[Loaded]) -> PendingRows | InferenceFailed:
        """Retry a record that does not fit alone, as long as other processes hold this worker's memory.

        Fractions of a GPU hold only if every process keeps to its own: a neighbour that does not, or whose cache has
        grown for a moment, must not cost a good record.
        """
        message = unfit.message
        for pause_s in PAUSES_S:
            if not self.batches.is_crowded(self.capabilities.meter):
                break
            logger.warning("other processes hold GPU memory of this worker; trying again in {:g} s", pause_s)
            self.pause(pause_s)
            [part] = run_splitting(
                [unfit.item], lambda part: self._infer(part, None), is_oom=self._is_oom, on_oom=self._record_oom
            )
            if not isinstance(part, Unfit):
                return PendingRows([record for record, _ in part.items], part.result)
            message = part.message
        return InferenceFailed(unfit.item[0], RecordError("oom", message))

    def _record_oom(self, loaded: list[Loaded], _: str) -> None:
        self._ooms += 1
        self.batches.record_oom(max(map(_length_s, loaded)))
        self._free_memory()

    def _free_memory(self) -> None:
        if self.capabilities.meter is not None:
            self.capabilities.meter.free_memory()


def _memory_notes(peak: MemoryPeak, items: int) -> Mapping[str, float]:
    allocated, reserved = peak.allocated_bytes, peak.reserved_bytes
    memory: dict[str, float | None] = {
        "max_allocated_bytes": allocated,
        "max_reserved_bytes": reserved,
        "max_peak_bytes": None if allocated is None else allocated + peak.own_bytes,
        "max_bytes_per_sample": peak.own_bytes / items,
        "last_current_bytes": allocated,
    }
    return {name: size for name, size in memory.items() if size is not None}


def _length_s(loaded: Loaded) -> float:
    return loaded[1].duration_s
