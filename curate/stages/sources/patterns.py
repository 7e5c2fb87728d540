"""Patterns of file names; `**` is any number of folders and follows links, but enters no folder within itself."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator

_ANY_DEPTH = "**"


def glob_files(pattern: str) -> list[str]:
    """Return the paths that a pattern matches, each once, as `glob.glob` does.

    A link to a folder above it makes `glob.glob` return every file once for each way around, up to the system's limit
    of links.
    """
    before, found, rest = _cut(pattern)
    if not found:
        return glob.glob(pattern)  # noqa: PTH207 (`Path.glob` takes no absolute patterns)
    paths: dict[str, None] = {}
    for base in glob.glob(before) if before else [""]:  # noqa: PTH207
        for folder in _folders(base, ()):
            paths.update(dict.fromkeys(glob_files(os.path.join(glob.escape(folder), rest))))  # noqa: PTH118
    return list(paths)


def _cut(pattern: str) -> tuple[str, bool, str]:
    """Return the part of a pattern before its first `**`, whether it has one, and the part behind it."""
    parts = pattern.split("/")
    if _ANY_DEPTH not in parts:
        return pattern, False, ""
    place = parts.index(_ANY_DEPTH)
    before = "/".join(parts[:place]) or ("/" if pattern.startswith("/") else "")
    return before, True, "/".join(parts[place + 1 :]) or "*"


def _folders(folder: str, above: tuple[str, ...]) -> Iterator[str]:
    """Yield a folder and all below it, but for hidden ones, and links to those that the way to them has passed."""
    real = os.path.realpath(folder or ".")
    if real in above:
        return
    yield folder
    try:
        entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
    except OSError:  # `glob.glob` leaves out what cannot be read
        return
    for entry in entries:
        if not entry.name.startswith(".") and is_folder(entry):
            yield from _folders(os.path.join(folder, entry.name), (*above, real))  # noqa: PTH118


def is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a file, or a link to one; a link that leads back to itself is none."""
    try:
        return entry.is_file()
    except OSError:
        return False


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one; a link that leads back to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False
