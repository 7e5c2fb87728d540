"""Checked opening of audio files: `open_file` checks a path and yields the one descriptor that is read from.

A manifest is untrusted input: its paths may hold anything, point anywhere and name things that block for ever when
opened. So a path is checked and opened once, and every later byte comes from that descriptor, even if the path is
replaced meanwhile. Nothing is decoded here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias, cast

import attrs

from curate.errors import InfrastructureError, RecordError
from curate.storage import (
    NotRegularError,
    StoredFile,
    forget_container,
    lookup,
    open_local,
    open_member,
    open_remote_container,
    scheme_of,
    split_member,
)

Roots: TypeAlias = "Sequence[str | os.PathLike[str]] | None"
"""The folders that audio may lie under; None allows any path."""

RUN_SCHEME = "run:"
"""Begins the path of a file that a stage of the same run has written: `run:audio/…`, below the run directory."""

_ANYWHERE = "*"
"""A root that allows any place, where another root has to be named in addition."""

_SHOWN_CHARACTERS = 300

_HELD_BYTES = 1 << 20
"""A local file of at most this size is read once, when it is opened: its header, its end and, where it is copied, all
of it are looked at one after the other.
"""

# System errors that concern this one path, and so are the record's.
_MISSING = {errno.ENOENT, errno.ENOTDIR}
_UNREADABLE = {errno.EACCES, errno.EPERM, errno.ELOOP}
_BAD_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}


def printable(path: object) -> str:
    """Return a path for a message: quoted, printable even if its bytes are not UTF-8, and of bounded length."""
    text = repr(path)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def classify_os_error(error: OSError, path: object) -> RecordError | InfrastructureError:
    """Turn an error of the operating system into a fault of this record or of the infrastructure.

    An error that does not concern one path (EIO, EMFILE, ENOSPC, ESTALE, …) would hit the next record as well, so it
    stops the run instead of filling the quarantine.
    """
    if error.errno in _MISSING or isinstance(error, FileNotFoundError):
        return RecordError("missing_file", f"{printable(path)} does not exist")
    if error.errno in _UNREADABLE:
        return RecordError("unreadable_file", f"cannot read {printable(path)}: {error.strerror}")
    if error.errno in _BAD_NAME:
        return RecordError("bad_path", f"{printable(path)} is not a usable path: {error.strerror}")
    return InfrastructureError(f"cannot read {printable(path)}: {error}")


@attrs.frozen
class AudioFile:
    """A regular, non-empty file that is open for reading until its `open_file` block ends.

    Attributes:
        stored: the open file; `open_file` closes it.
        name: the path as messages print it.
        start: where it begins in the stored file; above 0 for a part of it.
        stop: where it ends in the stored file; None for its end.
        held: all bytes of the stored file, if it is small; None: they are read when they are asked for.
    """

    stored: StoredFile
    name: str
    start: int = 0
    stop: int | None = None
    held: bytes | None = attrs.field(default=None, repr=False)

    @property
    def size(self) -> int:
        """Bytes, as of opening."""
        return (self.stored.size if self.stop is None else self.stop) - self.start

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the stored file."""
        return self.start == 0 and self.stop is None

    @property
    def identity(self) -> tuple[object, ...]:
        """What identifies the file in its present state, for a cache."""
        status = None if self.stored.descriptor is None else os.fstat(self.stored.descriptor)
        inode = () if status is None else (status.st_dev, status.st_ino, status.st_mtime_ns)
        identity = self.stored.identity
        return (*inode, "" if inode else identity.uri, identity.size, identity.mtime_ns, identity.tag)

    def part(self, start: int, stop: int) -> AudioFile:
        """Return the bytes `[start, stop)` as a file of their own."""
        stop = min(stop, self.size)
        return attrs.evolve(self, start=self.start + start, stop=self.start + max(start, stop))

    def pread(self, length: int, offset: int) -> bytes:
        """Return `length` bytes from `offset`, fewer only at the end; the file's position stays as it is."""
        if self.stop is not None:
            length = max(0, min(length, self.size - offset))
        offset += self.start
        if self.held is not None:
            return self.held[offset : offset + length]
        return _read(self.stored, length, offset, self.name)

    def require_readable(self) -> None:
        """Read every byte once; raise `InfrastructureError` when the disk fails.

        To libsndfile a failing disk looks like a short or damaged file. So before a decoder's error is blamed on the
        file, the file is read without the decoder.
        """
        step = 1 << 20
        for offset in range(self.start, self.start + self.size, step):
            _read(self.stored, step, offset, self.name)


def _read(stored: StoredFile, length: int, offset: int, name: str) -> bytes:
    try:
        return stored.pread(length, offset)
    except OSError as error:
        raise InfrastructureError(f"cannot read {name}: {error}") from error


@contextmanager
def open_file(path: str | os.PathLike[str], roots: Roots = None) -> Generator[AudioFile]:
    """Check a path, open it through `curate.storage`, and close it again at the end of the block.

    A relative path is relative to the working directory. With `roots`, links are resolved first, so a link out of
    the roots is outside. A path `run:audio/…` names new audio of the run whose directory is one of the roots, as
    `roots_in_run` adds it. A URL is opened by the store that is registered for its scheme, below a root that is a URL.

    Raises:
        RecordError: `bad_path`, `outside_root`, `missing_file`, `unreadable_file`, `not_a_regular_file`, `empty_file`.
        InfrastructureError: the system refuses for a reason other than this file (EIO, EMFILE, …), or the root
            that the missing file should lie under has vanished or is empty, as with an unmounted disk.
    """
    text = _checked_text(path)
    name = printable(text)
    if text.startswith(RUN_SCHEME):
        text, roots = _in_run(text, roots)
    roots = _without_run(roots)
    member = split_member(text)
    if member is not None and scheme_of(member[0]) is not None:
        stored = _open_remote_member(*member, roots)
    elif member is not None and Path(member[0]).is_file():
        stored = _open_member(*member, roots)
    else:
        stored = _open_path(text, roots) if scheme_of(text) is None else _open_url(text, roots)
    with stored:  # a member, if it is one, closes its container
        if stored.size == 0:
            raise RecordError("empty_file", f"{name} has no bytes")
        is_held = stored.descriptor is not None and stored.size <= _HELD_BYTES
        yield AudioFile(stored, name, held=_read(stored, stored.size, 0, name) if is_held else None)


def roots_in_run(roots: Roots, run_directory: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return roots below which the run's new audio (`run:audio/…`) can be opened in addition to what `roots` allows."""
    folders = (_ANYWHERE,) if roots is None else tuple(os.fspath(root) for root in roots)
    return (*folders, f"{RUN_SCHEME}{Path(run_directory).absolute()}")


def _in_run(path: str, roots: Roots) -> tuple[str, Roots]:
    """Return the place of a run's new audio, and the folder that it must lie in."""
    for given in roots or ():
        root = os.fspath(given)
        if root.startswith(RUN_SCHEME):
            directory = Path(root.removeprefix(RUN_SCHEME))
            return str(directory / path.removeprefix(RUN_SCHEME)), (directory / "audio",)
    raise RecordError("outside_root", f"{printable(path)} is new audio of a run, and is read inside this run only")


def _without_run(roots: Roots) -> Roots:
    if roots is None:
        return None
    folders = [os.fspath(root) for root in roots]
    folders = [root for root in folders if not root.startswith(RUN_SCHEME)]
    return None if _ANYWHERE in folders else folders


def _open_path(path: str, roots: Roots) -> StoredFile:
    resolved, root = _resolve(path, roots)
    try:
        # The path is already resolved when roots are given: a link that appears only now is an attempt to escape them.
        return open_local(resolved, follow_link=root is None)
    except NotRegularError as error:
        raise RecordError("not_a_regular_file", f"{printable(path)} is {error.kind}, not a file") from error
    except OSError as error:
        if error.errno in _MISSING and root is not None:
            _require_root(root)
        raise classify_os_error(error, path) from error


def _open_member(container: str, member: str, roots: Roots) -> StoredFile:
    """Open a recording inside a container; what is broken or missing in it is not only this record's."""
    try:
        return open_member(_open_path(container, roots), member)
    except FileNotFoundError as error:
        raise RecordError("missing_file", str(error.strerror or error)) from error
    except ValueError as error:
        raise RecordError("not_audio", str(error)) from error
    except OSError as error:
        raise InfrastructureError(f"cannot read {printable(container)}: {error}") from error


def _open_remote_member(container: str, member: str, roots: Roots) -> StoredFile:
    """Open a recording in a container behind a URL, of which the ranges that it needs are read."""
    _require_below(container, roots)
    try:
        return open_member(open_remote_container(container, lambda url: _open_url(url, roots)), member)
    except FileNotFoundError as error:
        raise RecordError("missing_file", str(error.strerror or error)) from error
    except ValueError as error:
        raise RecordError("not_audio", str(error)) from error
    except OSError as error:
        forget_container(container)
        raise InfrastructureError(f"cannot read {printable(container)}: {error}") from error


def _open_url(url: str, roots: Roots) -> StoredFile:
    _require_below(url, roots)
    try:
        store = lookup(scheme_of(url) or "")
        if store is None:
            raise RecordError("bad_path", f"{printable(url)} is a URL, and its storage scheme is not registered")
        return store.open(url)
    except OSError as error:
        raise classify_os_error(error, url) from error


def _require_below(url: str, roots: Roots) -> None:
    """Raise `RecordError` when a URL lies outside the roots; no store is asked for one that does."""
    if roots is not None and not any(_is_below(url, os.fspath(root)) for root in roots):
        raise RecordError("outside_root", f"{printable(url)} is outside the roots ({_listed(roots)})")


def _is_below(url: str, root: str) -> bool:
    """Return whether a URL lies below a root that is a URL; `..`, plain or escaped, may leave it and is refused."""
    if ".." in url.replace("%2e", ".").replace("%2E", ".").split("/"):
        return False
    return url.startswith(f"{root.rstrip('/')}/") and scheme_of(root) is not None


def _checked_text(given: object) -> str:
    path: object = os.fspath(cast("os.PathLike[str]", given)) if isinstance(given, os.PathLike) else given
    if not isinstance(path, str):
        raise RecordError("bad_path", f"an audio path must be a string, not {type(path).__name__}: {printable(path)}")
    if not path:
        raise RecordError("bad_path", "the audio path is an empty string")
    if "\0" in path:
        raise RecordError("bad_path", f"the audio path holds a NUL byte: {printable(path)}")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise RecordError("bad_path", f"{printable(path)} cannot be a file name: {error.reason}") from error
    return path


def _resolve(path: str, roots: Roots) -> tuple[str, str | None]:
    """Return the path to open and the root it lies under; without `roots`, the path as given and None."""
    if roots is None:
        return path, None
    resolved = os.path.realpath(path)
    for root in roots:
        if scheme_of(os.fspath(root)) is not None:
            continue
        real_root = os.path.realpath(root)
        if resolved == real_root or resolved.startswith(real_root.rstrip(os.sep) + os.sep):
            return resolved, real_root
    raise RecordError(
        "outside_root", f"{printable(path)} resolves to {printable(resolved)}, outside the roots ({_listed(roots)})"
    )


def _listed(roots: Sequence[str | os.PathLike[str]]) -> str:
    return ", ".join(printable(os.fspath(root)) for root in roots) or "none are declared"


def _require_root(root: str) -> None:
    """Raise when a root is missing or empty: an unmounted disk must not put thousands of records into quarantine."""
    try:
        if any(Path(root).iterdir()):
            return
    except FileNotFoundError as error:
        raise InfrastructureError(f"the audio root {printable(root)} has vanished: is its disk mounted?") from error
    except OSError as error:
        raise InfrastructureError(f"the audio root {printable(root)} cannot be read: {error}") from error
    raise InfrastructureError(f"the audio root {printable(root)} is empty: is its disk mounted?")
