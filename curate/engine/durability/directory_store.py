"""The store that survives any crash: unit files and commits below a run directory.

The rename of `commits/<unit>.json` is the only commit point; readers take the list of unit files from the commits. Rows
of a unit are sorted by their root's position in the phase's input, and the commit names the positions that it holds, so
the input's order is restored by reading ranges one after the other.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import attrs

from curate.engine.durability.commit import (
    Commit,
    CommitBuffer,
    UnitFile,
    UnitFileKind,
    describe_unit,
    positions_of,
    ranges_in_order,
)
from curate.engine.durability.commit_file import (
    UnitReader,
    encode_commit,
    number_of,
    read_accounts,
    read_commit,
    read_notes,
)
from curate.engine.durability.commit_resolution import resolve_commits
from curate.engine.durability.positions import InputPositions, Intervals, positions_after
from curate.engine.protocol.messages import Filtered, Quarantined
from curate.errors import InfrastructureError
from curate.io.failpoints import failpoint
from curate.io.rows import encode_note
from curate.records import ID, Record, RecordReader
from curate.stage import ShardFile
from curate.storage import TEMPORARY, replacing, sync_directory, write_atomically

UNIT_FOLDERS = ("data", "filtered", "quarantine")
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
        check: called before every commit; raises if this process may no longer write.
        fingerprint: the run's, which every new commit carries.
        fingerprints: the ones that the commits already there may carry; none: any.

    Raises:
        InfrastructureError: a commit is damaged or of another run, naming it.
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
        self._check = check
        self._fingerprint = fingerprint
        self._fingerprints = frozenset(fingerprints)
        self._retried: dict[int, frozenset[int]] = {}
        self._commits: dict[int, list[Commit]] = {}
        for folder in (*UNIT_FOLDERS, "commits"):
            (directory / folder).mkdir(parents=True, exist_ok=True)
        self._load()
        self._remove_orphans()

    def _load(self) -> None:
        found = read_commits(self._directory, self._fingerprints)
        everything = [commit for commits in found.values() for commit in commits]
        self._next = 1 + max((commit.number for commit in everything), default=-1)
        if not found:
            return
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
        """Delete the leftovers of a crash: temporary files, and unit files that no commit names."""
        named = self._named()
        for folder in UNIT_FOLDERS:
            for path in (self._directory / folder).iterdir():
                if path.relative_to(self._directory) not in named and path.is_file():  # a folder is not the run's
                    path.unlink()
        self._remove_unnamed_audio()
        for path in (self._directory / SHARD_FOLDER).rglob(f"*{TEMPORARY}*"):
            path.unlink()
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

    def _remove_unnamed_audio(self) -> None:
        """Delete new audio that no commit names, and folders that are empty then. No worker may be at work."""
        folders = sorted((self._directory / AUDIO_FOLDER).glob("[0-9a-f][0-9a-f]/"))
        named = self._named() if folders else set[Path]()
        for folder in folders:
            left = 0
            for path in folder.iterdir():
                if path.relative_to(self._directory) in named or not _NEW_AUDIO.match(path.name):
                    left += 1
                else:
                    path.unlink()
            if not left:
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

    def commit(self, phase: int, unit: CommitBuffer, busy_s: Mapping[str, float]) -> Commit:
        if self._check is not None:
            self._check()
        failpoint("commit.before_write")
        if not unit.name:
            unit.name, self._next = f"p{phase}-{self._next:06d}", self._next + 1
        rows, filtered, quarantined = unit.rows(), unit.filtered(), unit.quarantined()
        files: list[UnitFile] = []
        if rows.rows:
            files.append(self._write("data", unit.name, cast("list[bytes]", rows.rows)))
        if filtered:
            files.append(self._write("filtered", unit.name, (encode_note(_describe_filtered(*p)) for p in filtered)))
        if quarantined:
            notes = (encode_note(describe_quarantined(*pair)) for pair in quarantined)
            files.append(self._write("quarantine", unit.name, notes))
        failpoint("commit.after_data")
        files.extend(unit.files())
        described, accounts = describe_unit(unit, number_of(unit.name), phase, rows, busy_s)
        commit = attrs.evolve(described, files=tuple(files), fingerprint=self._fingerprint)
        content = encode_commit(commit, accounts)
        path = self._directory / "commits" / f"{unit.name}.json"
        write_atomically(path, content, before_rename=partial(failpoint, "commit.after_temporary_commit"))
        failpoint("commit.after_rename")
        commits = self._commits.setdefault(phase, [])
        if not commits or commits[-1].unit != unit.name:
            commits.append(commit)
        return commit

    def _write(self, kind: UnitFileKind, unit: str, lines: Iterable[bytes]) -> UnitFile:
        """Write a unit file, never holding all of it in memory, and return its description for the commit."""
        path, size, digest = f"{kind}/{unit}.jsonl", 0, hashlib.sha256()
        with replacing(self._directory / path, before_rename=partial(failpoint, "commit.after_temporary")) as file:
            for content in _together(lines):
                size += len(content)
                digest.update(content)
                file.write(content)
        return UnitFile(kind, path, size, digest.hexdigest())

    def commits(self, phase: int) -> Sequence[Commit]:
        return self._commits.get(phase, [])

    def complete(self, phase: int) -> None:
        failpoint("phase.before_complete")
        write_atomically(self._completion(phase), b"{}\n")
        if self._retried.pop(phase, None):
            self._load()  # later outcomes of replaced records are superseded
        if not self._retried:  # until then, a retry that is interrupted leaves earlier outcomes valid
            self._remove_unnamed_audio()
        if (self._directory / SHARD_FOLDER).exists():
            self._remove_unnamed_shards(phase)

    def _remove_unnamed_shards(self, phase: int) -> None:
        """Delete the shards of a complete phase that no commit names: of an earlier assignment, or of trials."""
        named = {self._directory / shard.path for shard in self.shards(phase)}
        for folder in {self._directory.joinpath(*path.relative_to(self._directory).parts[:2]) for path in named}:
            for path in folder.rglob("*"):
                if path.is_file() and path not in named:
                    path.unlink()

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
        InfrastructureError: one of them is damaged, or of another run.
    """
    commits: dict[int, list[Commit]] = {}
    for path in sorted((directory / "commits").glob("p*-*.json"), key=lambda path: number_of(path.stem)):
        commit = read_commit(path)
        if fingerprints and commit.fingerprint not in fingerprints:
            raise InfrastructureError(
                f"the commit {path} is of another run: its fingerprint is {commit.fingerprint}; remove the file, or "
                "use a new --run-dir"
            )
        commits.setdefault(commit.phase, []).append(commit)
    return dict(sorted(commits.items()))


def current_commits(
    directory: Path, gathers: Collection[int], fingerprints: Collection[str] = ()
) -> dict[int, list[Commit]]:
    """Return the commits of a run directory that count; nothing in it is changed, so a run may be at work there."""
    valid = resolve_commits(read_commits(directory, fingerprints), gathers, {})
    return {phase: [_corrected(directory, commit) for commit in commits] for phase, commits in valid.commits.items()}


def _corrected(directory: Path, commit: Commit) -> Commit:
    """Return a commit whose account is without that of the outcomes that no longer count."""
    if not commit.replaced:
        return commit
    accounts = read_accounts(directory / "commits" / f"{commit.unit}.json")
    account = commit.account
    for position in commit.replaced:
        account = account.without(accounts[position])
    return attrs.evolve(commit, account=account)


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
