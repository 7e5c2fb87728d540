"""A stage is a decorated function."""

from __future__ import annotations

from typing import Any

from curate import RecordError, processing_stage


@processing_stage(name="characters_per_second", reads=["text", "duration"], writes=["characters_per_s"])
def characters_per_second(record: dict[str, Any]) -> dict[str, Any]:
    """Say how fast a record is spoken."""
    if not record["duration"] > 0:
        raise RecordError("curate-example/no_duration", f"a duration of {record['duration']} s has no speed")
    record["characters_per_s"] = round(len(record["text"]) / record["duration"], 3)
    return record
