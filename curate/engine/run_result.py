"""The result of a run that has reached its end, in memory or on disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, overload

import attrs

from curate.engine.durability.store import MemoryStore
from curate.engine.protocol.messages import Filtered, Quarantined
from curate.engine.run_reader import RunReader
from curate.records import ID, Record, RecordReader

_Note = TypeVar("_Note", Filtered, Quarantined)


class Notes(Sequence[_Note], Generic[_Note]):
    """Notes about records that were not kept, read anew whenever they are asked for: a run may have millions.

    Args:
        count: their number.
        read: yields them.
    """

    def __init__(self, count: int, read: Callable[[], Iterator[_Note]]) -> None:
        self._count = count
        self._read = read

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[_Note]:
        return self._read()

    @overload
    def __getitem__(self, index: int) -> _Note: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_Note]: ...
    def __getitem__(self, index: int | slice) -> _Note | Sequence[_Note]:
        if isinstance(index, slice):
            return list(self)[index]
        place = range(self._count)[index]
        return next(islice(self, place, None))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(cast("Sequence[object]", other))

    __hash__ = None  # pyright: ignore[reportAssignmentType] (as lists have none)

    def __repr__(self) -> str:
        return f"<{self._count} notes>"


@attrs.frozen
class RunResult:
    """The result of a run.

    Args:
        summary: the content of `summary.json`.
        outputs: the files that the writers have published.
        run_dir: the run directory; None: the run was kept in memory.
    """

    summary: Mapping[str, Any]
    outputs: tuple[Path, ...]
    run_dir: Path | None
    _reader: RecordReader = attrs.field(repr=False)
    _memory: MemoryStore | None = attrs.field(repr=False)

    @property
    def problem(self) -> str:
        """Why the run has achieved nothing: no record was kept, or a stage failed on most of its records; "" otherwise.

        The command line ends with exit code 5 then. Nothing is published when no record was kept.
        """
        return str(self.summary.get("problem", ""))

    def records(self) -> Iterator[Record]:
        """Yield the kept records, in the order of the input."""
        return iter(self._reader)

    @property
    def filtered(self) -> Sequence[Filtered]:
        """The records that were filtered, with stage and reason; those of a run directory are read when asked for."""
        return self._notes("filtered", lambda run: map(_filtered, run.filtered()))

    @property
    def quarantined(self) -> Sequence[Quarantined]:
        """The records that failed, with stage, code and message; those of a run directory are read when asked for."""
        return self._notes("quarantined", lambda run: map(_quarantined, run.failed()))

    def _notes(self, what: str, read: Callable[[RunReader], Iterator[Any]]) -> Notes[Any]:
        if self._memory is not None:
            held: list[Any] = getattr(self._memory, what)
            return Notes(len(held), lambda: iter(held))
        run = RunReader(cast("Path", self.run_dir))
        return Notes(sum(getattr(run.counts(phase), what) for phase in range(len(run.layout))), lambda: read(run))


def _filtered(note: Record) -> Filtered:
    return Filtered(_root(note), _record(note), note["stage"], note["reason"])


def _quarantined(note: Record) -> Quarantined:
    return Quarantined(
        _root(note),
        _record(note),
        note["stage"],
        note["code"],
        note["message"],
        note["traceback"],
        note["attempts"],
    )


def _record(note: Record) -> Record:
    return {ID: note[ID], **note["record"]}


_PARTS = re.compile(r"(/\d+)+\Z")
"""The end of a child's id, which names its place below the record of the source."""


def _root(note: Record) -> str:
    return _PARTS.sub("", note[ID])
