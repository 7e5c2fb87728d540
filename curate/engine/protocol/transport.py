"""The protocols of executors and transports, by which the scheduler runs workers.

The scheduler owns the batches in flight, retries, accounting and commits; a transport only starts and kills workers,
sends batches to them, and receives their events.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import attrs

from curate.engine.protocol.messages import BatchTask, Event
from curate.plan import Hop, Plan
from curate.stage import WorkerContext

Blamed: TypeAlias = "Mapping[str, str]"
"""For each column the stage that writes it; under `ANY_COLUMN`, the stage to name for any other one."""

ANY_COLUMN = ""


def stage_blamed(blamed: Blamed, column: str) -> str:
    """Return the stage to name for a value in a column."""
    return blamed.get(column) or blamed.get(ANY_COLUMN, "")


@attrs.frozen
class HopSpec:
    """The specification of a hop, from which a transport starts workers.

    Args:
        hop: the stages and the resources.
        context: the run's properties that stages can read.
        encodes: whether the worker encodes kept records as lines of JSON, because they go to a file.
        blamed: the stages that are named when a record cannot be encoded.
    """

    hop: Hop
    context: WorkerContext
    encodes: bool
    blamed: Blamed


LOOKS = 4
"""A worker is polled this many times within its deadline, because some signs of progress show only when polled."""


def timeout_of(hop: Hop) -> float | None:
    """Return the deadline that a hop's stages ask for, in seconds; None: they do not ask for one."""
    given = [planned.stage.timeout_s for planned in hop.stages if planned.stage.timeout_s is not None]
    return max(given, default=None)


class Unsendable(Exception):
    """A batch contains a value that cannot be sent to a worker; the message names it."""


class Transport(Protocol):
    """Workers of one phase, while it runs."""

    max_in_flight: int
    """The maximum number of batches sent to a worker, so that it need not wait for the next one."""

    setup_attempts: int
    """The number of workers that are tried, one after the other, before a set-up that fails stops the run."""

    setup_timeout_s: float
    """The time that a set-up may take."""

    can_kill: bool
    """Whether `kill` works; if not, stages cannot have deadlines."""

    def room(self, hop: int) -> int:
        """Return how many more workers of the `hop`-th hop may be started.

        Up to the number that the user has set; without one, as many as fit in addition to the existing workers.
        """
        ...

    def start(self, hop: int, slot: int) -> int:
        """Start a worker for a hop and return its number; `WorkerReady`, `WorkerFailed` or `WorkerDied` will follow.

        Args:
            slot: its place among the hop's workers; one that replaces another has the other's.
        """
        ...

    def send(self, worker: int, work: BatchTask) -> int:
        """Queue a batch for a worker and return its size in bytes, 0 if it is not copied. Never blocks.

        Raises:
            Unsendable: the batch cannot be sent, and no part of it was.
        """
        ...

    def wait(self, timeout_s: float | None = None) -> Sequence[Event]:
        """Block until there are events, or `timeout_s` has passed, and return the events in order.

        When the time has passed (always, if it is 0), the events include a `RecordsAnnounced` for every worker that has
        announced other records since its last one.
        """
        ...

    def kill(self, worker: int) -> None:
        """End a worker immediately; the `RecordsAnnounced` of its last records follows if known, then `WorkerDied`."""
        ...

    def close(self) -> None:
        """Let every worker tear down its stages, and release all resources."""
        ...


@runtime_checkable
class Executor(Protocol):
    """The place where a pipeline runs: an object with settings, registered by a plugin, reusable after `close`."""

    @property
    def name(self) -> str:
        """The name that it is registered by."""
        ...

    def check(self, plan: Plan) -> None:
        """Check, before work starts, that the plan's resources are available here.

        Raises:
            PlanError: they are not; the message has the requested and the available resources, and a remedy.
        """
        ...

    def open(self, hops: Sequence[HopSpec]) -> Transport:
        """Return a transport for the hops of one phase."""
        ...

    def close(self) -> None:
        """Release the resources kept between phases; the run has ended."""
        ...
