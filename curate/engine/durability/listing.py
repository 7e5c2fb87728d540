"""The files that a source has found in folders and by patterns, listed once, when a run begins.

Every attempt reads the files of this list, so one that has appeared since moves no record to another position. The
names are lines of JSON, so that a million of them are never held in memory.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import attrs
from loguru import logger

from curate.engine.durability.copies import COPIES, copy_of
from curate.errors import RunDirectoryError
from curate.stage import Source
from curate.storage import replacing

LISTING = "listing.jsonl"
"""The file of the names in a run directory, and of its copy."""

_NAMES_PER_LOOK = 65_536


@attrs.frozen
class Listing:
    """The names of what a source reads, in order.

    Args:
        path: the file that has them.
        count: the number of names, and
        sha256: the checksum of their lines, with those in `more`.
        more: names that have been found since, and are not in the file yet.
    """

    path: Path
    count: int
    sha256: str
    more: Sequence[str] = ()

    def __iter__(self) -> Iterator[str]:
        with self.path.open("rb") as file:
            yield from map(json.loads, file)
        yield from self.more

    @property
    def described(self) -> dict[str, Any]:
        """Its description in `run.json`."""
        return {"count": self.count, "sha256": self.sha256}


def listing_of(directory: Path, described: Mapping[str, Any] | None) -> Listing | None:
    """Return the listing that a run has kept; None: it has none.

    Args:
        directory: the run directory.
        described: the content of its `run.json`.

    Raises:
        RunDirectoryError: it is damaged, and so is its copy.
    """
    wanted: Any = None if described is None else described.get("listing")
    if wanted is None:
        return None
    for path in (directory / LISTING, copy_of(directory, LISTING)):
        if path.is_file() and _checksum(path) == wanted["sha256"]:
            return Listing(path, wanted["count"], wanted["sha256"])
    raise RunDirectoryError(
        f"{directory / LISTING} is damaged or missing, and so is its copy: what the run reads, and in which order, is "
        "not known; use a new --run-dir"
    )


def extended(listing: Listing, source: Source, *, grown: bool) -> Listing:
    """Return a listing with the names behind it that have appeared since, if the input may grow.

    Raises:
        RunDirectoryError: it may, but the order of the source does not allow it.
    """
    new = _new_names(listing, source.listing)
    if not new:
        return listing
    if not grown:
        logger.warning(
            "{:,} files have appeared since the run began, {} among them; the run reads the others; curate run with "
            "--grown reads these behind them",
            len(new),
            new[0],
        )
        return listing
    if not source.listing_may_grow:
        raise RunDirectoryError(
            f"--grown: {new[0]} is new, and stage {source.name!r} draws from all its inputs, so more of them change "
            "its order; use a new --run-dir"
        )
    digest = hashlib.sha256()
    for name in listing:
        digest.update(_line(name))
    for name in new:
        digest.update(_line(name))
    return attrs.evolve(listing, count=listing.count + len(new), sha256=digest.hexdigest(), more=new)


def keep_listing(directory: Path, names: Iterable[str]) -> Listing:
    """Write the names to the run directory, and return them as they are kept there."""
    digest, count = hashlib.sha256(), 0
    with replacing(directory / LISTING) as file:
        for name in names:
            line = _line(name)
            digest.update(line)
            file.write(line)
            count += 1
    return Listing(directory / LISTING, count, digest.hexdigest())


def copy_listing(directory: Path) -> None:
    """Write the second copy of a listing; before `run.json` names the listing, it still is the one before."""
    if (directory / LISTING).is_file():
        (directory / COPIES).mkdir(exist_ok=True)
        shutil.copyfile(directory / LISTING, copy_of(directory, LISTING))


def _line(name: str) -> bytes:
    return json.dumps(name).encode() + b"\n"


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _new_names(listing: Listing, now: Callable[[], Iterator[str] | None]) -> list[str]:
    """Return the names that are there now, and were not listed."""
    if all(one == other for one, other in zip_longest(now() or (), listing)):
        return []
    import numpy as np

    known = np.sort(np.fromiter(map(_digest, listing), np.uint64))
    new: list[str] = []
    found_now = iter(now() or ())
    while names := list(islice(found_now, _NAMES_PER_LOOK)):
        digests = np.fromiter(map(_digest, names), np.uint64, len(names))
        places = np.minimum(np.searchsorted(known, digests), max(0, len(known) - 1))
        is_known = known[places] == digests if len(known) else np.zeros(len(names), bool)
        new += [name for name, found in zip(names, is_known, strict=True) if not found]
    return new


def _digest(name: str) -> int:
    """Return 64 bits of a name: a million of them are 8 MB."""
    return int.from_bytes(hashlib.blake2b(_line(name), digest_size=8).digest())
