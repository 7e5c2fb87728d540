"""The store that survives any crash: unit files and commits below a run directory.

The rename of `commits/<unit>.json` is the only commit point; readers take the list of unit files from the commits. Rows
of a unit are sorted by their root's position in the phase's input, and the commit names the positions that it holds, so
the input's order is restored by reading ranges one after the other.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import attrs

from curate.engine.durability.commit import (
    Commit,
    CommitBuffer,
    CommitStats,
    UnitFile,
    UnitFileKind,
    describe_unit,
    positions_of,
    ranges_in_order,
)
from curate.engine.durability.commit_file import (
    LinesKind,
    UnitReader,
    encode_commit,
    number_of,
    read_accounts,
    read_notes,
    unit_lines,
)
from curate.engine.durability.commit_resolution import CurrentCommits
from curate.engine.durability.copies import COPIES, copy_of, remove_commit
from curate.engine.durability.damage import (
    Damage,
    FoundCommits,
    damaged_files,
    damaged_run,
    file_problem,
    find_commits,
    largest_number,
)
from curate.engine.durability.positions import InputPositions, Intervals, positions_after
from curate.engine.durability.redo import PhaseRedo, rows_are_as_before
from curate.engine.durability.redo_order import ROWS_BEFORE, RedoOrder, read_orders, remove_orders, write_order
from curate.io.failpoints import failpoint
from curate.records import Record, RecordReader
from curate.stage import SHARD_MEMBERS, ShardFile
from curate.storage import TEMPORARY, replacing, sync_directory, write_atomically

UNIT_FOLDERS: tuple[LinesKind, ...] = ("data", "filtered", "quarantine")
"""The folders of the unit files."""

AUDIO_FOLDER = "audio"
"""The folder of new audio; workers write there, and commits name the files."""

SHARD_FOLDER = "shards"
"""The folder of shards, with one folder for each stage that makes some. A shard's name identifies its content, so one
that no commit names yet may be of use still; it is deleted when its stage's phase is complete.
"""

_NEW_AUDIO = re.compile(rf".*-[0-9a-f]{{32}}\.flac(?:{re.escape(TEMPORARY)}.*)?\Z")
"""The names that workers give to new audio; whatever else a user puts there stays."""

_BYTES_TOGETHER = 128 * 1024


class DirectoryStore:
    """Unit files and commits below a run directory.

    Args:
        directory: the run directory.
        gathers: the phases that begin with a gather.
        check: called before a commit and each of its renames; raises if this process may no longer write.
        fingerprint: the run's, which every new commit carries.
        fingerprints: the ones that the commits already there may carry; none: any.

    Raises:
        InfrastructureError: a commit or unit file is damaged, naming it and the command that repairs it.
    """

    encodes = True

    def __init__(
        self,
        directory: Path,
        gathers: Collection[int] = (),
        check: Callable[[], None] | None = None,
        fingerprint: str = "",
        fingerprints: Collection[str] = (),
    ) -> None:
        self._directory = directory
        self._gathers = frozenset(gathers)
        self._check: Callable[[], object] = (lambda: None) if check is None else check
        self._fingerprint = fingerprint
        self._fingerprints = frozenset(fingerprints)
        self._retried: dict[int, frozenset[int]] = {}
        self._commits: dict[int, list[Commit]] = {}
        self._orders: dict[str, RedoOrder] = {}
        for folder in (*UNIT_FOLDERS, "commits", COPIES):
            (directory / folder).mkdir(parents=True, exist_ok=True)
        self._load(checked=False)
        self._remove_orphans()

    def _load(self, *, checked: bool = True) -> None:
        """Read the commits, and drop those that no longer count.

        Args:
            checked: whether the unit files have been checked already.
        """
        if not any(any((self._directory / folder).glob("*p*-*.json")) for folder in ("commits", COPIES)):
            self._next = 0
            return
        found = find_commits(self._directory, self._fingerprints)
        self._orders = read_orders(self._directory)
        lost = (order.after for order in self._orders.values() if order.after is not None)
        self._next = 1 + max((largest_number(found.commits, self._directory), *lost))
        valid = found.resolve(self._gathers, self._retried)
        current = [commit for commits in valid.commits.values() for commit in commits]
        damage = list(found.damage)
        if not checked:
            damage.extend(damaged_files(self._directory, current, self._orders, thorough=False))
        if damage:
            raise damaged_run(self._directory, damage)
        self._supersede(valid.superseded)
        self._commits = {phase: list(commits) for phase, commits in valid.commits.items()}
        self._drop_orders({commit.unit: commit for commit in current})
        for commit in () if checked else current:
            self._keep_copy(commit.unit)

    def _supersede(self, commits: Iterable[Commit]) -> None:
        """Delete commits that no longer count."""
        superseded = sorted(commits, key=lambda commit: commit.phase, reverse=True)
        for commit in superseded:
            self._completion(commit.phase).unlink(missing_ok=True)  # first, so that a crash leaves it to be done
            remove_commit(self._directory, commit.unit)
        if superseded:
            sync_directory(self._directory / "commits")

    def _keep_copy(self, unit: str) -> None:
        """Copy a commit whose copy is missing."""
        name = f"{unit}.json"
        if not copy_of(self._directory, name).exists():
            copy_of(self._directory, name).write_bytes((self._directory / "commits" / name).read_bytes())

    def _drop_orders(self, current: Mapping[str, Commit]) -> None:
        """Remove the orders for units that no longer count, or are whole again."""
        done = [
            order.unit
            for order in self._orders.values()
            if order.after is None and not self._is_needed(order, current.get(order.unit))
        ]
        remove_orders(self._directory, done)
        self._orders = {unit: order for unit, order in self._orders.items() if unit not in done}

    def _is_needed(self, order: RedoOrder, commit: Commit | None) -> bool:
        if commit is None or next(commit.valid_ranges(), None) is None:
            return False
        if ROWS_BEFORE in order.kinds:
            return True
        lost = (file for file in commit.needed_files() if order.redoes(file))
        return any(file_problem(self._directory, file, whole=True) for file in lost)

    def _remove_orphans(self) -> None:
        """Delete the leftovers of a crash: temporary files, and unit files that no commit names."""
        found = [path for folder in UNIT_FOLDERS for path in (self._directory / folder).iterdir()]
        named = self._named() if found else set[Path]()
        for path in found:
            if path.relative_to(self._directory) not in named and path.is_file():  # a folder is not the run's
                path.unlink()
        if (self._directory / AUDIO_FOLDER).exists():
            self._remove_unnamed_audio()
        for path in sorted((self._directory / SHARD_FOLDER).rglob(f"*{TEMPORARY}*")):
            if path.is_dir():  # the files of a shard that was not finished
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for folder in (self._directory, self._directory / "commits"):
            for path in folder.glob(f"*{TEMPORARY}*"):
                if path.is_dir():  # a data set that was not finished
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)  # another driver's, that is just being refused

    def _named(self) -> set[Path]:
        return {
            Path(file.path) for commits in self._commits.values() for commit in commits for file in commit.valid_files()
        }

    def notes_damage(self) -> list[Damage]:
        """Return the damaged files about filtered and failed records; their rows are checked when they are read."""
        notes = [
            attrs.evolve(commit, files=tuple(file for file in commit.files if file.kind in ("filtered", "quarantine")))
            for commits in self._commits.values()
            for commit in commits
            if len(commit.files) > (commit.rows > 0)
        ]
        return list(damaged_files(self._directory, notes, self._orders, thorough=False)) if notes else []

    def _remove_unnamed_audio(self) -> None:
        """Delete new audio that no commit names, and folders that are empty then.

        No worker may be at work, but one on another node may be about to end with a driver that was killed, or with a
        node that was taken for lost: what it changes meanwhile is left to the next time.
        """
        folders = sorted((self._directory / AUDIO_FOLDER).glob("[0-9a-f][0-9a-f]/"))
        named = self._named() if folders else set[Path]()
        for folder in folders:
            left = 0
            for path in folder.iterdir():
                if path.relative_to(self._directory) in named or not _NEW_AUDIO.match(path.name):
                    left += 1
                else:
                    path.unlink(missing_ok=True)
            if not left:
                with suppress(OSError):
                    folder.rmdir()

    def retry(self, positions: Mapping[int, Collection[int]]) -> None:
        """Count roots, by phase, as not done, whatever their outcome was; their next outcome replaces it."""
        self._retried = {phase: frozenset(chosen) for phase, chosen in positions.items() if chosen}
        self._load()

    def places(self, phase: int) -> InputPositions:
        places = InputPositions()
        for number in range(1, phase + 1):
            if number in self._gathers:
                places = InputPositions()
                continue
            commits = self.commits(number - 1)
            apart = frozenset(position for commit in commits for position in commit.individually_tracked)
            places = positions_after(places, ranges_in_order(commits), apart)
        return places

    def retried(self, phase: int) -> Collection[int]:
        return self._retried.get(phase, frozenset())

    def done(self, phase: int) -> Intervals:
        return positions_of(self.commits(phase))

    def commit(
        self,
        phase: int,
        unit: CommitBuffer,
        busy_s: Mapping[str, float],
        *,
        rebuilds: str = "",
        renumbers: bool = False,
    ) -> Commit:
        self._check()
        failpoint("commit.before_write")
        if not unit.name:
            unit.name, self._next = f"p{phase}-{self._next:06d}", self._next + 1
        rows = unit.rows()
        files: list[UnitFile] = []
        for kind in UNIT_FOLDERS:
            lines = unit_lines(unit, rows, kind)
            if lines is not None:
                files.append(self._write(kind, unit.name, lines))
        failpoint("commit.after_data")
        files.extend(unit.files())
        described, accounts = describe_unit(unit, number_of(unit.name), phase, rows, busy_s)
        commit = attrs.evolve(
            described, files=tuple(files), fingerprint=self._fingerprint, rebuilds=rebuilds, renumbers=renumbers
        )
        content = encode_commit(commit, accounts)
        path = self._directory / "commits" / f"{unit.name}.json"
        # A disk that hangs in a write can hang until this driver counts as dead and is replaced.
        write_atomically(
            path, content, before_rename=lambda: (failpoint("commit.after_temporary_commit"), self._check())
        )
        failpoint("commit.after_rename")
        with suppress(OSError):  # no result depends on the copy
            (self._directory / COPIES / path.name).write_bytes(content)
        commits = self._commits.setdefault(phase, [])
        if not commits or commits[-1].unit != unit.name:
            commits.append(commit)
        return commit

    def _write(self, kind: UnitFileKind, unit: str, lines: Iterable[bytes]) -> UnitFile:
        """Write a unit file, never holding all of it in memory, and return its description for the commit."""
        path, size, digest = f"{kind}/{unit}.jsonl", 0, hashlib.sha256()
        with replacing(
            self._directory / path, before_rename=lambda: (failpoint("commit.after_temporary"), self._check())
        ) as file:
            for content in _together(lines):
                size += len(content)
                digest.update(content)
                file.write(content)
        return UnitFile(kind, path, size, digest.hexdigest())

    def commits(self, phase: int) -> Sequence[Commit]:
        return self._commits.get(phase, [])

    def complete(self, phase: int) -> None:
        failpoint("phase.before_complete")
        if self._orders:
            self._settle_lost_commits(phase)
        write_atomically(self._completion(phase), b"{}\n")
        if self._retried.pop(phase, None):
            self._load()  # later outcomes of replaced records are superseded
        has_audio = (self._directory / AUDIO_FOLDER).exists()
        if has_audio and not self._retried:  # until then, a retry that is interrupted leaves earlier outcomes valid
            self._remove_unnamed_audio()
        if (self._directory / SHARD_FOLDER).exists():
            self._remove_unnamed_shards(phase)

    def _remove_unnamed_shards(self, phase: int) -> None:
        """Delete the shards of a complete phase that no commit names: of an earlier assignment, or of trials."""
        named = {self._directory / shard.path for shard in self.shards(phase)}
        members = {path.with_suffix(SHARD_MEMBERS) for path in named if path.suffix == ".json"}
        for top in {self._directory.joinpath(*path.relative_to(self._directory).parts[:2]) for path in named}:
            for place, folders, files in os.walk(top):
                for name in files:
                    if (path := Path(place, name)) not in named:
                        path.unlink()
                for name in [name for name in folders if name.endswith(SHARD_MEMBERS)]:
                    folders.remove(name)
                    if (path := Path(place, name)) not in members:
                        shutil.rmtree(path)

    def shards(self, phase: int) -> Sequence[ShardFile]:
        found = [
            ShardFile(
                path=self._directory / file.path,
                folder=str(Path(file.path).parent.relative_to(SHARD_FOLDER)),
                position=file.position or 0,
                size=file.size,
                sha256=file.sha256,
            )
            for commit in self.commits(phase)
            for file in commit.files
            if file.kind == "shard"
        ]
        return sorted(found, key=lambda shard: (shard.position, shard.path.name))

    def is_complete(self, phase: int) -> bool:
        if phase in self._retried or (self._orders and self._ordered(phase)) or not self._completion(phase).exists():
            return False
        return self.places(phase).holds_exactly(self.done(phase))

    def _completion(self, phase: int) -> Path:
        return self._directory / "commits" / f"complete-{phase}.json"

    def reader(self, phase: int) -> RecordReader:
        return UnitReader(self._directory, tuple(commit for commit in self.commits(phase) if commit.account.books.kept))

    def failures(self) -> Iterator[tuple[int, Record]]:
        for phase, commits in self._commits.items():
            readable = [commit for commit in commits if not self._is_redone(commit, "quarantine")]
            for _, note in read_notes(self._directory, "quarantine", readable):
                yield phase, note

    # Units that are processed again, because their files were damaged.

    def redo(self, phase: int) -> PhaseRedo | None:
        """Return the damaged units of a phase, which are processed again; None: there are none."""
        orders = [order for order in self._ordered(phase) if order.after is None] if self._orders else []
        return PhaseRedo(self._directory, self, phase, orders) if orders else None

    def _ordered(self, phase: int) -> list[RedoOrder]:
        return [order for order in self._orders.values() if order.phase == phase]

    def _is_redone(self, commit: Commit, kind: LinesKind) -> bool:
        order, file = self._orders.get(commit.unit), commit.file(kind)
        return order is not None and file is not None and order.redoes(file)

    def begins_with_gather(self, phase: int) -> bool:
        return phase in self._gathers

    def accounts(self, unit: str) -> Mapping[int, CommitStats]:
        return read_accounts(self._directory / "commits" / f"{unit}.json")

    def write_again(self, file: UnitFile, lines: Iterable[bytes]) -> None:
        self._check()
        with replacing(
            self._directory / file.path, before_rename=lambda: (failpoint("commit.after_temporary"), self._check())
        ) as written:
            for content in _together(lines):
                written.write(content)
        failpoint("commit.after_data")

    def order(self, order: RedoOrder) -> None:
        known = order.merged(self._orders.get(order.unit))
        write_order(self._directory, known)
        self._orders[order.unit] = known

    def fulfil(self, unit: str) -> None:
        remove_orders(self._directory, [unit])
        self._orders.pop(unit, None)

    def commit_again(self, phase: int, unit: CommitBuffer, instead_of: Commit | None, *, renumbers: bool) -> None:
        rebuilds = "" if instead_of is None else instead_of.unit
        self.commit(phase, unit, unit.busy_s, rebuilds=rebuilds, renumbers=renumbers)
        self._load()

    def _settle_lost_commits(self, phase: int) -> None:
        """Drop what later phases have made of the rows of lost commits, unless these rows are as they were."""
        lost = [order for order in self._ordered(phase) if order.after is not None]
        if lost and not rows_are_as_before(self._directory, self, phase, lost):
            self._supersede(commit for number, commits in self._commits.items() if number > phase for commit in commits)
            self._commits = {number: commits for number, commits in self._commits.items() if number <= phase}
        remove_orders(self._directory, [order.unit for order in lost])
        for order in lost:
            self._orders.pop(order.unit)
        if lost:
            self._drop_orders({commit.unit: commit for commits in self._commits.values() for commit in commits})


def _together(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines joined to pieces of a size that is worth a call."""
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


def read_commits(directory: Path, fingerprints: Collection[str] = ()) -> dict[int, list[Commit]]:
    """Return all commits of a run directory by phase, in the order in which they were made.

    Args:
        directory: the run directory.
        fingerprints: the fingerprints that its commits may carry; none: any.

    Raises:
        InfrastructureError: one of them is damaged, missing, or of another run; names the command that repairs it.
    """
    return _undamaged(directory, fingerprints).commits


def current_commits(
    directory: Path, gathers: Collection[int], fingerprints: Collection[str] = ()
) -> Mapping[int, Sequence[Commit]]:
    """Return the commits of a run directory that count; nothing in it is changed, so a run may be at work there."""
    return resolved_commits(directory, gathers, fingerprints).commits


def resolved_commits(directory: Path, gathers: Collection[int], fingerprints: Collection[str] = ()) -> CurrentCommits:
    """Return the commits of a run directory that count, with the positions of each phase's input.

    Raises:
        InfrastructureError: a commit is damaged, missing, or of another run; names the command that repairs it.
    """
    return _undamaged(directory, fingerprints).resolve(gathers, {})


def _undamaged(directory: Path, fingerprints: Collection[str]) -> FoundCommits:
    found = find_commits(directory, fingerprints)
    if found.damage:
        raise damaged_run(directory, found.damage)
    return found
