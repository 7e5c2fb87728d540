"""The base of readers of a corpus in a folder: its files of rows, and other files that are keyed like these."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from curate.errors import PlanError
from curate.io.lines import bounded_lines
from curate.stages.sources.audio_roots import root_paths
from curate.stages.sources.manifest_source import RowSource
from curate.storage import is_url, names_below, path_of

MAX_UNSORTED_BYTES = 64 * 2**20
"""The maximum size of a keyed file that is not sorted, and so has to be held in memory."""


@dataclass
class FolderSource(RowSource):
    """Base of readers of a corpus in a folder.

    Args:
        folder: the folder of the corpus.
    """

    folder: str | Path

    reads_urls: ClassVar[bool] = False
    """Whether the folder may be a URL."""

    @property
    def place(self) -> Path:
        """The folder as a path, or as the path of a URL.

        Raises:
            ValueError: the URL is malformed.
        """
        return path_of(str(self.folder).rstrip("/")) if is_url(self.folder) else Path(self.folder)

    def found_files(self, *patterns: str) -> list[Path]:
        """Return the files below the folder that match the patterns, in the order of patterns and names.

        Raises:
            PlanError: the folder is not there, or no file matches.
        """
        self.require_folder()
        files = [path for pattern in patterns for path in sorted(Path(self.folder).glob(pattern)) if path.is_file()]
        if not files:
            raise PlanError(f"{self.folder} has no {' or '.join(patterns)}, so it is not a corpus of this form")
        return files

    def require_folder(self) -> None:
        """Raise `PlanError` if the folder is not there, or no object lies below its URL."""
        if is_url(self.folder):
            self._require_objects()
        elif not Path(self.folder).is_dir():
            raise PlanError(f"{self.folder} is not a folder (looked from {Path.cwd()})")

    def _require_objects(self) -> None:
        if not self.reads_urls:
            name = type(self).name
            raise PlanError(f"{name} reads local folders, and {self.folder} is a URL: copy its objects into a folder")
        try:
            first = next(names_below(str(self.place)), None)
        except (OSError, LookupError, ValueError) as error:
            raise PlanError(f"{self.folder} cannot be listed: {error}") from error
        if first is None:
            raise PlanError(f"no object lies below {self.folder}")

    def roots_of(self, path: Path) -> list[Path]:
        return root_paths(self.roots) if self.roots else [self.place]

    @property
    def described_input(self) -> str:
        return str(self.folder)


class KeyedValues(Protocol):
    """Values by key, asked for in the order of keys."""

    def get(self, key: str, /) -> str | None:
        """Return the value of a key; None: it has none."""
        ...


class _SortedFile:
    """A file of sorted `key value` lines, read along with another one that has the same order."""

    def __init__(self, path: Path) -> None:
        self._lines = keyed_lines(path)
        self._key: bytes | None = b""
        self._value = ""
        self._next()

    def get(self, key: str, /) -> str | None:
        wanted = key.encode(errors="surrogateescape")
        while self._key is not None and self._key < wanted:
            self._next()
        return self._value if self._key == wanted else None

    def _next(self) -> None:
        _, key, self._value = next(self._lines, (0, None, ""))
        self._key = None if key is None else key.encode(errors="surrogateescape")


def keyed_values(path: Path) -> KeyedValues:
    """Return the values of a `key value` file, in little memory where it is sorted as `LC_ALL=C sort` does.

    Raises:
        PlanError: it is not sorted, and too large to be held in memory.
    """
    if not path.is_file():
        return dict[str, str]()
    keys = (key.encode(errors="surrogateescape") for _, key, _ in keyed_lines(path))
    if all(before < key for before, key in itertools.pairwise(keys)):
        return _SortedFile(path)
    if path.stat().st_size > MAX_UNSORTED_BYTES:
        raise PlanError(f"{path} is not sorted by key, and too large to be held in memory: sort it with LC_ALL=C sort")
    return {key: value for _, key, value in keyed_lines(path)}


def is_sorted_like(paths: Sequence[Path]) -> bool:
    """Return whether all files that exist are sorted by key."""
    return all(isinstance(keyed_values(path), _SortedFile) for path in paths if path.is_file())


def keyed_lines(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the number, the key and the value of each `key value` line."""
    for number, line in enumerate(bounded_lines(path), start=1):
        text = line.decode(errors="surrogateescape")
        text = text.removeprefix("\ufeff") if number == 1 else text
        key, _, value = text.strip().replace("\t", " ", 1).partition(" ")
        if key:
            yield number, key, value.strip()


def read_keyed(path: Path) -> Mapping[str, str]:
    """Return all values of a small `key value` file; none where the file is missing."""
    return {key: value for _, key, value in keyed_lines(path)} if path.is_file() else {}
