"""docs/batching.md shows what the code does: its snippets run, and its picture is a real plan."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

from curate.batching import STRATEGIES
from curate.monitoring import PerformanceMonitor, counted_use

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "batching.md").read_text(encoding="utf-8")


def test_the_snippets_run_in_order() -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "batching.md", "exec"), names)


def test_the_picture_is_what_the_planner_plans() -> None:
    drawn = runpy.run_path(str(DOCS / "pictures" / "plan.py"))["picture"]()
    assert drawn == (DOCS / "pictures" / "plan.svg").read_text(encoding="utf-8"), "run docs/pictures/plan.py"
    assert "](pictures/plan.svg)" in PAGE
    assert ElementTree.fromstring(drawn).tag.endswith("svg")


def test_every_figure_is_explained() -> None:
    monitor = PerformanceMonitor(warm_up_batches=0)
    monitor.record_batch(1, 1.0, 1.0)
    monitor.note({"memory": {"max_allocated_bytes": 1, "max_reserved_bytes": 1, "max_peak_bytes": 1}})
    monitor.note(
        {"gpu": {"readings": 1, "utilisation": 1.0}, "ooms": 1, "history": [{}], **counted_use({"dtype": "fp32"})}
    )
    told = monitor.get_statistics().keys() - {"throughput_audio_hours_per_hour"}
    assert not {name for name in told if f"`{name}`" not in PAGE}


def test_every_strategy_is_explained() -> None:
    assert all(f"| `{strategy}` |" in PAGE for strategy in STRATEGIES)
