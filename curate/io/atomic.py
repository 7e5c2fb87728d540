"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from curate.errors import InfrastructureError


@contextlib.contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Open a temporary file beside `path`; on a clean exit sync it to disk and rename it to `path`.

    Raises:
        InfrastructureError: the file cannot be written (disk full, read-only, no permission), naming it.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InfrastructureError(f"cannot write {path}: {error.strerror or error}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file with `replacing`."""
    with replacing(path) as file:
        file.write(content)


def sync_directory(directory: Path) -> None:
    """Make renames inside a directory survive a crash of the machine."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
