"""The provenance of a published data set, and the check of its files against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import attrs

from curate.errors import UsageError
from curate.storage import describe_file, read_json

PROVENANCE = "provenance.json"
"""The file of a data set that names its origin, and the checksum of each of its files."""

PROVENANCE_FORMAT = 1

CHECKSUMS = "checksums.sha256"
"""The list of checksums of a set with a file for each record, as `sha256sum --check` reads it."""

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
            f"{folder} is not a published data set: it has no {PROVENANCE}; name the folder of a writer's path"
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
        UsageError: the folder is not a published data set.
    """
    described = read_provenance(folder)
    files = cast("Mapping[str, Mapping[str, Any]]", described["files"])
    lists = cast("Sequence[str]", described.get("checksums", ()))
    known = {PROVENANCE}
    listed = ((name, {"sha256": sha256}) for each in lists for name, sha256 in _listed(folder / each))
    for name, published in chain(files.items(), listed):
        known.add(name)
        if on_file is not None:
            on_file(name)
        damage = _damage(folder / name, name, published)
        if damage is not None:
            yield damage
    for path in _all_files(folder):
        name = str(path).removeprefix(f"{folder}/")
        if name not in known and path.is_file():
            yield DamagedFile(name, "unknown", "was not published with this set")


def _all_files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.rglob("*"))
    except LookupError:  # of a web server, which lists nothing: files that were never published are not found there
        return []


def _damage(path: Path, name: str, published: Mapping[str, Any]) -> DamagedFile | None:
    """Return how a file differs from what was published; None: not at all."""
    size = published.get("size")
    if not path.is_file():
        return DamagedFile(name, "missing", "is missing" if size is None else f"is missing, of {size:,} bytes")
    found = path.stat().st_size
    if size is not None and found != size:
        return DamagedFile(name, "size", f"has {found:,} bytes, and was published with {size:,}")
    if describe_file(path)["sha256"] != published["sha256"]:
        return DamagedFile(name, "content", "has other content than was published")
    return None


def _listed(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the names and checksums of a list; one that is missing has been reported already."""
    if path.is_file():
        with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            for line in lines:
                sha256, _, name = line.rstrip("\n").partition("  ")
                yield name, sha256
