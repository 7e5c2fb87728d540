"""Which path may be read, and the one descriptor that everything else reads from.

Nothing is decoded here. A manifest is written by strangers: its paths may hold anything, point anywhere and name
things that block for ever when opened. So a path is checked, opened once, and every later byte comes from that
descriptor; what the path names in the meantime no longer matters.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias, cast

import attrs

from curate.errors import InfrastructureError, RecordError

Roots: TypeAlias = "Sequence[str | os.PathLike[str]] | None"
"""The folders that audio may lie under; None allows any place."""

_URL_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SHOWN_CHARACTERS = 300

# O_NONBLOCK: a FIFO that takes the place of a file between stat and open must not hang the reader.
# O_NOCTTY: nor may a terminal become ours.
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

# Errors of the system that say something about this one path, and so are the record's.
_MISSING = {errno.ENOENT, errno.ENOTDIR}
_UNREADABLE = {errno.EACCES, errno.EPERM, errno.ELOOP}
_BAD_NAME = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}


def show(path: object) -> str:
    """The path as messages print it: quoted, printable also when its bytes are not UTF-8, and of bounded length."""
    text = repr(path)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def blame(error: OSError, path: object) -> RecordError | InfrastructureError:
    """Say whose fault an error of the operating system is: this path's, or the machine's.

    What cannot be pinned on one path (EIO, EMFILE, ENOSPC, ESTALE, …) would hit the next record as well, so it stops
    the run instead of filling the quarantine.
    """
    if error.errno in _MISSING:
        return RecordError("missing_file", f"no such file: {show(path)}")
    if error.errno in _UNREADABLE:
        return RecordError("unreadable_file", f"{show(path)} may not be read: {error.strerror}")
    if error.errno in _BAD_NAME:
        return RecordError("bad_path", f"{show(path)} is not a usable path: {error.strerror}")
    return InfrastructureError(f"cannot read {show(path)}: {error}")


@attrs.frozen
class AudioFile:
    """A regular, non-empty file that is open for reading. It lives as long as the `open_file` block that made it.

    Attributes:
        fd: the descriptor; `open_file` closes it.
        size: bytes, as of opening.
        name: the path as messages print it.
        identity: what tells it from any other file, and from itself in another state.
        start: where it begins in the descriptor; above 0 for a part of a file.
        is_whole: whether it is all that the descriptor holds.
    """

    fd: int
    size: int
    name: str
    identity: tuple[int, int, int, int] = (0, 0, 0, 0)
    start: int = 0
    is_whole: bool = True

    def part(self, start: int, stop: int) -> AudioFile:
        """Return the bytes `[start, stop)` as a file of their own."""
        stop = min(stop, self.size)
        return attrs.evolve(self, start=self.start + start, size=max(0, stop - start), is_whole=False)

    def pread(self, length: int, offset: int) -> bytes:
        """At most `length` bytes from `offset`, leaving the descriptor's position alone. Fewer only at the end."""
        try:
            parts: list[bytes] = []
            length = min(length, self.size - offset) if not self.is_whole else length
            offset += self.start
            while length > 0 and (part := os.pread(self.fd, length, offset)):
                parts.append(part)
                length -= len(part)
                offset += len(part)
            return b"".join(parts)
        except OSError as error:
            raise InfrastructureError(f"cannot read {self.name}: {error}") from error

    def require_readable(self) -> None:
        """Read every byte once; raise `InfrastructureError` when the disk does not give them.

        libsndfile turns a failing disk into a short or damaged file. So before the decoder's complaint is taken for
        the file's fault, the file is read without it.
        """
        step = 1 << 20
        for offset in range(0, self.size, step):
            self.pread(step, offset)


@contextmanager
def open_file(path: str | os.PathLike[str], roots: Roots = None) -> Generator[AudioFile]:
    """Check a path, open it, and close it again at the end of the block.

    A relative path is relative to the working directory. With `roots`, links are resolved first, so a link out of
    the roots is outside.

    Raises:
        RecordError: `bad_path`, `outside_root`, `missing_file`, `unreadable_file`, `not_a_regular_file`, `empty_file`.
        InfrastructureError: the system refuses for a reason that is not this file's (EIO, EMFILE, …), or the root
            that the missing file should lie under has vanished or is empty, as an unmounted disk is.
    """
    text = _checked_text(path)
    name = show(text)
    resolved, root = _resolve(text, roots)
    fd = -1
    try:
        # Opening a device can have effects (tapes rewind), so the look comes before the touch.
        _require_regular(Path(resolved).stat().st_mode, name)
        # The path is resolved already when roots are given: a link that appears only now is an attempt to get out.
        fd = os.open(resolved, _OPEN_FLAGS | (0 if root is None else os.O_NOFOLLOW))
    except OSError as error:
        if error.errno in _MISSING and root is not None:
            _require_root(root)
        raise blame(error, text) from error
    try:
        status = os.fstat(fd)
        _require_regular(status.st_mode, name)
        if status.st_size == 0:
            raise RecordError("empty_file", f"{name} has no bytes")
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        yield AudioFile(fd=fd, size=status.st_size, name=name, identity=identity)
    finally:
        os.close(fd)


def _checked_text(given: object) -> str:
    path: object = os.fspath(cast("os.PathLike[str]", given)) if isinstance(given, os.PathLike) else given
    if not isinstance(path, str):
        raise RecordError("bad_path", f"an audio path must be a string, not {type(path).__name__}: {show(path)}")
    if not path:
        raise RecordError("bad_path", "the audio path is an empty string")
    if "\0" in path:
        raise RecordError("bad_path", f"the audio path holds a NUL byte: {show(path)}")
    if _URL_SCHEME.match(path):
        raise RecordError("bad_path", f"{show(path)} is a URL; only a reader that claims its scheme can fetch it")
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise RecordError("bad_path", f"{show(path)} cannot be a file name: {error.reason}") from error
    return path


def _resolve(path: str, roots: Roots) -> tuple[str, str | None]:
    """The path to open and the root it lies under; both as given and None when any place is allowed."""
    if roots is None:
        return path, None
    resolved = os.path.realpath(path)
    for root in roots:
        real_root = os.path.realpath(root)
        if resolved == real_root or resolved.startswith(real_root.rstrip(os.sep) + os.sep):
            return resolved, real_root
    where = ", ".join(show(os.fspath(root)) for root in roots) or "none are declared"
    raise RecordError("outside_root", f"{show(path)} resolves to {show(resolved)}, outside the roots ({where})")


def _require_regular(mode: int, name: str) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    raise RecordError("not_a_regular_file", f"{name} is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file")


def _require_root(root: str) -> None:
    """A missing file below a missing or empty root is an unmounted disk, not the fault of thousands of records."""
    try:
        if any(Path(root).iterdir()):
            return
    except FileNotFoundError as error:
        raise InfrastructureError(f"the audio root {show(root)} has vanished: is its disk mounted?") from error
    except OSError as error:
        raise InfrastructureError(f"the audio root {show(root)} cannot be read: {error}") from error
    raise InfrastructureError(f"the audio root {show(root)} is empty: is its disk mounted?")
