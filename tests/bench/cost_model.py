"""The cost of a run as a function of its records and commit units, fitted to short runs and checked by a long one.

    python -m tests.bench.cost_model WORK_DIR [--most 1000000] [--out costs.json]

Whatever a run costs is `fixed + per record × records + per unit × units`, and the peak of the driver's memory is
`fixed + per unit × units + share × bytes of the largest unit`. The number of units follows from the bytes that rows
take in the driver, because units grow in long runs: their law is the engine's own (`UNIT_BYTES`, `LARGEST`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from curate.engine.durability.commit import LARGEST, UNIT_BYTES, UNITS_OF_A_SIZE
from tests.bench.run_costs import UTTERANCE_S, measure

COSTS = ("bytes", "files", "fsyncs", "driver_cpu_s", "peak_bytes")
SMALL_UNITS = UNIT_BYTES // 16
LARGE_UNITS = UNIT_BYTES * LARGEST
PHASES = 2

_WITHOUT = {"peak_bytes": (1,), "published": (2, 3)}
"""Terms that a cost does not have: the driver keeps nothing of a record, and published files know no units."""


@attrs.frozen
class Fit:
    """One cost: the sum of what is fixed, what each record costs, what each unit costs, and of the largest unit."""

    fixed: float
    per_record: float
    per_unit: float
    per_byte_of_largest: float

    def __call__(self, records: float, units: float, largest_bytes: float) -> float:
        sizes = records * self.per_record, units * self.per_unit, largest_bytes * self.per_byte_of_largest
        return self.fixed + sum(sizes)


@attrs.frozen
class CostModel:
    """Predicts what a run costs.

    Args:
        sizes: of commit units.
        fits: by the names in `COSTS`, and `<folder> bytes` for each folder of the run directory.
    """

    sizes: UnitSizes
    fits: Mapping[str, Fit]

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]]) -> CostModel:
        """Fit the model to measured runs of several lengths and sizes of units."""
        folders = sorted({kind for run in runs for kind in run["kinds"]})
        fits = {name: _fit(runs, [run[name] for run in runs], name) for name in COSTS}
        for folder in folders:
            sizes = [run["kinds"].get(folder, [0, 0])[1] for run in runs]
            fits[f"{folder} bytes"] = _fit(runs, sizes, folder)
        return cls(UnitSizes.of(runs), fits)

    def predict(self, records: int) -> dict[str, float]:
        """Return the costs of a run with units of the usual sizes."""
        units, largest = self.sizes.units(records)
        found = {name: fit(records, units, largest) for name, fit in self.fits.items()}
        return {"records": records, "units": units, "largest_unit_bytes": largest, **found}


@attrs.frozen
class UnitSizes:
    """The law by which rows are cut into commit units.

    Args:
        row_bytes: what a row takes of a unit, in bytes of the driver's memory.
        excess_bytes: by how much a unit is larger than its limit, because it ends with a whole result of a worker.
    """

    row_bytes: float
    excess_bytes: float

    @classmethod
    def of(cls, runs: Sequence[Mapping[str, Any]]) -> UnitSizes:
        """Fit the law to the run that has most units."""
        run = max(runs, key=lambda run: run["units"])
        row_bytes = run["unit_sizes"]["sum"] / run["records"] / PHASES
        low, high = 0.0, 1e8
        while high - low > 1:
            middle = (low + high) / 2
            units, _ = cls(row_bytes, middle).units(run["records"], run["unit_bytes"])
            low, high = (middle, high) if units > run["units"] else (low, middle)
        return cls(row_bytes, high)

    def units(self, records: int, unit_bytes: int | None = None) -> tuple[int, float]:
        """Return the number of commit units of all phases, and the bytes of the largest one.

        Args:
            records: how many records each phase has.
            unit_bytes: as in `RunOptions`.
        """
        left, units, largest = records * self.row_bytes, 0, 0.0
        while left > 0:
            limit = (unit_bytes or UNIT_BYTES) * min(LARGEST, max(1.0, units / UNITS_OF_A_SIZE))
            largest = max(largest, min(limit + self.excess_bytes, left))
            left -= limit + self.excess_bytes
            units += 1
        return PHASES * units, largest


def _fit(runs: Sequence[Mapping[str, Any]], values: Iterable[float], name: str) -> Fit:
    """Fit one cost by least squares of the relative errors, no coefficient below 0."""
    from scipy.optimize import nnls

    left = np.array([[1.0, run["records"], run["units"], run["unit_sizes"]["largest"]] for run in runs])
    right = np.array(list(values), dtype=float)
    left[:, _WITHOUT.get(name, (3,))] = 0.0
    weights = 1.0 / np.maximum(right, 1.0)
    scale = np.maximum(left.max(axis=0), 1.0)
    found, _ = nnls(left / scale * weights[:, None], right * weights)
    return Fit(*(found / scale))


def measure_runs(work_dir: Path, most: int, **options: Any) -> list[dict[str, Any]]:
    """Return the costs of runs of a hundredth, a tenth and all of `most` records, two of them with other units."""
    runs: list[dict[str, Any]] = []
    for records, unit_bytes in (
        (most // 100, None),
        (most // 10, None),
        (most, None),
        (most, SMALL_UNITS),
        (most, LARGE_UNITS),
    ):
        run_dir = work_dir / f"{records}-{unit_bytes}"
        given = options if unit_bytes is None else {**options, "unit_bytes": unit_bytes}
        runs.append(measure(records, run_dir, **given))
        print(json.dumps(runs[-1]), file=sys.stderr)
        shutil.rmtree(run_dir)
    return runs


def compare(predicted: Mapping[str, float], measured: Mapping[str, Any]) -> dict[str, float]:
    """Print the prediction next to the measurement, and return measured by predicted for each cost."""
    ratios = {name: measured[name] / predicted[name] for name in (*COSTS, "units")}
    for name, ratio in ratios.items():
        print(f"{name}: predicted {predicted[name]:,.1f}, measured {measured[name]:,.1f}: {ratio:.3f}")
    return ratios


def table(model: CostModel) -> str:
    """Return the predictions for 10⁴ to 10⁹ records as a table of Markdown."""
    lines = [
        "| records | hours of speech | units | files | fsyncs | bytes | driver CPU | driver memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for exponent in range(4, 10):
        found = model.predict(10**exponent)
        hours = 10**exponent * UTTERANCE_S / 3600
        lines.append(
            f"| 10^{exponent} | {hours:,.0f} | {found['units']:,.0f} | {found['files']:,.0f} | {found['fsyncs']:,.0f} "
            f"| {found['bytes'] / 1e6:,.0f} MB | {found['driver_cpu_s']:,.0f} s | {found['peak_bytes'] / 1e6:,.0f} MB |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work_dir", type=Path)
    parser.add_argument("--most", type=int, default=1_000_000)
    parser.add_argument("--executor", default="local")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    given.work_dir.mkdir(parents=True, exist_ok=True)
    runs = measure_runs(given.work_dir, given.most, executor=given.executor)
    model = CostModel.of(runs)
    for name, fit in model.fits.items():
        print(
            f"{name}: {fit.fixed:,.1f} + {fit.per_record:.6g} a record + {fit.per_unit:.6g} a unit "
            f"+ {fit.per_byte_of_largest:.4g} of the largest unit"
        )
    print(table(model))
    if given.out is not None:
        described = {"runs": runs, **attrs.asdict(model)}
        given.out.write_text(json.dumps(described, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
