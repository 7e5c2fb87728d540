"""Processes the records of damaged units again, and makes the units whole.

The records of a unit come back in any order and among others, so its outcomes are collected until all are there. Then

- if they are the same, byte for byte, as the commit's checksums say, the lost files are written again. The commit
  stays as it is, and so does everything that later phases have made of it.
- of a lost quarantine file only the failed records are processed; if they end differently, that is a retry of them.
- otherwise a new unit takes the place of the old one. The units of the next phase that hold a row which differs are
  processed again in the same way; all later phases are, if the positions of the rows have changed or a gather has read
  them.

Memory: the outcomes of the units of which some records are still out.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import attrs
from loguru import logger

from curate.engine.accounting.counts import FinishedInputs
from curate.engine.durability.commit import (
    Commit,
    CommitBuffer,
    CommitStats,
    OutputRows,
    UnitFile,
    describe_unit,
    ranges_in_order,
)
from curate.engine.durability.commit_file import LinesKind, UnitReader, unit_lines
from curate.engine.durability.damage import file_problem
from curate.engine.durability.positions import InputPositions, Intervals, row_positions
from curate.engine.durability.redo_order import ROWS_BEFORE, RedoOrder
from curate.errors import InfrastructureError
from curate.io.rows import decode_row
from curate.records import ID


class RedoStore(Protocol):
    """What a store does for units that are processed again."""

    def commits(self, phase: int) -> Sequence[Commit]:
        """Return a phase's commits."""
        ...

    def places(self, phase: int) -> InputPositions:
        """Return the positions of a phase's input."""
        ...

    def begins_with_gather(self, phase: int) -> bool:
        """Return whether a phase begins with a gather."""
        ...

    def accounts(self, unit: str) -> Mapping[int, CommitStats]:
        """Return the accounts of the individually tracked roots of a unit."""
        ...

    def write_again(self, file: UnitFile, lines: Iterable[bytes]) -> None:
        """Write a unit file with the content that its commit names."""
        ...

    def order(self, order: RedoOrder) -> None:
        """Order that a unit is processed again, whatever becomes of this attempt."""
        ...

    def fulfil(self, unit: str) -> None:
        """Remove the order for a unit, which is whole again."""
        ...

    def commit_again(self, phase: int, unit: CommitBuffer, instead_of: Commit | None, *, renumbers: bool) -> None:
        """Commit outcomes that take the place of a unit's, or of single roots' (None)."""
        ...


@attrs.define(eq=False)
class _Unit:
    """A unit that is processed again.

    Args:
        chosen: the positions of roots to process; None: all of them.
        with_rows: the ids of roots with rows, when those without rows are processed as well; None: they are not.
        failed: the positions of the roots that failed.
        unseen: the number of its records that have not come yet.
        waiting: the positions that are being processed.
    """

    commit: Commit
    order: RedoOrder
    outcomes: CommitBuffer
    chosen: frozenset[int] | None
    with_rows: Collection[str] | None
    failed: frozenset[int]
    tracked: frozenset[int]
    unseen: int
    parts: list[FinishedInputs] = attrs.field(factory=list[FinishedInputs])
    waiting: set[int] = attrs.field(factory=set[int])

    def wants(self, position: int, identity: str) -> bool:
        """Return whether a record has to be processed again."""
        if self.chosen is None or position in self.chosen:
            return True
        return self.with_rows is not None and position not in self.tracked and identity not in self.with_rows


class PhaseRedo:
    """The units of a phase that are processed again.

    Args:
        directory: the run directory.
        store: the store of the run.
        phase: the phase.
        orders: the orders for units of this phase.
    """

    def __init__(self, directory: Path, store: RedoStore, phase: int, orders: Iterable[RedoOrder]) -> None:
        self._directory = directory
        self._store = store
        self._phase = phase
        by_name = {commit.unit: commit for commit in store.commits(phase)}
        self._units = {order.unit: self._begun(by_name[order.unit], order) for order in orders}
        found = sorted(
            (first, last, name) for name, unit in self._units.items() for first, last, _ in unit.commit.valid_ranges()
        )
        self._firsts = [first for first, _, _ in found]
        self._ranges = [(last, name) for _, last, name in found]
        self.escalated = False
        """Whether a unit has to be processed as a whole, because a part of it has ended differently."""

    def _begun(self, commit: Commit, order: RedoOrder) -> _Unit:
        places = self._store.places(self._phase)
        accounts = {
            position: account
            for position, account in self._store.accounts(commit.unit).items()
            if position not in commit.replaced
        }
        failed = frozenset(position for position, account in accounts.items() if account.books.quarantined)
        whole = order.whole or bool(order.kinds & {"data", "shard", ROWS_BEFORE})
        chosen: frozenset[int] | None = order.positions
        with_rows: Collection[str] | None = None
        if "quarantine" in order.kinds:
            chosen = order.positions | failed
        if "filtered" in order.kinds:
            if commit.books.split or commit.books.joins:  # a record with rows may have filtered children
                whole = True
            else:
                with_rows = self._roots_with_rows(commit)
                filtered = {position for position, account in accounts.items() if account.books.filtered}
                chosen = (chosen or frozenset()) | filtered
        return _Unit(
            commit,
            attrs.evolve(order, whole=whole),
            CommitBuffer(places, frozenset(accounts)),
            None if whole else chosen,
            with_rows,
            failed,
            frozenset(accounts),
            unseen=sum(last - first + 1 for first, last, _ in commit.valid_ranges()),
        )

    def _roots_with_rows(self, commit: Commit) -> set[str]:
        file = commit.file("data")
        if file is None:
            return set()
        with (self._directory / file.path).open("rb") as lines:
            return {str(decode_row(line)[ID]) for line in lines}

    def again(self, position: int, identity: str) -> bool:
        """Return whether a finished record of the phase's input has to be processed again; asked once for each."""
        unit = self._unit_at(position)
        if unit is None:
            return False
        unit.unseen -= 1
        wanted = unit.wants(position, identity)
        if wanted:
            unit.waiting.add(position)
        self._finish_if_complete(unit)
        return wanted

    def take(self, settled: FinishedInputs) -> list[FinishedInputs]:
        """Take the outcomes of records of damaged units, and return those of other records."""
        mine = {position for position in settled.seqs if self._unit_at(position) is not None}
        if not mine:
            return [settled]
        parts = settled.roots(set(settled.seqs))
        for position in sorted(mine):
            unit = self._unit_at(position)
            if unit is not None:
                unit.parts.append(parts[position])
                unit.waiting.discard(position)
                self._finish_if_complete(unit)
        return [parts[position] for position in settled.seqs if position not in mine]

    def _unit_at(self, position: int) -> _Unit | None:
        place = bisect_right(self._firsts, position) - 1
        if place < 0:
            return None
        last, name = self._ranges[place]
        return self._units[name] if position <= last else None

    def _finish_if_complete(self, unit: _Unit) -> None:
        if unit.unseen or unit.waiting:
            return
        for part in unit.parts:
            unit.outcomes.add(part)
        unit.parts = []
        rows = unit.outcomes.rows()
        if unit.chosen is None:
            self._finish_whole(unit, rows)
        else:
            self._finish_part(unit, rows)
        unit.outcomes = CommitBuffer()

    def _finish_part(self, unit: _Unit, rows: OutputRows) -> None:
        """Make a unit whole of which single records were processed again."""
        lost = unit.order.kinds
        if ("filtered" in lost and not self._is_as_before(unit, rows, "filtered")) or not self._has_audio(unit):
            self._escalate(unit)
            return
        self._write_notes(unit, rows)

    def _finish_whole(self, unit: _Unit, rows: OutputRows) -> None:
        """Make a unit whole all of whose records were processed again."""
        lost = unit.order.kinds
        same = self._is_as_before(unit, rows, "data") and self._has_audio(unit)
        if same and ("filtered" in lost or ROWS_BEFORE in lost):
            same = self._is_as_before(unit, rows, "filtered")
        if same and ROWS_BEFORE in lost:
            same = frozenset(position for position, _ in unit.outcomes.quarantined()) == unit.failed
        if not same:
            self._rebuild(unit, rows)
            return
        if "data" in lost:
            self._write_again(unit, rows, "data")
        self._write_notes(unit, rows)

    def _write_notes(self, unit: _Unit, rows: OutputRows) -> None:
        lost = unit.order.kinds
        if "filtered" in lost:
            self._write_again(unit, rows, "filtered")
        if "quarantine" in lost:
            if self._is_as_before(unit, rows, "quarantine"):
                self._write_again(unit, rows, "quarantine")
            else:
                self._retry(unit)
        self._store.fulfil(unit.commit.unit)

    def _retry(self, unit: _Unit) -> None:
        """Commit the new outcomes of the records that had failed, which are other ones than before."""
        retried = CommitBuffer(self._store.places(self._phase), unit.failed)
        for part in unit.outcomes.settled:
            if part.seqs[0] in unit.failed:
                retried.add(part)
        self._store.commit_again(self._phase, retried, None, renumbers=False)

    def _escalate(self, unit: _Unit) -> None:
        logger.warning("some records of unit {} end differently now: all of it is processed again", unit.commit.unit)
        self._store.order(attrs.evolve(unit.order, whole=True))
        self.escalated = True

    def _rebuild(self, unit: _Unit, rows: OutputRows) -> None:
        """Commit a unit that takes the place of the old one, with everything that follows for later phases."""
        old, phase = unit.commit, self._phase
        described, _ = describe_unit(unit.outcomes, old.number, phase, rows, old.busy_s)
        valid = list(old.valid_ranges())
        follows_gather = self._store.begins_with_gather(phase + 1) and bool(self._store.commits(phase + 1))
        same_positions = list(described.ranges) == valid and frozenset(described.individually_tracked) == unit.tracked
        if same_positions and not follows_gather:
            for name in self._units_behind(unit, rows):
                self._store.order(RedoOrder(name, phase + 1, frozenset({ROWS_BEFORE}), whole=True))
        logger.warning("unit {} has other results than before; what depends on them is processed again", old.unit)
        unit.outcomes.busy_s, unit.outcomes.measures = old.busy_s, old.measures
        self._store.commit_again(phase, unit.outcomes, old, renumbers=not same_positions or follows_gather)
        self._store.fulfil(old.unit)

    def _units_behind(self, unit: _Unit, rows: OutputRows) -> Iterator[str]:
        """Yield the units of the next phase that hold a row of this unit that has changed."""
        commits = self._store.commits(self._phase)
        apart = frozenset(position for commit in commits for position in commit.individually_tracked)
        firsts = {first for first, _, _ in unit.commit.valid_ranges()}
        places = row_positions(self._store.places(self._phase), ranges_in_order(commits), apart)
        mine = (position + place for first, position, count in places if first in firsts for place in range(count))
        before = self._rows_before(unit)
        changed = [
            position
            for position, row in zip(mine, rows.rows, strict=True)
            if before is None or _digest(row) not in before
        ]
        for commit in self._store.commits(self._phase + 1):
            held = Intervals((first, last) for first, last, _ in commit.valid_ranges())
            if any(position in held for position in changed):
                yield commit.unit

    def _rows_before(self, unit: _Unit) -> Collection[bytes] | None:
        """Return checksums of the unit's rows before; of a damaged file, those that can be read."""
        file = unit.commit.file("data")
        path = unit.order.rows or ("" if file is None or "data" in unit.order.kinds else file.path)
        try:
            with (self._directory / path).open("rb") as lines:
                return {_digest(line) for line in lines}
        except OSError:  # the file is missing, and so is every row
            return None

    def _is_as_before(self, unit: _Unit, rows: OutputRows, kind: LinesKind) -> bool:
        """Return whether a file of the unit would have the content that its commit names."""
        file = unit.commit.file(kind)
        lines = unit_lines(unit.outcomes, rows, kind)
        if file is None or lines is None:
            return file is None and lines is None
        size, digest = 0, hashlib.sha256()
        for line in lines:
            size += len(line)
            digest.update(line)
        return (size, digest.hexdigest()) == (file.size, file.sha256)

    def _has_audio(self, unit: _Unit) -> bool:
        """Return whether the new audio, or the shards, that were lost are there again."""
        made_by_workers = (file for file in unit.commit.valid_files() if file.kind in ("audio", "shard"))
        lost = (file for file in made_by_workers if unit.order.redoes(file))
        return not any(file_problem(self._directory, file, whole=True) for file in lost)

    def _write_again(self, unit: _Unit, rows: OutputRows, kind: LinesKind) -> None:
        file, lines = unit.commit.file(kind), unit_lines(unit.outcomes, rows, kind)
        if file is not None and lines is not None:
            self._store.write_again(file, lines)

    def check_complete(self) -> None:
        """Check that all records of the damaged units were in the phase's input.

        Raises:
            InfrastructureError: the input lacks some of them.
        """
        left = [name for name, unit in self._units.items() if unit.unseen or unit.waiting]
        if left:
            raise InfrastructureError(
                f"the records of the damaged units {', '.join(left)} are not all in the input of phase {self._phase} "
                "any more; restore the input, or use a new --run-dir"
            )


def _digest(row: object) -> bytes:
    return hashlib.sha256(row if isinstance(row, bytes) else b"").digest()


def rows_are_as_before(directory: Path, store: RedoStore, phase: int, lost: Sequence[RedoOrder]) -> bool:
    """Return whether new units have the rows that those of lost commits had, and the next phase the same input.

    Args:
        directory: the run directory.
        store: the store of the run.
        phase: the phase, which is complete again.
        lost: the orders for the units of the lost commits.
    """
    after = min(order.after or 0 for order in lost)
    new = tuple(commit for commit in store.commits(phase) if commit.number > after and commit.books.kept)
    made: Counter[bytes] = Counter()
    for commit in new:
        made.update(map(_digest, UnitReader(directory, (commit,)).encoded()))
    for order in lost:
        if order.rows:
            with (directory / order.rows).open("rb") as lines:
                made.subtract(map(_digest, lines))
    if any(made.values()):
        return False
    if store.begins_with_gather(phase + 1):
        return True
    runs = store.places(phase + 1).runs or ()
    places = Intervals((first, first + records - 1) for first, records in runs if records)
    done = (found for commit in store.commits(phase + 1) for found in commit.valid_ranges())
    return all(places.covers(first, last) for first, last, _ in done)
