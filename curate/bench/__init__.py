"""Benchmarks of a pipeline's settings on the user's own records.

    report = bench_batch_sizes(pipeline, sizes=(1, 8, 16), budgets=(60, 120))
    report.best.setting

`curate bench batch-size` runs the same on the command line.
"""

from curate.bench.batch_size import BatchSizeReport, bench_batch_sizes
from curate.bench.history import append, last_alike
from curate.bench.plot import save_plot
from curate.bench.trial import Trial

__all__ = ["BatchSizeReport", "Trial", "append", "bench_batch_sizes", "last_alike", "save_plot"]
