"""What curate itself observes of a run, through the same hooks as any plugin.

MetricsWriter   keeps the events of all lives of a run in `metrics/events.jsonl`
RunLog          says them to the log
"""

from curate.observe.logs import RunLog
from curate.observe.metrics import EVENTS_FILE, MetricsWriter

__all__ = ["EVENTS_FILE", "MetricsWriter", "RunLog"]
