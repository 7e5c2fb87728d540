"""The model of cost holds: short runs predict what a run of ten times as many records costs the driver and the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bench.cost_model import CostModel, UnitSizes, compare, measure_runs
from tests.bench.run_costs import measure

TOLERANCE = 0.25
MOST_DRIVER_BYTES = 200_000_000


def test_units_of_a_long_run_grow_to_sixteen_times_their_size() -> None:
    units, largest = UnitSizes(row_bytes=300.0, excess_bytes=0.0).units(10**9)
    assert largest == 64 * 2**20
    assert units < 2 * 10**9 * 300 / (4 * 2**20) / 8


def test_excess_of_units_follows_from_their_number() -> None:
    units, _ = UnitSizes(345.0, 500_000.0).units(10**6)
    run = {"records": 10**6, "units": units, "unit_bytes": None, "unit_sizes": {"sum": 2 * 345 * 10**6}}
    assert UnitSizes.of([run]).excess_bytes == pytest.approx(500_000, rel=0.15)


@pytest.mark.slow
def test_costs_of_a_hundred_thousand_records_are_as_ten_thousand_predict(tmp_path: Path) -> None:
    model = CostModel.of(measure_runs(tmp_path, most=10_000))
    ratios = compare(model.predict(100_000), measure(100_000, tmp_path / "long"))
    for name in ("bytes", "files", "fsyncs"):
        assert ratios[name] == pytest.approx(1, abs=TOLERANCE), name


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_costs_of_ten_million_records_are_as_a_million_predict(tmp_path: Path) -> None:
    before = measure_runs(tmp_path, most=1_000_000)
    measured = measure(10_000_000, tmp_path / "long")
    print(measured)
    shutil.rmtree(tmp_path / "long")
    after = measure_runs(tmp_path, most=1_000_000)  # other work on the machine makes it slower or faster meanwhile
    ratios = compare(CostModel.of([*before, *after]).predict(10_000_000), measured)
    assert measured["peak_bytes"] <= MOST_DRIVER_BYTES
    for name, ratio in ratios.items():
        assert ratio == pytest.approx(1, abs=TOLERANCE), name
