"""Metrics of stages: throughput, padding, waiting and memory, in figures that can be added up.

    monitor = PerformanceMonitor()
    monitor.start_monitoring()
    monitor.record_batch(16, audio_duration=80.0, processing_time=0.4)
    monitor.get_statistics()["rtfx"]

Importing this package loads nothing beyond the standard library and loguru.
"""

from curate.monitoring.gpu import GpuMeter
from curate.monitoring.measures import Measures, add_measures, add_to
from curate.monitoring.performance import PerformanceMonitor, counted_use, statistics_of
from curate.monitoring.rate import Rate

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
