"""Where workers live: what an author of an executor needs.

Executor, Transport      what to write
HopSpec, Plan            what it is given
HopRunner                the stages of a hop, as one worker runs them; `copied_runner` makes one for this process
Work                     what the driver sends
Ready … Died, `Event`    what it hears

`ExecutorContract` of `curate.testing` is the suite that every executor passes.
"""

from curate.engine.protocol.messages import (
    BatchDone,
    BatchTask,
    BatchUnreadable,
    Event,
    Outcome,
    PartialResult,
    RecordsAnnounced,
    ResultReceived,
    Whole,
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
    "Outcome",
    "PartialResult",
    "Plan",
    "RecordsAnnounced",
    "ResultReceived",
    "StageGroupRunner",
    "Transport",
    "Unsendable",
    "Whole",
    "WorkerDied",
    "WorkerFailed",
    "WorkerReady",
    "check_copyable",
    "copied_runner",
    "encode_row",
]
