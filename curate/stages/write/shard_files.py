"""The files of a shard below the run directory: they get their names when they are whole, the description last."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import attrs

from curate.io.failpoints import failpoint
from curate.stage import SHARD_MEMBERS
from curate.stages.write.formats import OpenShard, ShardFormat, ShardPlace
from curate.stages.write.tallies import ShardTally
from curate.storage import (
    DescribedFile,
    describe_bytes,
    describe_file,
    describe_folder,
    sync_folder,
    temporary_path,
    write_atomically,
)

DESCRIPTION = ".json"
"""The suffix of the description of a shard: its records, their lengths, and the checksums of its files."""


@attrs.frozen
class PackedShard:
    """A shard that is whole and durable.

    Args:
        name: of its files, without a suffix.
        durations: the length of each of its records in seconds, by id.
        files: the size and the checksum of each file by its suffix, the description among them.
    """

    name: str
    durations: Mapping[str, float]
    files: Mapping[str, Mapping[str, Any]]


def find_shard(folder: Path, name: str) -> PackedShard | None:
    """Return the shard of a name; None: it is not there, or not whole."""
    description = folder / f"{name}{DESCRIPTION}"
    try:
        content = description.read_bytes()
        described = cast("dict[str, Any]", json.loads(content))
        files: dict[str, Any] = described["files"]
        if any(describe_file(folder / f"{name}{suffix}") != file for suffix, file in files.items()):
            return None
        if "members" in described and describe_folder(description.with_suffix(SHARD_MEMBERS)) != described["members"]:
            return None
    except (OSError, ValueError):
        return None
    return PackedShard(name, described["durations"], {**files, DESCRIPTION: describe_bytes(content)})


@contextmanager
def new_shard(folder: Path, name: str, format: ShardFormat, survey: str) -> Generator[NewShard]:
    """Open the files of a shard under temporary names; what has not got its final name at the end is deleted.

    Args:
        folder: of the shard.
        name: that it will have if none of its records fails.
        format: writes the files.
        survey: what the format must know of the other shards.

    Raises:
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = temporary_path(folder / name).name
    paths = [folder / f"{unfinished}{suffix}" for suffix in format.suffixes]
    members = folder / f"{unfinished}{SHARD_MEMBERS}"
    try:
        with ExitStack() as stack:
            raw = [stack.enter_context(DescribedFile(path)) for path in paths]
            files = [stack.enter_context(io.BufferedWriter(file)) for file in raw]
            if format.holds_files:
                shutil.rmtree(members, ignore_errors=True)
                members.mkdir()
            yield NewShard(format, format.open_at(ShardPlace(files, members, survey)), members, raw, files)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
        shutil.rmtree(members, ignore_errors=True)


@attrs.frozen
class NewShard:
    """A shard that is being written.

    Args:
        format: its format.
        content: receives the records.
        members: its folder of files of single records, where its format has one.
        raw: its files, and
        files: the same behind a buffer.
    """

    format: ShardFormat
    content: OpenShard
    members: Path
    raw: Sequence[DescribedFile]
    files: Sequence[BinaryIO]

    def finish(self, name: str, tally: ShardTally) -> PackedShard:
        """Make the files durable, and give them their names, the description last: without it, there is no shard.

        The content is closed before.

        Args:
            name: of the files, without a suffix.
            tally: what is in the shard.

        Raises:
            OSError: a file cannot be written.
        """
        failpoint("shard.before_sync")
        for file in self.files:
            file.flush()
            os.fsync(file.fileno())
        files: dict[str, Mapping[str, Any]] = {}
        folder = self.members.parent
        for suffix, file in zip(self.format.suffixes, self.raw, strict=True):
            files[suffix] = file.describe()
            file.path.replace(folder / f"{name}{suffix}")
            failpoint("shard.after_rename")
        described: dict[str, Any] = {"files": files, "records": len(tally.durations), "durations": tally.durations}
        described |= tally.totals()
        if self.format.holds_files:
            sync_folder(self.members)
            members = folder / f"{name}{SHARD_MEMBERS}"
            shutil.rmtree(members, ignore_errors=True)  # of an attempt that was killed here
            self.members.rename(members)
            described["members"] = describe_folder(members)
        content = json.dumps(described).encode() + b"\n"
        write_atomically(folder / f"{name}{DESCRIPTION}", content)  # makes the names before it durable, too
        failpoint("shard.after_description")
        return PackedShard(name, tally.durations, {**files, DESCRIPTION: describe_bytes(content)})
