"""Where workers live, and what the author of an executor needs.

Executor, Transport                  what an executor implements
HopSpec, Plan                        what it is given
StageGroupRunner                     the stages of a hop, as one worker runs them; `copied_runner` makes one
BatchTask                            what the driver sends to a worker
WorkerReady … WorkerDied, `Event`    what the driver receives

`ExecutorContract` of `curate.testing` is the suite that every executor passes.
"""

from typing import NoReturn

from curate.engine.protocol.messages import (
    BatchDone,
    BatchTask,
    BatchUnreadable,
    Event,
    PartialResult,
    RecordsAnnounced,
    ResultReceived,
    WorkerDied,
    WorkerFailed,
    WorkerReady,
)
from curate.engine.protocol.transport import Executor, HopSpec, Transport, Unsendable
from curate.engine.worker.stage_group import StageGroupRunner
from curate.executors.copies import check_copyable, copied_runner
from curate.io.rows import encode_row
from curate.machine import Machine
from curate.plan import Plan

__all__ = [
    "BatchDone",
    "BatchTask",
    "BatchUnreadable",
    "Event",
    "Executor",
    "HopSpec",
    "Machine",
    "PartialResult",
    "Plan",
    "RecordsAnnounced",
    "ResultReceived",
    "StageGroupRunner",
    "Transport",
    "Unsendable",
    "WorkerDied",
    "WorkerFailed",
    "WorkerReady",
    "check_copyable",
    "copied_runner",
    "encode_row",
]

_RENAMED = {
    "Acknowledged": "ResultReceived",
    "Died": "WorkerDied",
    "Done": "BatchDone",
    "HopRunner": "StageGroupRunner",
    "Part": "PartialResult",
    "Ready": "WorkerReady",
    "Started": "RecordsAnnounced",
    "Unreadable": "BatchUnreadable",
    "Whole": "PartialResult",
    "Work": "BatchTask",
}


def __getattr__(name: str) -> NoReturn:
    renamed = _RENAMED.get(name)
    hint = f"; it is now called {renamed}" if renamed else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
