"""Where workers live: what an author of an executor needs.

Executor, Transport      what to write
HopSpec, Plan            what it is given
HopRunner                the stages of a hop, as one worker runs them; `copied_runner` makes one for this process
Work                     what the driver sends
Ready … Died, `Event`    what it hears

`ExecutorContract` of `curate.testing` is the suite that every executor passes.
"""

from curate.engine.hop import HopRunner
from curate.engine.messages import (
    Acknowledged,
    Died,
    Done,
    Event,
    Outcome,
    Part,
    Ready,
    Started,
    Unreadable,
    Whole,
    Work,
    WorkerFailed,
)
from curate.engine.transport import Executor, HopSpec, Transport, Unsendable
from curate.executors.copies import check_copyable, copied_runner
from curate.io.rows import encode_row
from curate.machine import Machine
from curate.plan import Plan

__all__ = [
    "Acknowledged",
    "Died",
    "Done",
    "Event",
    "Executor",
    "HopRunner",
    "HopSpec",
    "Machine",
    "Outcome",
    "Part",
    "Plan",
    "Ready",
    "Started",
    "Transport",
    "Unreadable",
    "Unsendable",
    "Whole",
    "Work",
    "WorkerFailed",
    "check_copyable",
    "copied_runner",
    "encode_row",
]
