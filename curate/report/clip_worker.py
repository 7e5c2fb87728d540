"""A process that turns records' audio into MP3 clips: `python -m curate.report.clip_worker`.

Jobs come as lines of JSON on standard input, answers go as lines of JSON to standard output. It is a process of its own
because it decodes what has already made a worker fail: a file that crashes the decoder, or never ends, costs its clip.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from functools import lru_cache
from typing import Any

from curate.audio import load, probe
from curate.errors import InfrastructureError, RecordError

RATE_HZ = 16_000

_KEPT_S = 600.0
"""Recordings up to this length are decoded as a whole, and kept, for a second clip: otherwise every clip decodes a
compressed one from its beginning.
"""

_PEAKS = 72
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

_COMPRESSION = 0.6
"""Of libsndfile's scale from 0 to 1: about 4 kB for a second of speech."""


def main() -> None:
    """Answer jobs until standard input ends."""
    for line in sys.stdin.buffer:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Return a clip as `mp3` (base64), `clip_s` and `whole_s`, or an `error`.

    Args:
        job: `path`, `offset_s` and `duration_s` (or None), `roots` (or None: anywhere), `max_s`.
    """
    try:
        return _encoded(**job)
    except RecordError as error:
        return {"error": f"{error.code}: {error}"}
    except (InfrastructureError, OSError, RuntimeError, ValueError, MemoryError) as error:
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())}


def _encoded(
    *, path: str, offset_s: float | None, duration_s: float | None, roots: list[str] | None, max_s: float
) -> dict[str, Any]:
    import soundfile

    places = None if roots is None else tuple(roots)
    whole_s = _length_s(path, places)
    begin_s = offset_s or 0.0
    there_s = whole_s - begin_s
    if offset_s is not None and duration_s is not None:
        there_s = min(there_s, duration_s)
    clip_s = min(there_s, max_s)
    samples = _samples(path, begin_s, clip_s, whole_s, places)
    file = io.BytesIO()
    soundfile.write(
        file,
        samples.clip(-1.0, 1.0),
        RATE_HZ,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="VARIABLE",
        compression_level=_COMPRESSION,
    )
    return {
        "mp3": base64.b64encode(file.getvalue()).decode(),
        "peaks": _peaks(samples),
        "clip_s": round(len(samples) / RATE_HZ, 3),
        "whole_s": round(there_s, 3),
    }


_asked: set[str] = set()
"""The recordings of which a clip has been made."""


def _samples(path: str, begin_s: float, clip_s: float, whole_s: float, roots: tuple[str, ...] | None) -> Any:
    """Return a part of a recording at `RATE_HZ`, in mono.

    Raises:
        RecordError: it cannot be decoded.
    """
    whole = _whole(path, roots) if path in _asked and whole_s <= _KEPT_S else None
    if whole is not None:
        begin = round(begin_s * RATE_HZ)
        return whole[begin : begin + round(clip_s * RATE_HZ)]
    _asked.add(path)
    return load(path, offset_s=begin_s, duration_s=clip_s, rate_hz=RATE_HZ, roots=roots)


@lru_cache(maxsize=256)
def _length_s(path: str, roots: tuple[str, ...] | None) -> float:
    return probe(path, roots=roots).duration_s


@lru_cache(maxsize=4)
def _whole(path: str, roots: tuple[str, ...] | None) -> Any:
    """Return a recording at `RATE_HZ`, in mono; None: it is broken somewhere, but parts of it may be good."""
    try:
        return load(path, rate_hz=RATE_HZ, roots=roots)
    except RecordError:
        return None


def _peaks(samples: Any) -> str:
    """Return how loud each of some parts is, as digits to base 36, the loudest being z."""
    import numpy as np

    parts = np.array_split(np.abs(samples), min(_PEAKS, len(samples)))
    loud = np.array([part.max() for part in parts])
    levels = np.sqrt(loud / max(float(loud.max()), 1e-9)) * (len(_DIGITS) - 1)
    return "".join(_DIGITS[int(level)] for level in levels)


if __name__ == "__main__":
    main()
