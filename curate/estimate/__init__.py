"""Estimates the time and the price of a whole job before it runs: `curate plan --estimate`.

    found = estimate(pipeline, executor="multiprocessing", sample_s=60, prices=Prices.parse(["gpu=2.5/h"]))
    found.wall_s, found.price, found.bottleneck.stage

input_size   how much there is: records, audio or bytes, counted from the source
sampling     runs the pipeline on spread samples of it, in a temporary run directory, and publishes nothing
figures      the figures of a run: work, records and audio of its stages and phases
workload     the work of the whole job, extrapolated from figures
schedule     how long a phase takes with a number of workers
prices       of resources by time
forecast     time, price and bottleneck of the job

The figures are from a sample or from the commits of a run. Nothing is estimated from tables of models or machines.
"""

from typing import TYPE_CHECKING, NoReturn

from curate.estimate.bench_speeds import measured_speeds
from curate.estimate.forecast import Bottleneck, Forecast, StageForecast
from curate.estimate.input_size import InputSize
from curate.estimate.making import estimate
from curate.estimate.prices import Prices
from curate.suggest import unknown_attribute

__all__ = ["Bottleneck", "Forecast", "InputSize", "Prices", "StageForecast", "estimate", "measured_speeds"]


if not TYPE_CHECKING:  # a type checker would take any name for a known one

    def __getattr__(name: str) -> NoReturn:
        raise unknown_attribute(__name__, name, __all__)
