"""What an executor must offer: a place where workers live.

The scheduler owns what is in flight, retries, accounting and commits; a transport only says how a worker is started,
sent a batch, heard from, and killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import attrs

from curate.engine.messages import Event, Work
from curate.plan import Hop, Plan
from curate.stage import WorkerContext


@attrs.frozen
class HopSpec:
    """What a transport needs to know to start a worker of a hop.

    Args:
        hop: the stages and the resources.
        context: what the stages may know about the run.
        encodes: whether the worker turns kept records into lines of JSON, because they go to a shard.
        blamed: the stage that is named when a record cannot be encoded.
    """

    hop: Hop
    context: WorkerContext
    encodes: bool
    blamed: str


class Transport(Protocol):
    """Workers of one phase, while it runs."""

    in_flight: int
    """How many batches a worker should have, so that it never waits for the next one."""

    def start(self, hop: int, slot: int) -> int:
        """Start a worker for the `hop`-th hop and return its number; `Ready` or `WorkerFailed` will follow."""
        ...

    def send(self, worker: int, work: Work) -> None:
        """Queue a batch for a worker."""
        ...

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        """Block until something happens, or `timeout_s` has passed, and return what has happened, in order."""
        ...

    def kill(self, worker: int) -> None:
        """End a worker at once; what it was working on is not finished."""
        ...

    def close(self) -> None:
        """Let every worker tear down its stages, and leave nothing behind."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Where a pipeline runs: an object with settings, registered by a plugin."""

    name: str

    def check(self, plan: Plan) -> None:
        """Find out, before work starts, whether the plan's resources can be had here.

        Raises:
            PlanError: what is asked for, what there is, and what to change.
        """
        ...

    def workers(self, hop: Hop) -> int:
        """Return how many workers a hop gets."""
        ...

    def open(self, hops: Sequence[HopSpec]) -> Transport:
        """Return a transport for the hops of one phase."""
        ...
