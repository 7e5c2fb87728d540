"""Executors: the places where workers run, and everything that the author of an executor needs.

Executor, Transport                  the protocols that an executor implements
HopSpec, Plan                        its input
BatchTask                            what the driver sends to a worker
WorkerReady … WorkerDied, `Event`    what the driver receives

Workers in this process:    StageGroupRunner runs the stages of a hop; `copied_runner` makes one.
Workers in other processes: ProcessPool starts, feeds and ends them; `make_payload` packs the stages, `pickled` a batch,
`pinned` the environment; EventDecoder turns their frames into events. A worker that crashes is one `WorkerDied`, and
the engine finds the record that caused it.

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
from curate.executors.decoding import EventDecoder
from curate.executors.framing import Frame, FrameType
from curate.executors.local import check_copyable, copied_runner
from curate.executors.process_pool import ProcessPool, WorkerOutput
from curate.executors.worker_payload import WorkerPayload, check_sendable, make_payload
from curate.executors.worker_process import pickled, pinned
from curate.io.rows import encode_row
from curate.machine import Machine
from curate.plan import Plan
from curate.resource_check import check_resources

__all__ = [
    "BatchDone",
    "BatchTask",
    "BatchUnreadable",
    "Event",
    "EventDecoder",
    "Executor",
    "Frame",
    "FrameType",
    "HopSpec",
    "Machine",
    "PartialResult",
    "Plan",
    "ProcessPool",
    "RecordsAnnounced",
    "ResultReceived",
    "StageGroupRunner",
    "Transport",
    "Unsendable",
    "WorkerDied",
    "WorkerFailed",
    "WorkerOutput",
    "WorkerPayload",
    "WorkerReady",
    "check_copyable",
    "check_resources",
    "check_sendable",
    "copied_runner",
    "encode_row",
    "make_payload",
    "pickled",
    "pinned",
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
