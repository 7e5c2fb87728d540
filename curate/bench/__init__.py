"""Benchmarks of a pipeline's settings on the user's own records.

    report = bench_batch_sizes(pipeline, sizes=(1, 8, 16), budgets=(60, 120))
    report.best.setting

`curate bench batch-size` runs the same on the command line.
"""

from typing import TYPE_CHECKING, NoReturn

from curate.bench.approaches import ApproachReport, ApproachTrial, bench_approaches
from curate.bench.batch_size import BatchSizeReport, bench_batch_sizes
from curate.bench.history import append, last_alike
from curate.bench.plot import save_plot
from curate.bench.trial import Trial
from curate.suggest import unknown_attribute

__all__ = [
    "ApproachReport",
    "ApproachTrial",
    "BatchSizeReport",
    "Trial",
    "append",
    "bench_approaches",
    "bench_batch_sizes",
    "last_alike",
    "save_plot",
]


if not TYPE_CHECKING:  # a type checker would take any name for a known one

    def __getattr__(name: str) -> NoReturn:
        raise unknown_attribute(__name__, name, __all__)
