"""The provenance of a published data set, and the check of its files against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import attrs

from curate.errors import UsageError
from curate.storage import describe_file, read_json

PROVENANCE = "provenance.json"
"""The file of a data set that names its origin, and the checksum of each of its files."""

PROVENANCE_FORMAT = 1

Damage: TypeAlias = Literal["missing", "size", "content", "unknown"]


@attrs.frozen
class DamagedFile:
    """A file of a data set that is not as it was published.

    Args:
        name: relative to the data set.
        damage: it is missing, has another size, other content of the same size, or was never published there.
        message: the damage with its figures.
    """

    name: str
    damage: Damage
    message: str


def read_provenance(folder: Path) -> Mapping[str, Any]:
    """Return the content of a data set's `provenance.json`.

    Raises:
        UsageError: there is none that this version reads; the message names the remedy.
    """
    path = folder / PROVENANCE
    if not path.exists():
        raise UsageError(
            f"{folder} is no published data set: it has no {PROVENANCE}; name the folder of a writer's path"
        )
    described = read_json(path)
    if not isinstance(described.get("files"), dict):
        raise UsageError(
            f"{path} is damaged: publish the set again with the command of its run, {described.get('run')}"
        )
    if described.get("provenance") != PROVENANCE_FORMAT:
        raise UsageError(
            f"{path} has format {described.get('provenance')}, and this version of curate reads {PROVENANCE_FORMAT}"
        )
    return described


def verify_set(folder: Path, on_file: Callable[[str], None] | None = None) -> Iterator[DamagedFile]:
    """Read every file of a data set, and yield those that are not as they were published.

    Args:
        folder: the data set.
        on_file: called with the name of each file before it is read.

    Raises:
        UsageError: the folder is no published data set.
    """
    files = cast("Mapping[str, Mapping[str, Any]]", read_provenance(folder)["files"])
    for name, published in files.items():
        if on_file is not None:
            on_file(name)
        path = folder / name
        if not path.is_file():
            yield DamagedFile(name, "missing", f"is missing, of {published['size']:,} bytes")
        elif path.stat().st_size != published["size"]:
            yield DamagedFile(
                name, "size", f"has {path.stat().st_size:,} bytes, and was published with {published['size']:,}"
            )
        elif describe_file(path)["sha256"] != published["sha256"]:
            yield DamagedFile(name, "content", "has its size, and other content than was published")
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in files and name != PROVENANCE:
            yield DamagedFile(name, "unknown", "was not published with this set")
