"""Draws plan.svg: the same clips in batches of a fixed number, and planned by length.

    python docs/pictures/plan.py

A bar is a clip, as long as its audio; the light area next to it is padding. A block is a batch, and its area is the
model's work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from curate.batching import LengthBatcher, Score, StaticBatcher, score

CLIPS = 96
FIXED = 16
MAX_BATCH_S = 200.0

SECOND, CLIP, GAP = 4.9, 5.0, 14.0
"""Sizes in pixels: the width of a second, the height of a clip, the space between batches."""

WIDTH, MARGIN, HEADING = 760.0, 20.0, 46.0
AUDIO, PADDING, TEXT, FAINT, PAPER = "#1b7f5c", "#dfe6e3", "#1d2522", "#5b6864", "#ffffff"


def clips_s() -> list[float]:
    """Return lengths that are distributed like those of speech: most short, a few long, unordered."""
    draw = Random(7)
    return [round(min(40.0, max(0.3, draw.lognormvariate(math.log(5.0), 0.85))), 2) for _ in range(CLIPS)]


def picture() -> str:
    """Return the SVG."""
    durations = clips_s()
    before = list(StaticBatcher(FIXED).plan(durations))
    after = list(LengthBatcher(MAX_BATCH_S).plan(durations))
    parts: list[str] = []
    top = MARGIN
    for title, plan in (
        (f"{FIXED} at a time, in the order in which they come", before),
        (f"By length, at most {MAX_BATCH_S:g} s with padding", after),
    ):
        batches = [[durations[index] for index in batch] for batch in plan]
        lines, bottom = _panel(title, score(plan, durations, MAX_BATCH_S), batches, top)
        parts += lines
        top = bottom + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {top:.1f}" '
            'font-family="system-ui, sans-serif" role="img">',
            f"<title>{CLIPS} clips in batches, before and after planning by length</title>",
            f'<rect width="100%" height="100%" fill="{PAPER}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _panel(title: str, figures: Score, batches: Sequence[Sequence[float]], top: float) -> tuple[list[str], float]:
    """Return the elements of one plan and their lower end; batches are set in rows, like words in a paragraph."""
    figures_line = (
        f"{figures.batches} batches, {figures.audio_s:.0f} s of audio, {figures.padded_s:.0f} s for the model: "
        f"{figures.waste:.0%} padding"
    )
    elements = [
        f'<text x="{MARGIN:g}" y="{top + 14:.1f}" font-size="15" font-weight="600" fill="{TEXT}">{title}</text>',
        f'<text x="{MARGIN:g}" y="{top + 33:.1f}" font-size="12.5" fill="{FAINT}">{figures_line}</text>',
    ]
    left, line_top, line_height = MARGIN, top + HEADING, 0.0
    for batch in batches:
        width = max(batch) * SECOND
        if left > MARGIN and left + width > WIDTH - MARGIN:
            left, line_top, line_height = MARGIN, line_top + line_height + GAP, 0.0
        elements += _batch(batch, left, line_top)
        left += width + GAP
        line_height = max(line_height, len(batch) * CLIP)
    return elements, line_top + line_height


def _batch(batch: Sequence[float], left: float, top: float) -> Iterator[str]:
    yield _rectangle(left, top, max(batch), len(batch) * CLIP, PADDING)
    for row, seconds in enumerate(batch):
        yield _rectangle(left, top + row * CLIP + 0.5, seconds, CLIP - 1, AUDIO)


def _rectangle(left: float, top: float, seconds: float, height: float, colour: str) -> str:
    return f'<rect x="{left:.1f}" y="{top:.1f}" width="{seconds * SECOND:.1f}" height="{height:.1f}" fill="{colour}"/>'


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
