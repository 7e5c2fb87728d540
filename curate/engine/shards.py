"""The store that survives any crash: shards and commits below a run directory.

The rename of `commits/<unit>.json` is the only commit point; whoever reads shards lists them from the commits. Inside a
unit rows are sorted by their root's position in the phase's input, and the commit says which positions it holds, so the
input's order is restored by reading ranges one after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, cast

import attrs

from curate.engine.books import Books
from curate.engine.intervals import Intervals
from curate.engine.messages import Filtered, Quarantined
from curate.engine.unit import Commit, Unit, describe_unit
from curate.errors import InfrastructureError
from curate.io.atomic import write_atomically
from curate.io.rows import decode_row, encode_note, without_id
from curate.records import ID, Record, RecordReader


class ShardStore:
    """Shards and commits below a run directory."""

    encodes = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._commits: dict[int, list[Commit]] = {}
        for folder in ("data", "filtered", "quarantine", "commits"):
            (directory / folder).mkdir(parents=True, exist_ok=True)
        for path in sorted((directory / "commits").glob("p*-*.json")):
            commit = _read_commit(path)
            self._commits.setdefault(commit.phase, []).append(commit)
        self._remove_orphans()
        self._next = 1 + max(
            (int(commit.unit.rpartition("-")[2]) for commits in self._commits.values() for commit in commits),
            default=-1,
        )

    def _remove_orphans(self) -> None:
        """Delete what a crash left behind: temporary files, and shards that no commit names."""
        named = {
            Path(str(file["path"])) for commits in self._commits.values() for c in commits for file in c.files.values()
        }
        for folder in ("data", "filtered", "quarantine"):
            for path in (self._directory / folder).iterdir():
                if path.relative_to(self._directory) not in named:
                    path.unlink()
        for path in (self._directory / "commits").glob("*.tmp-*"):
            path.unlink()

    def done(self, phase: int) -> Intervals:
        return Intervals((first, last) for commit in self.commits(phase) for first, last, _ in commit.ranges)

    def commit(self, phase: int, unit: Unit, busy_s: Mapping[str, float]) -> Commit:
        name = f"p{phase}-{self._next:06d}"
        rows = unit.rows()
        notes = {
            "data": b"".join(row for _, row in rows),
            "filtered": b"".join(encode_note(_describe_filtered(note)) for _, note in unit.filtered()),
            "quarantine": b"".join(encode_note(_describe_quarantined(note)) for _, note in unit.quarantined()),
        }
        files: dict[str, dict[str, Any]] = {}
        for folder, content in notes.items():
            if content:
                path = Path(folder) / f"{name}.jsonl"
                write_atomically(self._directory / path, content)
                digest = hashlib.sha256(content).hexdigest()
                files[folder] = {"path": str(path), "size": len(content), "sha256": digest}
        commit = attrs.evolve(describe_unit(unit, name, phase, rows, busy_s), files=files)
        described = attrs.asdict(commit, recurse=False) | {"books": asdict(commit.books)}
        write_atomically(self._directory / "commits" / f"{name}.json", json.dumps(described, indent=1).encode())
        self._next += 1
        self._commits.setdefault(phase, []).append(commit)
        return commit

    def commits(self, phase: int) -> Sequence[Commit]:
        return self._commits.get(phase, [])

    def complete(self, phase: int) -> None:
        write_atomically(self._completion(phase), b"{}\n")

    def is_complete(self, phase: int) -> bool:
        return self._completion(phase).exists()

    def _completion(self, phase: int) -> Path:
        return self._directory / "commits" / f"complete-{phase}.json"

    def reader(self, phase: int) -> RecordReader:
        return _ShardReader(self._directory, tuple(self.commits(phase)))


def _read_commit(path: Path) -> Commit:
    try:
        described = cast("dict[str, Any]", json.loads(path.read_bytes()))
        described["ranges"] = tuple((first, last, rows) for first, last, rows in described["ranges"])
        described["books"] = Books(**described["books"])
        return Commit(**described)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise InfrastructureError(
            f"{path} is damaged ({error}); it was written by another program or version"
        ) from error


def _describe_filtered(note: Filtered) -> Record:
    return {ID: note.record[ID], "stage": note.stage, "reason": note.reason, "record": _without_id(note.record)}


def _describe_quarantined(note: Quarantined) -> Record:
    return {
        ID: note.record[ID],
        "stage": note.stage,
        "code": note.code,
        "message": note.message,
        "attempts": note.attempts,
        "traceback": note.traceback,
        "record": _without_id(note.record),
    }


def _without_id(record: Record) -> Record:
    return {name: value for name, value in record.items() if name != ID}


@attrs.frozen
class _ShardReader:
    """Reads committed shards in the order of the input, with one cursor on every shard that is being read."""

    directory: Path
    commits: tuple[Commit, ...]

    def __iter__(self) -> Iterator[Record]:
        return map(decode_row, self._rows())

    def lines(self) -> Iterator[bytes]:
        return map(without_id, self._rows())

    def _rows(self) -> Iterator[bytes]:
        ordered = sorted(
            (first, rows, commit.unit) for commit in self.commits for first, _, rows in commit.ranges if rows
        )
        left = {commit.unit: commit.rows for commit in self.commits}
        by_unit = {commit.unit: commit for commit in self.commits}
        cursors: dict[str, BinaryIO] = {}
        try:
            for _, rows, unit in ordered:
                if unit not in cursors:
                    cursors[unit] = self._open(by_unit[unit])
                cursor = cursors[unit]
                for _ in range(rows):
                    yield cursor.readline()
                left[unit] -= rows
                if not left[unit]:
                    cursors.pop(unit).close()
        finally:
            for cursor in cursors.values():
                cursor.close()

    def _open(self, commit: Commit) -> BinaryIO:
        shard = commit.files["data"]
        path = self.directory / str(shard["path"])
        try:
            file = path.open("rb", buffering=1 << 20)
        except OSError as error:
            raise InfrastructureError(f"{path} is named by a commit, but cannot be read: {error.strerror}") from error
        size = path.stat().st_size
        if size != shard["size"]:
            file.close()
            raise InfrastructureError(f"{path} has {size} bytes, but its commit says {shard['size']}; it was damaged")
        return file
