"""What the scheduler and a worker say to each other. Messages carry records, never samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from curate.records import Record

Row: TypeAlias = "Record | bytes"
"""A kept record: a dict on its way to the next hop or into memory, a line of JSON on its way to a shard."""


@dataclass(slots=True)
class Work:
    """One batch for one worker (driver → worker)."""

    number: int
    records: list[Record]
    filepath_key: str
    task_id: str
    dataset_name: str


@dataclass(slots=True)
class Filtered:
    """A record that a stage left out. `root` is the id under which it, or its ancestor, entered the hop."""

    root: str
    record: Record
    stage: str
    reason: str


@dataclass(slots=True)
class Quarantined:
    """A record that could not be worked on, as it was when it came to the stage that failed."""

    root: str
    record: Record
    stage: str
    code: str
    message: str
    traceback: str
    attempts: int


@dataclass(slots=True)
class Split:
    """A record that became `children` records at `stage`; audio in milliseconds."""

    root: str
    stage: str
    children: int
    parent_ms: int
    children_ms: int


@dataclass(slots=True)
class Part:
    """The outcome of some records of one batch, each with everything that became of it (worker → driver).

    Receiving a part acknowledges every root named in it. `kept[i]` descends from `kept_roots[i]` and
    has `kept_ms[i]` milliseconds of audio.
    """

    number: int
    kept: list[Row]
    kept_roots: list[str]
    kept_ms: list[int]
    filtered: list[Filtered] = field(default_factory=list[Filtered])
    quarantined: list[Quarantined] = field(default_factory=list[Quarantined])
    splits: list[Split] = field(default_factory=list[Split])
    busy_s: Sequence[float] = ()
    measures: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the stages have measured since the part before, by their names (`ProcessingStage.take_measures`)."""


@dataclass(slots=True)
class Ready:
    """The worker has set up its stages."""

    worker: int


@dataclass(slots=True)
class Started:
    """The worker is about to touch these records; if it dies, they are the suspects."""

    worker: int
    ids: list[str]


@dataclass(slots=True)
class Acknowledged:
    """The worker has finished some records of a batch."""

    worker: int
    part: Part


@dataclass(slots=True)
class Done:
    """The worker has finished the whole batch."""

    worker: int
    number: int


@dataclass(slots=True)
class WorkerFailed:
    """The worker met trouble that is not a record's; the run stops."""

    worker: int
    error: Exception


@dataclass(slots=True)
class Died:
    """The worker is gone; `reason` says how, with the end of its stderr."""

    worker: int
    reason: str


Event: TypeAlias = "Ready | Started | Acknowledged | Done | WorkerFailed | Died"
