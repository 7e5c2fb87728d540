"""Metrics of stages: throughput, padding, waiting and memory, in figures that can be added up.

    monitor = PerformanceMonitor()
    monitor.start_monitoring()
    monitor.record_batch(16, audio_duration=80.0, processing_time=0.4)
    monitor.get_statistics()["rtfx"]

Importing this package loads nothing beyond the standard library and loguru.
"""

from typing import TYPE_CHECKING, NoReturn

from curate.monitoring.gpu import GpuMeter
from curate.monitoring.measures import Measures, add_measures, add_to
from curate.monitoring.performance import PerformanceMonitor, counted_use, statistics_of
from curate.monitoring.rate import Rate
from curate.suggest import unknown_attribute

__all__ = [
    "GpuMeter",
    "Measures",
    "PerformanceMonitor",
    "Rate",
    "add_measures",
    "add_to",
    "counted_use",
    "statistics_of",
]


if not TYPE_CHECKING:  # a type checker would take any name for a known one

    def __getattr__(name: str) -> NoReturn:
        raise unknown_attribute(__name__, name, __all__)
