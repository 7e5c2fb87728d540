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
from typing import Any, BinaryIO, Self, cast

import attrs

from curate.engine.books import Books
from curate.engine.intervals import Intervals
from curate.engine.messages import Filtered, Quarantined
from curate.engine.unit import Commit, Unit, describe_unit, positions_of
from curate.errors import InfrastructureError
from curate.io.atomic import TEMPORARY, write_atomically
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
        for folder in (self._directory, self._directory / "commits"):
            for path in folder.glob(f"*{TEMPORARY}*"):
                path.unlink()

    def done(self, phase: int) -> Intervals:
        return positions_of(self.commits(phase))

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
        commit = attrs.evolve(describe_unit(unit, name, phase, rows, busy_s), files=files, id_sum=unit.id_sum())
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
    """Reads committed shards in the order of the input."""

    directory: Path
    commits: tuple[Commit, ...]

    def __iter__(self) -> Iterator[Record]:
        return map(decode_row, self._rows())

    def lines(self) -> Iterator[bytes]:
        return map(without_id, self._rows())

    def _rows(self) -> Iterator[bytes]:
        ordered = sorted(
            (first, rows, number)
            for number, commit in enumerate(self.commits)
            for first, _, rows in commit.ranges
            if rows
        )
        with _Cursors(self.directory, self.commits) as cursors:
            for _, rows, number in ordered:
                yield from cursors.read(number, rows)


_OPEN_FILES = 64
"""So many shards are open at once at most, however much the units overlap."""


class _Cursors:
    """A place in every shard that is being read; the files that were not needed for long are closed meanwhile."""

    def __init__(self, directory: Path, commits: Sequence[Commit]) -> None:
        self._directory = directory
        self._commits = commits
        self._open: dict[int, BinaryIO] = {}  # the least recently read first
        self._offsets: dict[int, int] = {}
        self._left = [commit.rows for commit in commits]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()

    def read(self, number: int, rows: int) -> Iterator[bytes]:
        """Yield the next rows of a commit's shard."""
        file = self._open.pop(number, None) or self._opened(number)
        self._open[number] = file
        for _ in range(rows):
            yield file.readline()
        self._left[number] -= rows
        if not self._left[number]:
            self._open.pop(number).close()

    def _opened(self, number: int) -> BinaryIO:
        if len(self._open) >= _OPEN_FILES:
            idle = next(iter(self._open))
            file = self._open.pop(idle)
            self._offsets[idle] = file.tell()
            file.close()
        shard = self._commits[number].files["data"]
        path = self._directory / str(shard["path"])
        try:
            file = path.open("rb", buffering=1 << 18)
            if number not in self._offsets:
                _check_shard(file, path, shard)
            file.seek(self._offsets.get(number, 0))
        except OSError as error:
            raise InfrastructureError(f"{path} is named by a commit, but cannot be read: {error.strerror}") from error
        return file


def _check_shard(file: BinaryIO, path: Path, shard: Mapping[str, Any]) -> None:
    size, digest = path.stat().st_size, hashlib.file_digest(cast("Any", file), "sha256").hexdigest()
    if (size, digest) != (shard["size"], shard["sha256"]):
        file.close()
        raise InfrastructureError(
            f"{path} is damaged: it has {size} bytes with sha256 {digest}, and its commit says {shard['size']} bytes "
            f"with sha256 {shard['sha256']}; delete the run directory, or restore the file"
        )
