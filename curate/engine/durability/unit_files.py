"""Reads unit files: kept rows in the order of the input, and notes about the records that were not kept."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import attrs

from curate.engine.durability.commit import Commit, UnitFile
from curate.errors import InfrastructureError
from curate.io.rows import decode_row, without_id
from curate.records import Record


@attrs.frozen
class UnitReader:
    """Reads committed rows in the order of the input."""

    directory: Path
    commits: tuple[Commit, ...]

    def __iter__(self) -> Iterator[Record]:
        return map(decode_row, self._rows())

    def lines(self) -> Iterator[bytes]:
        return map(without_id, self._rows())

    def _rows(self) -> Iterator[bytes]:
        with closing(_Cursors(self.directory, self.commits)) as cursors:
            for first, rows, number in heapq.merge(*map(_ranges, range(len(self.commits)), self.commits)):
                if first in self.commits[number].replaced:
                    for _ in cursors.read(number, rows):
                        continue
                else:
                    yield from cursors.read(number, rows)


def _ranges(number: int, commit: Commit) -> Iterator[tuple[int, int, int]]:
    return ((first, rows, number) for first, _, rows in commit.ranges if rows)


_OPEN_FILES = 64
"""The maximum number of unit files that are open at the same time, however much the units overlap."""


class _Cursors:
    """A position in every unit file that is being read; the least recently read files are closed meanwhile."""

    def __init__(self, directory: Path, commits: Sequence[Commit]) -> None:
        self._directory = directory
        self._commits = commits
        self._open: dict[int, BinaryIO] = {}  # the least recently read first
        self._offsets: dict[int, int] = {}
        self._left = [commit.rows for commit in commits]

    def close(self) -> None:
        for file in self._open.values():
            file.close()

    def read(self, number: int, rows: int) -> Iterator[bytes]:
        """Yield the next rows of a commit."""
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
        described = cast("UnitFile", self._commits[number].file("data"))
        path = self._directory / described.path
        try:
            file = path.open("rb", buffering=1 << 18)
            if number not in self._offsets:
                check_unit_file(file, path, described)
            file.seek(self._offsets.get(number, 0))
        except OSError as error:
            raise InfrastructureError(f"{path} is named by a commit, but cannot be read: {error.strerror}") from error
        return file


def check_unit_file(file: BinaryIO, path: Path, described: UnitFile) -> None:
    """Compare an open unit file with its description in the commit, and close it if they differ.

    Raises:
        InfrastructureError: the size or the checksum is another one.
    """
    size, digest = path.stat().st_size, hashlib.file_digest(cast("Any", file), "sha256").hexdigest()
    if (size, digest) != (described.size, described.sha256):
        file.close()
        raise InfrastructureError(
            f"{path} is damaged: it has {size} bytes with sha256 {digest}, and its commit names {described.size} bytes "
            f"with sha256 {described.sha256}; restore the file, or delete the run directory"
        )


def read_notes(
    directory: Path, kind: Literal["filtered", "quarantine"], commits: Iterable[Commit]
) -> Iterator[tuple[Commit, Record]]:
    """Yield the notes that count about records that were filtered or failed (`quarantine`).

    Raises:
        InfrastructureError: a unit file is damaged or missing.
    """
    for commit in commits:
        described = commit.file(kind)
        if described is None:
            continue
        path = directory / described.path
        try:
            with path.open("rb") as file:
                check_unit_file(file, path, described)
                file.seek(0)
                for line in file:
                    note = cast("Record", json.loads(line))
                    if note["position"] not in commit.replaced:
                        yield commit, note
        except OSError as error:
            raise InfrastructureError(f"{path} is named by a commit, but cannot be read: {error.strerror}") from error
