"""The engine: runs a plan, durably, on any executor. This module is its only door.

It owns what is in flight, deadlines, retries, accounting and the run directory. It does not know where workers live
(an executor implements `protocol.transport`), which stages there are, or how a run is shown. Other packages import from
here; executors also import `protocol` and `worker`, because a transport carries the former and hosts the latter.

    plan ──► run ──► scheduling ──BatchTask──► transport ──► worker (in its process)
                         ▲                        │
                         └─ PartialResult, … ◄────┘
             run ◄── FinishedInputs ── scheduling
              └──► durability: commits ──► writers ──► summary        RunReader ──► report, status, compare

The driver runs everything but `worker` in one thread; a second one keeps the lock alive. Names are loaded when they are
first used, so that importing an event or an option does not load the scheduler.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.engine.accounting.counts import RecordCounts, StageFlow
    from curate.engine.durability.commit import Commit
    from curate.engine.durability.lock import Holder
    from curate.engine.durability.run_differences import NOT_SET, RunDifference
    from curate.engine.durability.stage_outcomes import StageOutcome
    from curate.engine.protocol.events import (
        EVENTS_FILE,
        RecordQuarantined,
        RunFinished,
        RunProgress,
        RunStarted,
        RunStopped,
        UnitCommitted,
    )
    from curate.engine.protocol.interrupt import Interrupted
    from curate.engine.protocol.messages import Filtered, Quarantined
    from curate.engine.protocol.options import ErrorBudget, Retry, RunOptions, StopRequest
    from curate.engine.protocol.run_status import RunStatus
    from curate.engine.protocol.transport import Executor, HopSpec, Transport, Unsendable
    from curate.engine.run import Observers, run_plan
    from curate.engine.run_reader import LiveProgress, RunReader
    from curate.engine.run_result import RunResult
    from curate.engine.stream import stream_plan

_MODULES = {
    "Commit": "durability.commit",
    "EVENTS_FILE": "protocol.events",
    "ErrorBudget": "protocol.options",
    "Executor": "protocol.transport",
    "Filtered": "protocol.messages",
    "Holder": "durability.lock",
    "HopSpec": "protocol.transport",
    "Interrupted": "protocol.interrupt",
    "LiveProgress": "run_reader",
    "NOT_SET": "durability.run_differences",
    "Observers": "run",
    "Quarantined": "protocol.messages",
    "RecordCounts": "accounting.counts",
    "RecordQuarantined": "protocol.events",
    "Retry": "protocol.options",
    "RunDifference": "durability.run_differences",
    "RunFinished": "protocol.events",
    "RunOptions": "protocol.options",
    "RunProgress": "protocol.events",
    "RunReader": "run_reader",
    "RunResult": "run_result",
    "RunStarted": "protocol.events",
    "RunStatus": "protocol.run_status",
    "RunStopped": "protocol.events",
    "StageFlow": "accounting.counts",
    "StageOutcome": "durability.stage_outcomes",
    "StopRequest": "protocol.options",
    "Transport": "protocol.transport",
    "UnitCommitted": "protocol.events",
    "Unsendable": "protocol.transport",
    "run_plan": "run",
    "stream_plan": "stream",
}
"""Name → the module that defines it."""

__all__ = [
    "EVENTS_FILE",
    "NOT_SET",
    "Commit",
    "ErrorBudget",
    "Executor",
    "Filtered",
    "Holder",
    "HopSpec",
    "Interrupted",
    "LiveProgress",
    "Observers",
    "Quarantined",
    "RecordCounts",
    "RecordQuarantined",
    "Retry",
    "RunDifference",
    "RunFinished",
    "RunOptions",
    "RunProgress",
    "RunReader",
    "RunResult",
    "RunStarted",
    "RunStatus",
    "RunStopped",
    "StageFlow",
    "StageOutcome",
    "StopRequest",
    "Transport",
    "UnitCommitted",
    "Unsendable",
    "run_plan",
    "stream_plan",
]

if not TYPE_CHECKING:  # a type checker would take every misspelt name for an attribute

    def __getattr__(name: str) -> Any:
        module = _MODULES.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
