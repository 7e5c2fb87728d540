"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, BinaryIO, cast

from curate.errors import InfrastructureError

TEMPORARY = ".tmp-"
"""Part of the name of a file that is being written; such a file without its writer is the leftover of a crash."""


def temporary_path(path: Path) -> Path:
    """Return a name next to `path` to write it under; no other process has it.

    The number of the process would not do: nodes that share a disk give the same numbers, to containers above all.
    """
    return path.with_name(f"{path.name}{TEMPORARY}{secrets.token_hex(4)}")


@contextlib.contextmanager
def replacing(path: Path, *, before_rename: Callable[[], object] | None = None) -> Generator[BinaryIO]:
    """Open a temporary file next to `path`; on a clean exit sync it to disk and rename it to `path`.

    Args:
        path: the file.
        before_rename: called when the temporary file is complete and synced.

    Raises:
        InfrastructureError: the file cannot be written (disk full, read-only, no permission), naming it.
    """
    temporary = temporary_path(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if before_rename is not None:
            before_rename()
        temporary.replace(path)
        sync_directory(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InfrastructureError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def write_atomically(path: Path, content: bytes, *, before_rename: Callable[[], object] | None = None) -> None:
    """Write a whole file with `replacing`."""
    with replacing(path, before_rename=before_rename) as file:
        file.write(content)


def write_json(path: Path, value: Any, *, checksum: bool = False) -> None:
    """Write a value as a whole file of JSON, indented for people.

    Args:
        path: the file.
        value: what JSON can represent.
        checksum: whether to add the `json_checksum` of the value, an object, as its `checksum`.
    """
    if checksum:
        value = {**value, "checksum": json_checksum(value)}
    try:
        content = json.dumps(value, indent=1, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # lone surrogates, as in file names that are not UTF-8
        content = json.dumps(value, indent=1).encode()
    write_atomically(path, content + b"\n")


class DescribedFile(io.FileIO):
    """A new file whose size and sha256 are known once it is written, so that it is not read again for them.

    What is written reaches the operating system at once, so wrap it in an `io.BufferedWriter` for small pieces.

    Args:
        path: the file; an old one is replaced.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "wb")
        self.path = path
        self._digest = hashlib.sha256()
        self._written = 0
        self._in_order = True

    def write(self, content: Any, /) -> int:
        written = super().write(content)
        self._digest.update(memoryview(content).cast("B")[:written])
        self._written += written
        return written

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._in_order = False
        return super().seek(offset, whence)

    def truncate(self, size: int | None = None, /) -> int:
        self._in_order = False
        return super().truncate(size)

    def describe(self) -> dict[str, Any]:
        """Return the size and sha256 as `describe_file` does; a file that was not written in order is read for them."""
        if not self._in_order:
            return describe_file(self.path)
        return {"size": self._written, "sha256": self._digest.hexdigest()}


def describe_bytes(content: bytes) -> dict[str, Any]:
    """Return the size and sha256 of a file with this content, as `describe_file` does."""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def describe_file(path: Path) -> dict[str, Any]:
    """Return the size of a file, and the sha256 of its content."""
    with path.open("rb", buffering=0) as file:
        digest = hashlib.file_digest(file, "sha256")
        return {"size": file.tell(), "sha256": digest.hexdigest()}


def describe_folder(folder: Path) -> dict[str, Any]:
    """Return how many files a folder has, their size together, and one sha256 of all names and contents."""
    digest = hashlib.sha256()
    count, size = 0, 0
    for path in sorted(folder.iterdir()):
        described = describe_file(path)
        count, size = count + 1, size + described["size"]
        digest.update(f"{described['sha256']}  {path.name}\n".encode(errors="surrogateescape"))
    return {"count": count, "size": size, "sha256": digest.hexdigest()}


def json_checksum(value: Any) -> str:
    """Return the sha256 of a value as JSON, in hexadecimal digits; it does not depend on the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file of JSON; an empty one if the file is missing, or torn by a crash of the machine."""
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


def sync_folder(folder: Path) -> None:
    """Make a folder of files survive a crash of the machine, with the contents of the files."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sync_directory(folder)
