"""The observers of a run that curate itself registers, through the same hooks as any plugin's.

MetricsWriter   appends the events of all attempts to `metrics/events.jsonl`
RunLog          logs them

Observers are called in the driver, one at a time, in the thread of the run; one that raises is reported and left out.
They receive the events that `curate.engine` exports and may not know anything else of the engine: no observer can
change a run, and none is needed for it.
"""

from curate.observe.logs import RunLog
from curate.observe.metrics import MetricsWriter

__all__ = ["MetricsWriter", "RunLog"]
