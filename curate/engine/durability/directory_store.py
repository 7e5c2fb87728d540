"""The store that survives any crash: shards and commits below a run directory.

The rename of `commits/<unit>.json` is the only commit point; whoever reads shards lists them from the commits. Inside a
unit rows are sorted by their root's position in the phase's input, and the commit says which positions it holds, so the
input's order is restored by reading ranges one after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import attrs

from curate.engine.durability.commit import (
    Commit,
    CommitBuffer,
    CommitStats,
    describe_unit,
    positions_of,
    ranges_in_order,
)
from curate.engine.durability.commit_resolution import resolve_commits
from curate.engine.durability.intervals import Intervals, Ranges
from curate.engine.durability.positions import InputPositions, positions_after
from curate.engine.durability.unit_files import UnitReader, read_notes
from curate.engine.protocol.messages import Filtered, Quarantined
from curate.errors import InfrastructureError
from curate.io.atomic import TEMPORARY, replacing, sync_directory, write_atomically
from curate.io.failpoints import failpoint
from curate.io.rows import encode_note
from curate.records import ID, Record, RecordReader

SHARDS = ("data", "filtered", "quarantine")
"""The folders of the shards."""

_BYTES_TOGETHER = 128 * 1024


class DirectoryStore:
    """Shards and commits below a run directory.

    Args:
        directory: the run directory.
        gathers: the phases that begin with a gather.
        check: called before every commit; raises if this process may not write any more.
    """

    encodes = True

    def __init__(self, directory: Path, gathers: Collection[int] = (), check: Callable[[], None] | None = None) -> None:
        self._directory = directory
        self._gathers = frozenset(gathers)
        self._check = check
        self._retried: dict[int, frozenset[int]] = {}
        self._commits: dict[int, list[Commit]] = {}
        for folder in (*SHARDS, "commits"):
            (directory / folder).mkdir(parents=True, exist_ok=True)
        self._load()
        self._remove_orphans()

    def _load(self) -> None:
        found = read_commits(self._directory)
        everything = [commit for commits in found.values() for commit in commits]
        self._next = 1 + max((commit.number for commit in everything), default=-1)
        valid = resolve_commits(found, self._gathers, self._retried)
        for commit in sorted(valid.superseded, key=lambda commit: commit.phase, reverse=True):
            self._completion(commit.phase).unlink(missing_ok=True)  # first, so that a crash leaves it to be done
            (self._directory / "commits" / f"{commit.unit}.json").unlink()
        if valid.superseded:
            sync_directory(self._directory / "commits")
        self._commits = {
            phase: [_corrected(self._directory, commit) for commit in commits]
            for phase, commits in valid.commits.items()
        }

    def _remove_orphans(self) -> None:
        """Delete what a crash left behind: temporary files, and shards that no commit names."""
        named = {
            Path(str(file["path"])) for commits in self._commits.values() for c in commits for file in c.files.values()
        }
        for folder in SHARDS:
            for path in (self._directory / folder).iterdir():
                if path.relative_to(self._directory) not in named and path.is_file():  # a folder is not the run's
                    path.unlink()
        for folder in (self._directory, self._directory / "commits"):
            for path in folder.glob(f"*{TEMPORARY}*"):
                path.unlink(missing_ok=True)  # another driver's, that is just being refused

    def retry(self, positions: Mapping[int, Collection[int]]) -> None:
        """Count roots, by phase, as not done, whatever they have come to; what they come to now replaces it."""
        self._retried = {phase: frozenset(chosen) for phase, chosen in positions.items() if chosen}
        self._load()

    def places(self, phase: int) -> InputPositions:
        places = InputPositions()
        for number in range(1, phase + 1):
            if number in self._gathers:
                places = InputPositions()
                continue
            commits = self.commits(number - 1)
            apart = frozenset(position for commit in commits for position in commit.apart)
            places = positions_after(places, ranges_in_order(commits), apart)
        return places

    def retried(self, phase: int) -> Collection[int]:
        return self._retried.get(phase, frozenset())

    def done(self, phase: int) -> Intervals:
        return positions_of(self.commits(phase))

    def commit(self, phase: int, unit: CommitBuffer, busy_s: Mapping[str, float]) -> Commit:
        if self._check is not None:
            self._check()
        failpoint("commit.before_write")
        if not unit.name:
            unit.name, self._next = f"p{phase}-{self._next:06d}", self._next + 1
        rows, filtered, quarantined = unit.rows(), unit.filtered(), unit.quarantined()
        files: dict[str, dict[str, Any]] = {}
        if rows:
            files["data"] = self._write(f"data/{unit.name}.jsonl", cast("list[bytes]", rows.rows))
        if filtered:
            notes = (encode_note(_describe_filtered(*pair)) for pair in filtered)
            files["filtered"] = self._write(f"filtered/{unit.name}.jsonl", notes)
        if quarantined:
            notes = (encode_note(describe_quarantined(*pair)) for pair in quarantined)
            files["quarantine"] = self._write(f"quarantine/{unit.name}.jsonl", notes)
        failpoint("commit.after_data")
        described, accounts = describe_unit(unit, _number(unit.name), phase, rows, busy_s)
        commit = attrs.evolve(described, files=files)
        content = json.dumps(_to_dict(commit, accounts)).encode() + b"\n"
        path = self._directory / "commits" / f"{unit.name}.json"
        write_atomically(path, content, written="commit.after_temporary_commit")
        failpoint("commit.after_rename")
        commits = self._commits.setdefault(phase, [])
        if not commits or commits[-1].unit != unit.name:
            commits.append(commit)
        return commit

    def _write(self, path: str, lines: Iterable[bytes]) -> dict[str, Any]:
        """Write a shard, never holding all of it in memory, and return what its commit says of it."""
        size, digest = 0, hashlib.sha256()
        with replacing(self._directory / path, written="commit.after_temporary") as file:
            for content in _together(lines):
                size += len(content)
                digest.update(content)
                file.write(content)
        return {"path": path, "size": size, "sha256": digest.hexdigest()}

    def commits(self, phase: int) -> Sequence[Commit]:
        return self._commits.get(phase, [])

    def complete(self, phase: int) -> None:
        failpoint("phase.before_complete")
        write_atomically(self._completion(phase), b"{}\n")
        if self._retried.pop(phase, None):
            self._load()  # what later phases have made of what was replaced is void

    def is_complete(self, phase: int) -> bool:
        if phase in self._retried or not self._completion(phase).exists():
            return False
        return self.places(phase).holds_exactly(self.done(phase))

    def _completion(self, phase: int) -> Path:
        return self._directory / "commits" / f"complete-{phase}.json"

    def reader(self, phase: int) -> RecordReader:
        return UnitReader(self._directory, tuple(self.commits(phase)))

    def failures(self) -> Iterator[tuple[int, Record]]:
        for phase, commits in self._commits.items():
            for _, note in read_notes(self._directory, "quarantine", commits):
                yield phase, note


def _together(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines in pieces that are worth a call each."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= _BYTES_TOGETHER:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def read_commits(directory: Path) -> dict[int, list[Commit]]:
    """Return the commits of a run directory by phase, in the order in which they were made, none yet judged.

    Raises:
        InfrastructureError: one of them is damaged.
    """
    commits: dict[int, list[Commit]] = {}
    for path in sorted((directory / "commits").glob("p*-*.json"), key=lambda path: _number(path.stem)):
        commit = _read_commit(path)
        commits.setdefault(commit.phase, []).append(commit)
    return dict(sorted(commits.items()))


def current_commits(directory: Path, gathers: Collection[int]) -> dict[int, list[Commit]]:
    """Return the commits of a run directory that count, without changing anything in it; a run may be at work there."""
    valid = resolve_commits(read_commits(directory), gathers, {})
    return {phase: [_corrected(directory, commit) for commit in commits] for phase, commits in valid.commits.items()}


def _number(unit: str) -> int:
    return int(unit.rpartition("-")[2])


def _to_dict(commit: Commit, accounts: Mapping[int, CommitStats]) -> dict[str, Any]:
    return {
        "unit": commit.unit,
        "phase": commit.phase,
        "rows": commit.rows,
        "ranges": list(commit.ranges),
        "account": commit.account.to_dict(),
        "apart": {str(position): account.to_dict() for position, account in accounts.items()},
        "busy_s": commit.busy_s,
        "measures": commit.measures,
        "files": commit.files,
    }


def _read_commit(path: Path) -> Commit:
    described = _read(path)
    try:
        return Commit(
            unit=described["unit"],
            phase=described["phase"],
            number=_number(described["unit"]),
            ranges=Ranges(described["ranges"]),
            rows=described["rows"],
            account=CommitStats.from_dict(described["account"]),
            busy_s=described["busy_s"],
            measures=described["measures"],
            files=described["files"],
            apart=tuple(map(int, described["apart"])),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, error) from error


def _corrected(directory: Path, commit: Commit) -> Commit:
    """Return a commit whose account is without that of the outcomes that count no more."""
    if not commit.replaced:
        return commit
    path = directory / "commits" / f"{commit.unit}.json"
    accounts = _read(path)["apart"]
    account = commit.account
    for position in commit.replaced:
        account = account.without(CommitStats.from_dict(accounts[str(position)]))
    return attrs.evolve(commit, account=account)


def _read(path: Path) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", json.loads(path.read_bytes()))
    except (ValueError, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InfrastructureError:
    return InfrastructureError(f"{path} is damaged ({error}); it was written by another program or version")


def _describe_filtered(position: int, note: Filtered) -> Record:
    return {
        ID: note.record[ID],
        "stage": note.stage,
        "reason": note.reason,
        "position": position,
        "record": _without_id(note.record),
    }


def describe_quarantined(position: int, note: Quarantined) -> Record:
    """Return a line of `quarantine/`; `position` is that of the note's root in the input of its phase."""
    return {
        ID: note.record[ID],
        "stage": note.stage,
        "code": note.code,
        "message": note.message,
        "attempts": note.attempts,
        "position": position,
        "traceback": note.traceback,
        "record": _without_id(note.record),
    }


def _without_id(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != ID}
