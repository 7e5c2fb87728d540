"""Finds the damage to a run directory before a run builds on it, and describes it with its remedy.

Damaged is a file that a commit names and that is missing, or has another size or checksum than it was written with; a
commit with a wrong checksum, and one of which only the copy is left; and `run.json`. Nothing is changed here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import attrs

from curate.engine.durability.commit import Commit, UnitFile
from curate.engine.durability.commit_file import REMEDY, number_of, read_accounts, read_commit, repair_command
from curate.engine.durability.commit_resolution import CurrentCommits, resolve_commits
from curate.engine.durability.copies import COPIES, copy_of
from curate.engine.durability.redo_order import RedoOrder
from curate.errors import InfrastructureError
from curate.plural import counted, have

DamageKind: TypeAlias = Literal["data", "filtered", "quarantine", "audio", "shard", "commit", "copy", "run", "lock"]

_LISTED = 10
"""The maximum number of damaged files that an error message lists."""


@attrs.frozen
class Damage:
    """A damaged file of a run directory.

    Args:
        path: relative to the run directory.
        problem: what is wrong with it, as a clause that begins with its path.
        unit: the unit that it belongs to; "" for `run.json` and the lock.
        records: the number of records that have to be processed again; None: not known.
        audio_ms: their audio.
        has_copy: whether a copy takes its place, so that no record has to be processed again.
        positions: of new audio, the position of the record that refers to it.
    """

    kind: DamageKind
    path: str
    problem: str
    unit: str = ""
    phase: int = 0
    records: int | None = 0
    audio_ms: int = 0
    has_copy: bool = False
    positions: frozenset[int] = frozenset()

    @property
    def loss(self) -> str:
        """A clause about what has to be processed again."""
        if self.kind in ("copy", "lock", "run"):
            return "no record is lost"
        if self.has_copy:
            return "no record is lost: there is a copy of it"
        records = "an unknown number of records" if self.records is None else counted(self.records)
        hours = f" ({self.audio_ms / 3_600_000:.2f} h)" if self.audio_ms else ""
        return f"{records}{hours} of phase {self.phase} {have(self.records or 0)} to be processed again"


@attrs.frozen
class FoundCommits:
    """The commits of a run directory, damaged ones as their copies have them.

    Args:
        commits: phase → commits, in the order in which they were made.
        paths: unit → the file that it was read from.
        damage: the damaged commits.
    """

    commits: dict[int, list[Commit]]
    paths: Mapping[str, Path]
    damage: Sequence[Damage]

    def resolve(self, gathers: Collection[int], retried: Mapping[int, Collection[int]]) -> CurrentCommits:
        """Return the commits that count, with the accounts of what counts in them."""
        valid = resolve_commits(self.commits, gathers, retried)
        counting = {phase: [self._corrected(each) for each in commits] for phase, commits in valid.commits.items()}
        return attrs.evolve(valid, commits=counting)

    def _corrected(self, commit: Commit) -> Commit:
        """Return a commit whose account is without that of the outcomes that no longer count."""
        if not commit.replaced:
            return commit
        accounts = read_accounts(self.paths[commit.unit])
        account = commit.account
        for position in commit.replaced:
            account = account.without(accounts[position])
        return attrs.evolve(commit, account=account)


def find_commits(directory: Path, fingerprints: Collection[str] = ()) -> FoundCommits:
    """Read all commits of a run directory.

    Args:
        directory: the run directory.
        fingerprints: the fingerprints that its commits may carry; none: any.
    """
    names = {path.name for folder in ("commits", COPIES) for path in (directory / folder).glob("p*-*.json")}
    commits: dict[int, list[Commit]] = {}
    paths: dict[str, Path] = {}
    damage: list[Damage] = []
    for name in sorted(names, key=_place):
        path = directory / "commits" / name
        problem = ""
        try:
            commit: Commit | None = _checked(path, fingerprints)
        except InfrastructureError as error:
            problem = _problem(error)
            commit = None
        if commit is None:
            path, commit = copy_of(directory, name), _copied(directory, name, fingerprints)
            if commit is None and not path.exists() and not (directory / "commits" / name).exists():
                continue  # a run at work has superseded it since the names were listed
            damage.append(_damaged_commit(directory, name, problem, commit))
        if commit is not None:
            paths[commit.unit] = path
            commits.setdefault(commit.phase, []).append(commit)
    return FoundCommits(dict(sorted(commits.items())), paths, damage)


def _place(name: str) -> tuple[int, str]:
    number = Path(name).stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1, name


def _checked(path: Path, fingerprints: Collection[str]) -> Commit:
    if not path.exists():
        raise InfrastructureError(f"the commit {path} is missing")
    commit = read_commit(path)
    if fingerprints and commit.fingerprint not in fingerprints:
        raise InfrastructureError(f"the commit {path} is of another run: its fingerprint is {commit.fingerprint}")
    return commit


def _copied(directory: Path, name: str, fingerprints: Collection[str]) -> Commit | None:
    try:
        return _checked(copy_of(directory, name), fingerprints)
    except InfrastructureError:  # then the original is all that is named
        return None


def _problem(error: InfrastructureError) -> str:
    return str(error).partition(REMEDY)[0]


def _damaged_commit(directory: Path, name: str, problem: str, copy: Commit | None) -> Damage:
    unit, phase = Path(name).stem, name[1:].partition("-")[0]
    records, audio_ms = (None, 0) if copy is None else (copy.books.records_in, copy.books.in_ms)
    return Damage(
        "commit",
        f"commits/{name}",
        problem,
        unit,
        int(phase) if phase.isdecimal() else 0,
        records,
        audio_ms,
        has_copy=copy is not None,
    )


def damaged_files(
    directory: Path, commits: Iterable[Commit], orders: Mapping[str, RedoOrder], *, thorough: bool
) -> Iterator[Damage]:
    """Yield the damaged files that commits name and need.

    Args:
        directory: the run directory.
        commits: the commits that count, with corrected accounts.
        orders: unit → the order to redo it; files that it redoes are not looked at.
        thorough: whether to read new audio, too, and not only the size of its files.
    """
    for commit in commits:
        order = orders.get(commit.unit)
        for file in commit.needed_files():
            if order is not None and order.redoes(file):
                continue
            whole = thorough or file.kind in ("data", "filtered", "quarantine")
            problem = file_problem(directory, file, whole=whole)
            if problem:
                yield _damaged_file(commit, file, problem)


def file_problem(directory: Path, file: UnitFile, *, whole: bool) -> str:
    """Return the problem of a file that a commit names; "" if it has none.

    Args:
        whole: whether to compare its checksum, and not only its size.
    """
    path = directory / file.path
    try:
        with path.open("rb") as content:
            size = path.stat().st_size
            if size == file.size and not whole:
                return ""
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        return f"{path} is named by a commit, but cannot be read: {error.strerror}"
    if (size, digest) == (file.size, file.sha256):
        return ""
    return (
        f"{path} is damaged: it has {size} bytes with sha256 {digest}, and its commit names {file.size} bytes "
        f"with sha256 {file.sha256}"
    )


def _damaged_file(commit: Commit, file: UnitFile, problem: str) -> Damage:
    books = commit.books
    records, audio_ms = {
        "filtered": (books.filtered, books.filtered_ms),
        "quarantine": (books.quarantined, books.quarantined_ms),
        "audio": (1, 0),
    }.get(file.kind, (books.records_in, books.in_ms))
    positions = frozenset[int]() if file.position is None else frozenset({file.position})
    return Damage(file.kind, file.path, problem, commit.unit, commit.phase, records, audio_ms, positions=positions)


def damaged_run(directory: Path, damage: Sequence[Damage]) -> InfrastructureError:
    """Return the error of a run that has met damage: it names the files, the loss, and the command that repairs it."""
    lines = [f"  {each.problem}: {each.loss}" for each in damage[:_LISTED]]
    if len(damage) > _LISTED:
        lines.append(f"  and {len(damage) - _LISTED:,} more files")
    return InfrastructureError(
        "\n".join(
            (
                f"the run directory {directory} is damaged:",
                *lines,
                "The following command moves damaged files aside and deletes none; then run the same command again:",
                f"  {repair_command(directory)}",
            )
        )
    )


def largest_number(commits: Mapping[int, Sequence[Commit]], directory: Path) -> int:
    """Return the largest number of a commit, damaged ones included; -1 if there is none."""
    names = (path.stem for folder in ("commits", COPIES) for path in (directory / folder).glob("p*-*.json"))
    numbers = [number_of(name) for name in names if name.rpartition("-")[2].isdecimal()]
    return max((*numbers, *(commit.number for found in commits.values() for commit in found)), default=-1)
