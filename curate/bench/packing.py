"""Joins neighbouring clips to windows, to measure what packing would gain. Pipelines pack with `split_speech`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.audio import RecordingCache
from curate.errors import RecordError
from curate.records import DEFAULT_FILEPATH_KEY, Record

WINDOW_S = 30.0
GAP_S = 0.5

_RATE_HZ = 16_000
_SHARED = ("speaker", "lang")


def pack_records(
    records: Sequence[Record], folder: Path, roots: Sequence[str] | None
) -> tuple[list[Record], list[list[int]]]:
    """Write neighbouring clips as windows, and return the windows' records and which clips each contains.

    The clips of a window agree in speaker and language. A clip that cannot be read is left out; one that is longer than
    a window is a window of its own.
    """
    import numpy as np
    import soundfile

    windows: list[Record] = []
    members: list[list[int]] = []
    waiting: list[Any] = []
    places: list[int] = []

    def write() -> None:
        if not places:
            return
        path = folder / f"{len(windows)}.wav"
        joined = np.concatenate([part for clip in waiting for part in (clip, silence)][:-1])
        soundfile.write(path, joined, _RATE_HZ, subtype="FLOAT")
        windows.append({DEFAULT_FILEPATH_KEY: str(path), "duration": len(joined) / _RATE_HZ, **_language(places)})
        members.append([*places])
        waiting.clear()
        places.clear()

    def _language(group: Sequence[int]) -> Record:
        language = records[group[0]].get("lang")
        return {} if language is None else {"lang": language}

    silence: Any = np.zeros(round(GAP_S * _RATE_HZ), np.float32)
    with RecordingCache(roots=None if roots is None else tuple(roots)) as recordings:
        for place, record in enumerate(records):
            try:
                samples, _ = recordings.take(record, _RATE_HZ)
            except RecordError:
                continue
            held_s = sum(len(clip) + len(silence) for clip in waiting) / _RATE_HZ
            is_full = held_s + len(samples) / _RATE_HZ > WINDOW_S
            if places and (is_full or any(record.get(name) != records[places[0]].get(name) for name in _SHARED)):
                write()
            waiting.append(samples)
            places.append(place)
        write()
    return windows, members
