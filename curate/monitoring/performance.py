"""The performance monitor of a model: throughput, padding and waiting of its batches."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, cast

from curate.monitoring.measures import Measures, add_measures, add_to
from curate.monitoring.spread import mean, quantile, spread_of, standard_deviation

WARM_UP_BATCHES = 1


class PerformanceMonitor:
    """Accumulates the throughput, padding, waiting and times of batches.

    The clock is monotonic, and runs from `start_monitoring` to the last recorded batch: the figures do not depend on
    when they are read. `take_measures` returns plain data; `add_measures` adds it up over workers and attempts, and
    `statistics_of` computes the figures of the sum. Threads may share a monitor.

    Args:
        warm_up_batches: the number of first batches, for which memory is allocated and kernels are chosen, that count
            in the totals but not in rates and times per batch, unless there are no others.
        clock: returns monotonic seconds.
    """

    def __init__(self, *, warm_up_batches: int = WARM_UP_BATCHES, clock: Callable[[], float] = time.monotonic) -> None:
        self._warm_up_left = warm_up_batches
        self._clock = clock
        self._mark: float | None = None
        self._lock = Lock()
        self._taken: dict[str, Any] = {}
        self._new: dict[str, Any] = {}

    def start_monitoring(self) -> None:
        """Start the clock, or restart it after a pause: the time since the last batch then does not count."""
        with self._lock:
            self._mark = self._clock()

    def record_batch(
        self,
        batch_size: int,
        audio_duration: float,
        processing_time: float,
        *,
        padded_duration: float | None = None,
        load_wait: float = 0.0,
    ) -> None:
        """Record a finished batch. If the clock was not started, it starts at the beginning of this batch.

        Args:
            batch_size: the number of records.
            audio_duration: their total audio, in seconds.
            processing_time: the time that the model took, in seconds.
            padded_duration: the audio with its padding, records × longest, in seconds; None: without padding.
            load_wait: the time that the model waited for the batch to be loaded, in seconds.
        """
        with self._lock:
            now = self._clock()
            began = now - processing_time if self._mark is None else self._mark
            self._mark = now
            phase = "warm_up" if self._warm_up_left > 0 else "steady"
            self._warm_up_left -= 1
            padded_s = audio_duration if padded_duration is None else padded_duration
            shape = f"{batch_size}x{math.ceil(padded_s / max(batch_size, 1))}"
            batch = {
                "samples": batch_size,
                "audio_s": audio_duration,
                "padded_s": padded_s,
                "wall_s": now - began,
                "load_wait_s": load_wait,
                "batch_s": spread_of(processing_time),
            }
            add_to(self._new, {phase: batch, "shapes": {shape: 1}})

    def note(self, measures: Measures) -> None:
        """Record other measures, under the names that `statistics_of` lists."""
        with self._lock:
            add_to(self._new, measures)

    def take_measures(self) -> dict[str, Any]:
        """Return the measures recorded since the last call, possibly none."""
        with self._lock:
            taken, self._new = self._new, {}
            add_to(self._taken, taken)
            return taken

    def measures(self) -> dict[str, Any]:
        """Return all recorded measures."""
        with self._lock:
            return add_measures(self._taken, self._new)

    def get_statistics(self) -> dict[str, Any]:
        """Return the figures so far, see `statistics_of`; empty if no batch was recorded."""
        return statistics_of(self.measures())


def statistics_of(measures: Measures) -> dict[str, Any]:
    """Return the figures of measures, which may be sums over workers; empty if no batch was recorded.

    Units are seconds, bytes and shares (1.0 is all). For several workers, `total_processing_time` is the sum, so rates
    are those of one worker. Figures that could not be measured are absent.

    All batches: `batches`, `total_samples`, `total_audio_hours`, `total_processing_time`, `audio_s`, `padded_s`,
    `waste` (padding, as a share of the audio), `load_wait_s`, `model_s`.

    Without the `warm_up_batches`: `samples_per_second`, `rtfx` (audio seconds per second of wall time; the same as
    `throughput_audio_hours_per_hour`), and of the model's time `average_batch_time`, `batch_time_std`,
    `batch_time_p50`, `batch_time_p95` (within 1 %).

    GPU: `allocated_bytes` (the maximum between batches), `reserved_bytes` (the maximum that the allocator kept),
    `peak_bytes` (the maximum during a batch), `current_bytes` (before the last batch), `bytes_per_sample` (the maximum
    that a batch needed for each of its records), `gpu_utilisation` (the mean of one reading after each batch).

    Shapes of batches: `shapes`, the count of each `<records>x<longest in seconds, rounded up>`.

    Controller: `ooms`, `history` (`Adjustment`). Recogniser: `used`, such as `cuda_graphs`; where workers differ, each
    value with its count.
    """
    warm_up: Measures = measures.get("warm_up", {})
    steady: Measures = measures.get("steady", {})
    total = add_measures(warm_up, steady)
    if not total:
        return {}
    timed = steady or warm_up
    times = timed["batch_s"]
    figures: dict[str, Any] = {
        "batches": total["batch_s"]["count"],
        "total_samples": total["samples"],
        "total_audio_hours": total["audio_s"] / 3600,
        "total_processing_time": total["wall_s"],
        "audio_s": total["audio_s"],
        "padded_s": total["padded_s"],
        "waste": total["padded_s"] / total["audio_s"] - 1 if total["audio_s"] else 0.0,
        "load_wait_s": total["load_wait_s"],
        "model_s": total["batch_s"]["sum"],
        "warm_up_batches": warm_up["batch_s"]["count"] if warm_up and steady else 0,
    }
    if timed["wall_s"] > 0:
        figures["samples_per_second"] = timed["samples"] / timed["wall_s"]
        figures["rtfx"] = figures["throughput_audio_hours_per_hour"] = timed["audio_s"] / timed["wall_s"]
    figures |= {
        "average_batch_time": mean(times),
        "batch_time_std": standard_deviation(times),
        "batch_time_p50": quantile(times, 0.5),
        "batch_time_p95": quantile(times, 0.95),
    }
    figures |= {
        name.removeprefix("max_").removeprefix("last_"): size for name, size in measures.get("memory", {}).items()
    }
    gpu: Measures = measures.get("gpu", {})
    if gpu:
        figures["gpu_utilisation"] = gpu["utilisation"] / gpu["readings"]
    figures |= {name: measures[name] for name in ("ooms", "history", "shapes") if name in measures}
    if "used" in measures:
        figures["used"] = {name: _plain(counts) for name, counts in cast("Measures", measures["used"]).items()}
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in figures.items()}


def counted_use(used: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in use as measures: each value with a count of 1."""
    return {"used": {name: {json.dumps(value): 1} for name, value in used.items()}}


def _plain(counts: Mapping[str, int]) -> Any:
    return json.loads(next(iter(counts))) if len(counts) == 1 else dict(counts)
