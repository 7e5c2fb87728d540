"""Recordings inside containers, spelt `<container>::<member>`: files in a tar, and values in Parquet or Arrow.

A member of a tar is read by its range; the headers of a tar are read once in a process, and kept while they are in use.
A recording in Parquet or Arrow is `<file>::<column>/<row>`, the row from 1, as in ids. Whether a path names a member is
decided by its spelling and by whether the container is there, never by a suffix.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

import attrs

from curate.storage.file import Identity, StoredFile
from curate.storage.remote_file import RemoteFile
from curate.storage.tar import TarMember, is_tar, tar_members

SEPARATOR = "::"

_KEPT_INDEXES = 64
_KEPT_CONTAINERS = 32
_HEAD_BYTES = 512


class MissingMemberError(FileNotFoundError):
    """A container that has no member of a name."""


class MemberFile(StoredFile):
    """A part of another file; closing it closes the other."""

    def __init__(self, whole: StoredFile, name: str, offset: int, size: int) -> None:
        own = whole.identity
        super().__init__(Identity(f"{own.uri}{SEPARATOR}{name}", size, own.mtime_ns, own.tag))
        self._whole = whole
        self._offset = offset

    @property
    def is_remote(self) -> bool:
        return self._whole.is_remote

    def pread(self, length: int, offset: int) -> bytes:
        return self._whole.pread(max(0, min(length, self.size - offset)), self._offset + offset)

    def close(self) -> None:
        self._whole.close()
        super().close()


class BytesFile(StoredFile):
    """A file that is held in memory."""

    def __init__(self, identity: Identity, content: bytes) -> None:
        super().__init__(identity)
        self._content = content

    @property
    def is_remote(self) -> bool:
        return False

    def pread(self, length: int, offset: int) -> bytes:
        return self._content[offset : offset + max(0, length)]


def split_member(path: str) -> tuple[str, str] | None:
    """Return the container and the member that a path may name; None: it has no `::`."""
    container, separator, member = path.partition(SEPARATOR)
    return (container, member) if separator and container and member else None


def open_member(container: StoredFile, member: str) -> StoredFile:
    """Return a member of an open container as a file, which closes the container; on an error it is closed here.

    A container behind a network has nothing to close, and stays usable.

    Args:
        container: a tar, a Parquet or an Arrow file.
        member: the name of a file; without its suffix where only one recording has this stem; or `<column>/<row>`.

    Raises:
        MissingMemberError: there is no such member.
        OSError: the container is broken or cannot be read.
        ValueError: it is none of these.
    """
    try:
        head = container.pread(_HEAD_BYTES, 0)
        if is_tar(head):
            found = _index_of(container).find(member)
            if found is None:
                raise MissingMemberError(f"{container.identity.uri} has no member {member!r:.200}")
            if isinstance(container, RemoteFile):
                own = container.identity
                named = Identity(f"{own.uri}{SEPARATOR}{found.name}", found.size, own.mtime_ns, own.tag)
                return container.part(named, found.offset, on_error=lambda: forget_container(own.uri))
            return MemberFile(container, found.name, found.offset, found.size)
        from curate.storage.columnar import read_value

        content = read_value(container, head, member)
    except BaseException:
        container.close()
        raise
    own = container.identity
    container.close()
    return BytesFile(Identity(f"{own.uri}{SEPARATOR}{member}", len(content), own.mtime_ns, own.tag), content)


def open_remote_container(uri: str, open_url: Callable[[str], StoredFile]) -> StoredFile:
    """Return a container behind a network; one that was opened in this process is used again, as it was then.

    Args:
        uri: its URL.
        open_url: opens it.
    """
    key = (os.getpid(), uri)
    with _lock:
        if key in _containers:
            _containers.move_to_end(key)
            return _containers[key]
    opened = open_url(uri)
    if isinstance(opened, RemoteFile):
        with _lock:
            _containers[key] = opened
            while len(_containers) > _KEPT_CONTAINERS:
                _containers.popitem(last=False)
    return opened


def forget_container(uri: str) -> None:
    """Open a container behind a network anew when it is next used, as after it has changed."""
    with _lock:
        _containers.pop((os.getpid(), uri), None)


def forget_containers() -> None:
    """Open all containers behind a network anew when they are next used, as when a run begins."""
    with _lock:
        _containers.clear()


@attrs.frozen
class _Index:
    """The members of a tar by name, and by name without suffix."""

    by_name: Mapping[str, TarMember]
    by_stem: Mapping[str, TarMember | None]

    def find(self, name: str) -> TarMember | None:
        return self.by_name.get(name) or self.by_stem.get(name)


_indexes: OrderedDict[object, _Index] = OrderedDict()
_containers: OrderedDict[object, RemoteFile] = OrderedDict()
_lock = threading.Lock()


def _index_of(file: StoredFile) -> _Index:
    """Return the index of a tar; it is made when a member of the tar is first opened in this process."""
    status = None if file.descriptor is None else os.fstat(file.descriptor)
    own = file.identity
    key = (own.uri, own.size, own.mtime_ns, own.tag, None if status is None else (status.st_dev, status.st_ino))
    with _lock:
        if key in _indexes:
            _indexes.move_to_end(key)
            return _indexes[key]
    made = _made_index(file)
    with _lock:
        _indexes[key] = made
        while len(_indexes) > _KEPT_INDEXES:
            _indexes.popitem(last=False)
    return made


def _made_index(file: StoredFile) -> _Index:
    by_name: dict[str, TarMember] = {}
    by_stem: dict[str, TarMember | None] = {}
    for member in tar_members(file):
        by_name[member.name] = member  # the last of a name counts, as where a tar is unpacked
        if PurePosixPath(member.name).suffix != ".json":
            stem = member.name.rpartition(".")[0]
            by_stem[stem] = None if stem in by_stem else member
    return _Index(by_name, by_stem)
