"""The monitor: the seed's three calls, a clock that cannot run backwards, sums over workers, nothing invented."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.monitoring import GpuMeter, PerformanceMonitor, add_measures, counted_use, statistics_of


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def record(clock: Clock) -> Callable[..., None]:
    """Return what lets a batch take its time and records it."""

    def take(monitor: PerformanceMonitor, size: int, audio_s: float, took_s: float, **more: float) -> None:
        clock.now_s += took_s + more.get("load_wait", 0.0)
        monitor.record_batch(size, audio_s, took_s, **more)

    return take


def test_before_any_batch_there_are_no_figures() -> None:
    monitor = PerformanceMonitor()
    monitor.start_monitoring()
    assert monitor.get_statistics() == {}
    assert monitor.take_measures() == {}


def test_throughput_is_audio_over_wall_and_not_upside_down(clock: Clock, record: Any) -> None:
    monitor = PerformanceMonitor(warm_up_batches=0, clock=clock)
    monitor.start_monitoring()
    record(monitor, 10, 50.0, 0.5)
    record(monitor, 10, 50.0, 1.5)
    clock.now_s += 1000.0  # somebody looks at the figures late
    figures = monitor.get_statistics()
    assert figures["total_samples"] == 20
    assert figures["total_processing_time"] == 2.0
    assert figures["samples_per_second"] == 10.0
    assert figures["rtfx"] == figures["throughput_audio_hours_per_hour"] == 50.0
    assert (figures["average_batch_time"], figures["batch_time_std"]) == (1.0, 0.5)
    assert figures["batch_time_p50"] == pytest.approx(0.5, rel=0.01)
    assert figures["batch_time_p95"] == pytest.approx(1.5, rel=0.01)


def test_the_warm_up_counts_in_the_totals_alone(clock: Clock, record: Any) -> None:
    monitor = PerformanceMonitor(clock=clock)
    monitor.start_monitoring()
    record(monitor, 4, 20.0, 30.0)
    assert monitor.get_statistics()["rtfx"] == pytest.approx(20 / 30), "better than nothing, if there is nothing else"
    for _ in range(3):
        record(monitor, 4, 20.0, 1.0)
    figures = monitor.get_statistics()
    assert (figures["batches"], figures["total_samples"], figures["warm_up_batches"]) == (4, 16, 1)
    assert figures["total_processing_time"] == 33.0
    assert (figures["rtfx"], figures["samples_per_second"], figures["average_batch_time"]) == (20.0, 4.0, 1.0)


def test_padding_and_waiting_are_told(clock: Clock, record: Any) -> None:
    monitor = PerformanceMonitor(warm_up_batches=0, clock=clock)
    monitor.start_monitoring()
    record(monitor, 4, 10.0, 1.0, padded_duration=12.5, load_wait=0.25)
    figures = monitor.get_statistics()
    assert (figures["padded_s"], figures["waste"], figures["load_wait_s"], figures["model_s"]) == (
        12.5,
        0.25,
        0.25,
        1.0,
    )
    assert figures["total_processing_time"] == 1.25


def test_a_pause_does_not_count_when_the_clock_is_started_again(clock: Clock, record: Any) -> None:
    monitor = PerformanceMonitor(warm_up_batches=0, clock=clock)
    record(monitor, 1, 1.0, 1.0)  # without a start: from its own beginning
    clock.now_s += 500.0
    monitor.start_monitoring()
    record(monitor, 1, 1.0, 1.0)
    assert monitor.get_statistics()["total_processing_time"] == 2.0


def test_what_was_not_measured_is_absent_and_not_zero(clock: Clock, record: Any) -> None:
    monitor = PerformanceMonitor(clock=clock)
    record(monitor, 1, 1.0, 1.0)
    names = {"peak_bytes", "allocated_bytes", "reserved_bytes", "gpu_utilisation", "ooms", "history", "used"}
    assert not names & monitor.get_statistics().keys()
    monitor.note({"memory": {"max_peak_bytes": 7}, "gpu": {"readings": 1, "utilisation": 0.5}, "ooms": 1})
    monitor.note({"memory": {"max_peak_bytes": 5}, "gpu": {"readings": 1, "utilisation": 1.0}})
    figures = monitor.get_statistics()
    assert (figures["peak_bytes"], figures["gpu_utilisation"], figures["ooms"]) == (7, 0.75, 1)


def test_what_was_used_is_told_once_or_with_numbers_where_it_differs() -> None:
    monitor = PerformanceMonitor()
    monitor.record_batch(1, 1.0, 1.0)
    for dtype in ("bf16", "bf16", "fp32"):
        monitor.note(counted_use({"dtype": dtype, "cuda_graphs": True}))
    assert monitor.get_statistics()["used"] == {"cuda_graphs": True, "dtype": {'"bf16"': 2, '"fp32"': 1}}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 32), st.floats(0.1, 30.0), st.floats(0.01, 5.0)), min_size=1)
)
def test_parts_taken_at_any_time_add_up_to_what_one_monitor_would_say(
    batches: list[tuple[int, int, float, float]],
) -> None:
    clock = Clock()
    one = PerformanceMonitor(warm_up_batches=0, clock=clock)
    taking = PerformanceMonitor(warm_up_batches=0, clock=clock)
    one.start_monitoring()
    taking.start_monitoring()
    total: dict[str, Any] = {}
    for take, size, audio_s, took_s in batches:
        clock.now_s += took_s
        for monitor in (one, taking):
            monitor.record_batch(size, audio_s, took_s)
        if not take:
            total = add_measures(total, json.loads(json.dumps(taking.take_measures())))
    total = add_measures(total, taking.take_measures())
    expected = one.get_statistics()
    shapes = expected.pop("shapes")
    for figures in (statistics_of(total), taking.get_statistics()):
        assert figures.pop("shapes") == shapes
        assert figures == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_shapes_count_batches_by_their_records_and_their_longest() -> None:
    monitor = PerformanceMonitor()
    for size, padded_s in ((16, 80.0), (16, 76.9), (2, 40.0)):
        monitor.record_batch(size, padded_s / 2, 0.1, padded_duration=padded_s)
    assert monitor.get_statistics()["shapes"] == {"16x5": 2, "2x20": 1}


def test_threads_may_share_a_monitor() -> None:
    monitor = PerformanceMonitor()

    def work() -> None:
        for _ in range(200):
            monitor.record_batch(1, 2.0, 0.001)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    figures = monitor.get_statistics()
    assert (figures["total_samples"], figures["audio_s"]) == (800, 1600.0)


class NVMLError(Exception):
    pass


class FakeNvml:
    """NVML with one card."""

    NVMLError = NVMLError

    def __init__(self, *, has_driver: bool = True, tells: int = 10) -> None:
        self.has_driver, self.tells, self.is_open = has_driver, tells, False

    def nvmlInit(self) -> None:  # noqa: N802 (NVML's own name)
        if not self.has_driver:
            raise NVMLError("Driver Not Loaded")
        self.is_open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open = False

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != "GPU-1":
            raise NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:  # noqa: N802
        self.tells -= 1
        if self.tells < 0:
            raise NVMLError("Not Supported")
        return type("Rates", (), {"gpu": 40})


class TestTheGpuMeter:
    @staticmethod
    def use(monkeypatch: pytest.MonkeyPatch, nvml: object) -> None:
        import sys

        monkeypatch.setitem(sys.modules, "pynvml", nvml)

    def test_reads_the_card_with_that_uuid(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nvml = FakeNvml()
        self.use(monkeypatch, nvml)
        meter = GpuMeter.open("GPU-1")
        assert meter is not None and meter.utilisation() == 0.4
        meter.close()
        assert not nvml.is_open

    def test_without_a_card_a_driver_or_the_package_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert GpuMeter.open(None) is None
        self.use(monkeypatch, FakeNvml())
        assert GpuMeter.open("GPU-2") is None
        self.use(monkeypatch, FakeNvml(has_driver=False))
        assert GpuMeter.open("GPU-1") is None
        self.use(monkeypatch, FakeNvml(tells=0))
        assert GpuMeter.open("GPU-1") is None
        self.use(monkeypatch, None)  # as if it were not installed
        assert GpuMeter.open("GPU-1") is None

    def test_a_card_that_stops_telling_has_no_figure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.use(monkeypatch, FakeNvml(tells=2))
        meter = GpuMeter.open("GPU-1")
        assert meter is not None
        assert (meter.utilisation(), meter.utilisation()) == (0.4, None)
