"""docs/batching.md shows what the code does: its snippets run, and its picture is a real plan."""

from __future__ import annotations

import re
from pathlib import Path

from curate.batching import STRATEGIES, LengthBatcher, StaticBatcher

PAGE = (Path(__file__).parents[3] / "docs" / "batching.md").read_text(encoding="utf-8")
CLIPS_S = [3, 14, 5, 2, 9, 4, 20, 3, 6, 2, 11, 4, 7, 3, 5, 12, 2, 8]


def picture(batches: list[list[int]]) -> str:
    """Draw each batch as the model sees it: a row for a clip, a column for a second, padding light."""
    lines: list[str] = []
    for batch in batches:
        seconds = [CLIPS_S[index] for index in batch]
        lines += ["".join(("█" * length).ljust(max(seconds), "░")) for length in seconds]
        lines.append("")
    return "\n".join(lines).rstrip()


def test_the_snippets_run_in_order() -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "batching.md", "exec"), names)


def test_the_pictures_are_real_plans() -> None:
    assert picture(list(StaticBatcher(6).plan(CLIPS_S))) in PAGE
    assert picture(list(LengthBatcher(40.0).plan(CLIPS_S))) in PAGE


def test_every_strategy_is_explained() -> None:
    assert all(f"| `{strategy}` |" in PAGE for strategy in STRATEGIES)
