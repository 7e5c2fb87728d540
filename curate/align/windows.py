"""Windows of a long recording: a model computes one at a time, with audio around it that its frames can depend on."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from curate.models import Clip

WINDOW_S = 30.0
CONTEXT_S = 3.0
"""The audio on either side of a window's frames, computed again by its neighbours. Longer than a syllable or two, which
is as far as an encoder's attention changes a frame noticeably."""


@attrs.frozen(eq=False)
class Window:
    """A window of a clip.

    Args:
        clip: its audio, with the context.
        skip: the frames of context before the window's own.
        frames: how many frames are the window's own; None: all that follow.
        expected: about as many frames as that are.
    """

    clip: Clip
    skip: int
    frames: int | None
    expected: int


def cut_windows(
    clip: Clip, frame_s: float, window_s: float = WINDOW_S, context_s: float = CONTEXT_S
) -> Iterator[Window]:
    """Yield the windows of a clip, whose own frames joined are those of the clip; a short clip is one window.

    Args:
        clip: of any length.
        frame_s: the length of the model's frames.
        window_s: the greatest length of a window, context included.
        context_s: the length of the context on either side.
    """
    frame = frame_s * clip.rate_hz  # in samples
    total = -int(-len(clip.samples) // frame)
    whole, context = int(window_s / frame_s), int(context_s / frame_s)
    if total <= whole:
        yield Window(clip, 0, None, total)
        return
    core = whole - 2 * context
    for start in range(0, total, core):
        low, high = max(0, start - context), start + core + context
        samples = clip.samples[round(low * frame) : round(high * frame)]
        is_last = start + core >= total
        yield Window(
            attrs.evolve(clip, samples=samples), start - low, None if is_last else core, min(core, total - start)
        )
