"""A panel of the report is a function of the run's reader."""

from __future__ import annotations

from collections import Counter

from curate.engine import RunReader
from curate.report import BarChart, Panel


def speed_of_speech(run: RunReader) -> Panel | None:
    """Show how many kept records are spoken at which speed; nothing for a run that has not measured it."""
    speeds = Counter(round(record["characters_per_s"]) for record in run.records() if "characters_per_s" in record)
    if not speeds:
        return None
    classes = range(min(speeds), max(speeds) + 1)
    chart = BarChart([str(speed) for speed in classes], {"records": [speeds[speed] for speed in classes]}, "records")
    return Panel("Speed of speech", "speed-of-speech", chart, note="Characters per second of kept records.")
