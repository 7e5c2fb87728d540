"""Where the audio of a record lies: its path, and the start and end of its segment in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curate.audio.files import printable
from curate.audio.recording import MAX_RATE_HZ
from curate.errors import RecordError

ENDLESS_S = 1e12
"""30,000 years: no time in a recording is as large."""


def segment_of(record: Mapping[str, Any], filepath_key: str) -> tuple[str, float, float | None]:
    """Return a record's path, and where its audio begins and ends in seconds; None for the end of the file.

    Raises:
        RecordError: `missing_column` without a path, `bad_path`, `bad_value`, `bad_segment`.
    """
    path = record.get(filepath_key)
    if path is None:
        raise RecordError("missing_column", f"the record has no {filepath_key!r}")
    if not isinstance(path, str):
        raise RecordError("bad_path", f"{filepath_key!r} must be a string, not {type(path).__name__}")
    offset: object = record.get("offset")
    if offset is None:
        return path, 0.0, None
    duration: object = record.get("duration")
    offset_s = seconds(offset, "offset")
    return path, offset_s, None if duration is None else offset_s + seconds(duration, "duration")


def seconds(value: object, column: str) -> float:
    """Return a number of seconds, 0 or more; raise `bad_value` or `bad_segment` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordError("bad_value", f"{column!r} must be a number of seconds, not {printable(value)}")
    if not 0 <= value < ENDLESS_S:  # NaN fails too, and an integer of many digits can neither be a float nor printed
        shown = printable(value) if isinstance(value, float) or abs(value) < ENDLESS_S else "a huge number"
        raise RecordError("bad_segment", f"{column!r} must be a length in seconds, 0 or more, not {shown}")
    return float(value)


def require_rate(rate_hz: int) -> None:
    """Raise `ValueError` for a rate that no result can have."""
    if isinstance(rate_hz, bool) or not 1 <= rate_hz <= MAX_RATE_HZ:
        raise ValueError(f"rate_hz must be 1 to {MAX_RATE_HZ}, not {rate_hz!r}")
