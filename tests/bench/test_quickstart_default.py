"""The quickstart's own setting against every other that `curate bench` tries, in one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.bench import bench_batch_sizes
from curate.config import load_pipeline
from curate.plugin import PluginHost

pytestmark = [pytest.mark.bench, pytest.mark.nemo]

PIPELINE = Path(__file__).parents[2] / "pipelines" / "quickstart" / "pipeline.yaml"


def test_quickstart_default_is_within_a_tenth_of_the_best(tmp_path: Path) -> None:
    pytest.importorskip("nemo.collections.asr", reason="needs nemo_toolkit: make .venv/.dev-all")
    configured = load_pipeline(PIPELINE, host=PluginHost())
    report = bench_batch_sizes(
        configured.pipeline,
        sizes=(1, 2, 4, 8, 16, 32, 64),
        budgets=(15, 60, 120),
        executor="local",
        limit=56,
        repeats=3,
        history=tmp_path / "history.jsonl",
    )
    rates = {trial.name: trial.records_per_s for trial in report.trials if trial.records_per_s is not None}
    own = report.trials[-1]  # the setting of the pipeline is measured with the others, last
    assert own.records_per_s is not None
    best = max(rates, key=lambda name: rates[name])
    share = own.records_per_s / rates[best]
    print(
        f"\nquickstart's {own.name}: {share:.2f} of the best, {best}: "
        + ", ".join(f"{n} {r:.0f}" for n, r in rates.items())
    )
    assert share >= 0.9
