"""URLs where code expects a path: `RemotePath` opens and describes the object, and names its neighbours."""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import re
import stat as modes
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PosixPath
from typing import Any, BinaryIO

from curate.storage.access import identity, listing, open_file
from curate.storage.file import Identity
from curate.storage.scheme import scheme_of, store_of

_BUFFER_BYTES = 1 << 16
_SPECIAL, _SPECIAL_OF_THE_WEB = re.compile(r"[*?\[]"), re.compile(r"[*\[]")


class RemotePath(PosixPath):
    """The URL of an object, with what `pathlib.Path` has for reading a file. It is absolute, and never on this disk."""

    def __str__(self) -> str:
        scheme, _, rest = super().__str__().partition(":/")
        return f"{scheme}://{rest}"

    def __fspath__(self) -> str:
        return str(self)

    def as_posix(self) -> str:
        return str(self)

    def is_absolute(self) -> bool:
        return True

    def absolute(self) -> RemotePath:
        return self

    def resolve(self, strict: bool = False) -> RemotePath:
        return self

    def identity(self) -> Identity:
        """Return the identity of the object."""
        return identity(str(self))

    def open(
        self, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None, newline: Any = None
    ) -> Any:  # type: ignore[override]
        """Open the object for reading."""
        if set(mode) & set("wax+"):
            raise OSError(errno.EROFS, "a URL is opened for reading only", str(self))
        raw = open_file(str(self))
        if buffering == 0:
            return raw
        binary = io.BufferedReader(raw, _BUFFER_BYTES if buffering < 2 else buffering)
        return binary if "b" in mode else io.TextIOWrapper(binary, encoding or "utf-8", errors, newline)

    def writing(self) -> AbstractContextManager[BinaryIO]:
        """Write the object, which appears whole when the block ends in order, and not at all otherwise."""
        return store_of(str(self)).writing(str(self))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return size and time of change as for a local file; the time is 0 where the store knows none."""
        found = self.identity()
        mtime_ns = found.mtime_ns or 0
        seconds = mtime_ns // 10**9
        fields = (modes.S_IFREG | 0o444, 0, 0, 1, 0, 0, found.size, seconds, seconds, seconds)
        times: Any = {"st_mtime_ns": mtime_ns, "st_mtime": mtime_ns / 1e9}
        return os.stat_result(fields, times)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        try:
            self.identity()
        except FileNotFoundError:
            return False
        return True

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self.exists()

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return False

    def glob(self, pattern: str, **options: Any) -> Generator[RemotePath, None, None]:
        """Yield the objects below this URL that match, in the order of their names."""
        yield from (RemotePath(one.uri) for one in matching_urls(f"{self}/{pattern}"))

    def rglob(self, pattern: str, **options: Any) -> Generator[RemotePath, None, None]:
        """Yield the objects at any depth below this URL that match, in the order of their names."""
        yield from self.glob(f"**/{pattern}")


def path_of(given: str | Path) -> Path:
    """Return a path, or the path of a URL.

    Raises:
        ValueError: the URL has an empty part, `.` or `..`.
    """
    text = str(given)
    if scheme_of(text) is None:
        return Path(given)
    if any(part in ("", ".", "..") for part in text.partition("://")[2].split("/")):
        raise ValueError(f"{text:.300} has an empty part, `.` or `..` between its slashes")
    return RemotePath(text)


def is_pattern(url: str) -> bool:
    """Return whether a URL has `*`, `[` or `?`, which begins the query of a URL of the web."""
    special = _SPECIAL_OF_THE_WEB if scheme_of(url) in ("http", "https") else _SPECIAL
    return special.search(url) is not None


def matching_urls(pattern: str) -> list[Identity]:
    """Return the objects whose URLs match a pattern, in the order of their names; `*` crosses no slash, `**/` does.

    Raises:
        LookupError: the scheme is not registered, or its store lists nothing.
        OSError: the store cannot be reached.
    """
    parts = pattern.split("/")
    first = next(number for number, part in enumerate(parts) if is_pattern(part))
    own: Any = getattr(store_of(pattern), "listing", None)
    if own is None or first < 3:
        raise LookupError(f"{pattern:.300}: objects of this store cannot be listed; name them")
    wanted = re.compile("/".join(_translated(part) for part in parts).replace("(?:.*/)?/", "(?:.*/)?"))
    found: list[Identity] = [one for one in own("/".join(parts[:first])) if wanted.fullmatch(one.uri)]
    return found


_found: dict[str, list[Identity]] = {}
_names: dict[str, bytes] = {}
"""URL → the names below it, as one value, which takes less memory than a string for each."""

_NAME = re.compile(rb"[^\0]+")


def find_objects(url: str) -> list[Identity]:
    """Return the object of a URL, or those of a pattern; looked up once, until `forget_objects` is called.

    Raises:
        LookupError: the scheme is not registered, or its store lists nothing.
        OSError: the object does not exist, or the store cannot be reached.
    """
    if url not in _found:
        _found[url] = matching_urls(url) if is_pattern(url) else [identity(url)]
    return _found[url]


def names_below(folder: str) -> Iterator[str]:
    """Yield the names of the objects below a URL, relative to it and sorted folder by folder, as `os.walk` finds files;
    looked up once, until `forget_objects` is called.

    Raises:
        LookupError: the scheme is not registered, or its store lists nothing.
        OSError: the store cannot be reached.
    """
    if folder not in _names:
        names = [one.uri[len(folder) + 1 :] for one in listing(f"{folder}/")]
        # a folder comes before what has its name and more, so the slash is less than any other character
        names.sort(key=lambda name: name.replace("/", "\0"))
        _names[folder] = "\0".join(names).encode()
    for name in _NAME.finditer(_names[folder]):
        yield name[0].decode()


def forget_objects() -> None:
    """Look objects up anew: a plan begins, and what it finds is what its run reads."""
    _found.clear()
    _names.clear()


def _translated(part: str) -> str:
    if part == "**":
        return "(?:.*/)?"
    return fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z").replace(".*", "[^/]*")
