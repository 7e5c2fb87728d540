"""The files of a commit: `commits/<unit>.json`, and the unit files that it names.

The former is one line of JSON that ends with a checksum of itself: the SHA-256 of the line as it would be without it,
byte for byte, so that checking it needs no second encoding. The checksums of the unit files are in it. Whatever changes
a file after it was written (a damaged disk, an editor, a partial copy) is found when it is read and reported with the
file's name; a stage is never blamed for it.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast

import attrs

from curate.engine.durability.commit import Commit, CommitBuffer, CommitStats, OutputRows, UnitFile
from curate.engine.durability.positions import Ranges
from curate.engine.protocol.messages import Filtered, Quarantined
from curate.errors import InfrastructureError
from curate.io.rows import decode_row, encode_note, without_id
from curate.records import ID, Record

_SEAL = re.compile(rb', "checksum": "([0-9a-f]{64})"\}\n\Z')


def seal(described: Mapping[str, Any]) -> bytes:
    """Return the content of a commit's file: the description as JSON, with its checksum."""
    content = json.dumps(described).encode()
    checksum = hashlib.sha256(content).hexdigest()
    return content[:-1] + f', "checksum": "{checksum}"}}\n'.encode()


def unseal(content: bytes) -> dict[str, Any]:
    """Return the description that `seal` has encoded.

    Raises:
        ValueError: the content is not what `seal` has returned.
    """
    found = _SEAL.search(content)
    if found is None:
        raise ValueError("it does not end with a checksum")
    described = content[: found.start()] + b"}"
    checksum = hashlib.sha256(described).hexdigest()
    if checksum != found[1].decode():
        raise ValueError(f"its content has the checksum {checksum}, and its checksum is {found[1].decode()}")
    return cast("dict[str, Any]", json.loads(described))


def encode_commit(commit: Commit, accounts: Mapping[int, CommitStats]) -> bytes:
    """Return the content of a commit's file.

    Args:
        commit: the commit.
        accounts: the accounts of the roots whose outcome a retry may replace, by position.
    """
    return seal(
        {
            "unit": commit.unit,
            "phase": commit.phase,
            "fingerprint": commit.fingerprint,
            "rows": commit.rows,
            "ranges": list(commit.ranges),
            "account": commit.account.to_dict(),
            "apart": {str(position): account.to_dict() for position, account in accounts.items()},
            "busy_s": commit.busy_s,
            "measures": commit.measures,
            "files": [
                {name: value for name, value in attrs.asdict(file).items() if value is not None}
                for file in commit.files
            ],
            **({"rebuilds": commit.rebuilds, "renumbers": commit.renumbers} if commit.rebuilds else {}),
        }
    )


def read_commit(path: Path) -> Commit:
    """Return the commit of a file, without the accounts of single roots.

    Raises:
        InfrastructureError: the file is damaged or cannot be read, naming it.
    """
    described = _described(path)
    try:
        if described["unit"] != path.stem:
            raise ValueError(f"it is the commit of the unit {described['unit']}")
        return Commit(
            unit=described["unit"],
            phase=described["phase"],
            number=number_of(described["unit"]),
            fingerprint=described["fingerprint"],
            ranges=Ranges(described["ranges"]),
            rows=described["rows"],
            account=CommitStats.from_dict(described["account"]),
            busy_s=described["busy_s"],
            measures=described["measures"],
            files=tuple(UnitFile(**file) for file in described["files"]),
            individually_tracked=tuple(map(int, described["apart"])),
            rebuilds=described.get("rebuilds", ""),
            renumbers=described.get("renumbers", False),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, error) from error


def read_accounts(path: Path) -> dict[int, CommitStats]:
    """Return the accounts of the roots whose outcome a retry may replace, by position.

    Raises:
        InfrastructureError: the file is damaged or cannot be read, naming it.
    """
    try:
        return {int(position): CommitStats.from_dict(each) for position, each in _described(path)["apart"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, error) from error


def number_of(unit: str) -> int:
    """Return the number of a unit, which counts over all phases: 7 for `p2-000007`."""
    return int(unit.rpartition("-")[2])


def _described(path: Path) -> dict[str, Any]:
    try:
        return unseal(path.read_bytes())
    except (ValueError, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InfrastructureError:
    return InfrastructureError(f"the commit {path} is damaged ({error}){remedy(path)}")


REMEDY = "; to repair it: "
"""Precedes the command that repairs a damage, in a message about a single file."""


def remedy(path: Path) -> str:
    """Return a clause with the command that repairs a file of a run directory's folder."""
    return f"{REMEDY}{repair_command(path.parent.parent)}"


def repair_command(directory: Path) -> str:
    """Return the command that repairs a run directory, as a shell takes it."""
    return f"curate repair {shlex.quote(str(directory))}"


@attrs.frozen
class UnitReader:
    """Reads committed rows in the order of the input."""

    directory: Path
    commits: tuple[Commit, ...]

    def __iter__(self) -> Iterator[Record]:
        return map(decode_row, self._rows())

    def lines(self) -> Iterator[bytes]:
        return map(without_id, self._rows())

    def encoded(self) -> Iterator[bytes]:
        """Yield the rows as they are in the unit files."""
        return self._rows()

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
        yield from islice(file, rows)
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
            raise InfrastructureError(
                f"{path} is named by a commit, but cannot be read: {error.strerror}{remedy(path)}"
            ) from error
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
            f"with sha256 {described.sha256}{remedy(path)}"
        )


def read_notes(
    directory: Path, kind: Literal["filtered", "quarantine"], commits: Iterable[Commit]
) -> Iterator[tuple[Commit, Record]]:
    """Yield the notes that count about records that were filtered or failed (`quarantine`).

    Raises:
        InfrastructureError: a unit file is damaged or missing.
    """
    for commit in commits:
        described = next((file for file in commit.needed_files() if file.kind == kind), None)
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
            raise InfrastructureError(
                f"{path} is named by a commit, but cannot be read: {error.strerror}{remedy(path)}"
            ) from error


LinesKind: TypeAlias = Literal["data", "filtered", "quarantine"]


def unit_lines(unit: CommitBuffer, rows: OutputRows, kind: LinesKind) -> Iterator[bytes] | None:
    """Return the lines of a unit's file of a kind; None: it has no such file.

    Args:
        rows: the unit's own rows, which are costly to sort twice.
    """
    if kind == "data":
        return iter(cast("list[bytes]", rows.rows)) if rows.rows else None
    if kind == "filtered":
        filtered = unit.filtered()
        return (encode_note(_describe_filtered(*pair)) for pair in filtered) if filtered else None
    quarantined = unit.quarantined()
    return (encode_note(describe_quarantined(*pair)) for pair in quarantined) if quarantined else None


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
    rest = record.copy()
    rest.pop(ID, None)
    return rest
