"""What an executor must offer: a place where workers live.

The scheduler owns what is in flight, retries, accounting and commits; a transport only says how a worker is started,
sent a batch, heard from, and killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import attrs

from curate.engine.protocol.messages import BatchTask, Event
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


class Unsendable(Exception):
    """A batch holds something that cannot be sent to a worker; the text says what."""


class Transport(Protocol):
    """Workers of one phase, while it runs."""

    max_in_flight: int
    """How many batches a worker may have at once, so that it need not wait for the next one."""

    setup_attempts: int
    """How many workers are tried, one after the other, before a set-up that fails stops the run."""

    setup_timeout_s: float
    """How long a set-up may take."""

    can_kill: bool
    """Whether `kill` works; where it does not, nobody has a deadline."""

    def room(self, hop: int) -> int:
        """Return how many workers of the `hop`-th hop may still be started.

        As many as the user has asked for; where nobody has said, as the place can hold beside those that it has.
        """
        ...

    def start(self, hop: int, slot: int) -> int:
        """Start a worker for a hop and return its number; `WorkerReady`, `WorkerFailed` or `WorkerDied` will follow.

        Args:
            slot: its place among the hop's workers; one that replaces another has the other's.
        """
        ...

    def send(self, worker: int, work: BatchTask) -> int:
        """Queue a batch for a worker and return its size in bytes, 0 where nothing is copied. Never blocks.

        Raises:
            Unsendable: the batch cannot be sent; nothing of it was.
        """
        ...

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        """Block until something happens, or `timeout_s` has passed, and return what has happened, in order.

        A worker's events come in the order in which they happened. Once the time has passed (always, if it is 0), there
        is a `RecordsAnnounced` for every worker that has moved on to other records since its last one, in addition to
        whatever else has happened.
        """
        ...

    def kill(self, worker: int) -> None:
        """End a worker immediately; the `RecordsAnnounced` of its last records follows if known, then `WorkerDied`."""
        ...

    def close(self) -> None:
        """Let every worker tear down its stages, and leave nothing behind."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Where a pipeline runs: an object with settings, registered by a plugin. It can be used again after `close`."""

    @property
    def name(self) -> str:
        """The name that it is registered by."""
        ...

    def check(self, plan: Plan) -> None:
        """Find out, before work starts, whether the plan's resources can be had here.

        Raises:
            PlanError: what is asked for, what there is, and what to change.
        """
        ...

    def open(self, hops: Sequence[HopSpec]) -> Transport:
        """Return a transport for the hops of one phase."""
        ...

    def close(self) -> None:
        """Give back what was kept from phase to phase; the run is over."""
        ...
