"""What a format of shards is: how one shard is written, from records in order."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, ClassVar, Protocol

import attrs

from curate.audio.encoding import EncodedAudio
from curate.records import Record

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


class OpenShard(Protocol):
    """One shard that is being written."""

    def add(self, record: Record, audio: EncodedAudio) -> None:
        """Add a record, whose `duration` is that of the audio; whatever is wrong with it is raised before writing.

        Raises:
            RecordError: the record cannot be in this format.
        """
        ...

    def close(self) -> None:
        """Write the end of the shard; the caller closes the files."""
        ...


@attrs.frozen
class ShardPlace:
    """Where a shard is written, and what its format needs to know of the other shards.

    Args:
        files: one open file for each suffix of the format.
        folder: an empty folder for files of single records, where the format has `holds_files`.
        survey: what `ShardFormat.survey` has returned; empty: nothing.
    """

    files: Sequence[BinaryIO]
    folder: Path
    survey: str = ""


class ShardFormat:
    """Writes shards of a format; a dataclass of settings, of which a copy goes to every worker."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """The endings of the files that one shard consists of."""

    holds_files: ClassVar[bool] = False
    """Whether a shard has a folder of files as well, such as one for each record."""

    surveys: ClassVar[bool] = False
    """Whether `survey` looks at all records before the first shard is written."""

    def survey(self, records: Iterable[Record], scratch: Path) -> str:
        """Look at all records in the driver, before any work, and return what every shard must know of the others.

        What is returned travels with each shard and is part of its name, so it must be short.

        Args:
            records: every iteration begins anew; memory must stay bounded.
            scratch: an empty folder for temporary files.

        Raises:
            UsageError: the records cannot be one data set; nothing has been encoded.
        """
        return ""

    def open(self, files: Sequence[BinaryIO]) -> OpenShard:
        """Return a shard that is written to files, one for each suffix.

        The same records must give the same bytes: no time, no random number, no name of this machine.
        """
        raise NotImplementedError(f"{type(self).__name__} must define open(files)")

    def open_at(self, place: ShardPlace) -> OpenShard:
        """Return a shard as `open` does, for a format that also has a folder or a survey."""
        return self.open(place.files)


def member_name(identity: str) -> str:
    """Return the name of a record's files in a shard: its input, line and part, without a dot, and a digest of its id.

    The digest keeps apart what the readable part does not. The name depends on the id alone, so the members of a shard
    keep their names in another assignment.
    """
    path, _, line = identity.rpartition(":")
    name = _UNSAFE.sub("_", f"{path.rpartition('/')[2].partition('.')[0]}-{line}")
    return f"{name[-60:].lstrip('_-')}-{hashlib.sha256(identity.encode(errors='surrogatepass')).hexdigest()[:12]}"
