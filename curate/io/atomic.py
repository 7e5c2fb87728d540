"""Atomic writing of files: a file is complete or does not exist."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO, cast

from curate.errors import InfrastructureError
from curate.io.failpoints import failpoint

TEMPORARY = ".tmp-"
"""The mark in the name of a file that is being written; a file with it that remains is a leftover of a crash."""


@contextlib.contextmanager
def replacing(path: Path, *, written: str = "") -> Generator[BinaryIO]:
    """Open a temporary file next to `path`; on a clean exit sync it to disk and rename it to `path`.

    Args:
        path: the file.
        written: the failpoint between the sync and the rename, if there is one.

    Raises:
        InfrastructureError: the file cannot be written (disk full, read-only, no permission), naming it.
    """
    temporary = path.with_name(f"{path.name}{TEMPORARY}{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if written:
            failpoint(written)
        temporary.replace(path)
        sync_directory(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InfrastructureError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def write_atomically(path: Path, content: bytes, *, written: str = "") -> None:
    """Write a whole file with `replacing`."""
    with replacing(path, written=written) as file:
        file.write(content)


def write_json(path: Path, value: Any) -> None:
    """Write a value as a whole file of JSON, for people to read as well."""
    try:
        content = json.dumps(value, indent=1, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # lone surrogates, as in file names that are not UTF-8
        content = json.dumps(value, indent=1).encode()
    write_atomically(path, content + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty if it does not exist yet, or was lost in a crash of the machine."""
    try:
        return cast("dict[str, Any]", json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return {}


def sync_directory(directory: Path) -> None:
    """Make renames inside a directory survive a crash of the machine."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
