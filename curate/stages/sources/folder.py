"""The reader of folders of recordings, with transcripts next to them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

from curate.errors import InfrastructureError, PlanError, RecordError
from curate.io import Row
from curate.io.jsonl import MAX_LINE_BYTES, parse_line
from curate.records import Record
from curate.stages.sources.folder_source import FolderSource
from curate.stages.sources.known_names import AUDIO_SUFFIXES, with_known_names
from curate.stages.sources.patterns import is_file
from curate.storage import NotRegularError, is_url, names_below, open_file

_FIELD = re.compile(r"\{(\w+)\}")

_REQUESTS = 16
"""The number of transcripts that are asked of a store at the same time."""


@dataclass
class FolderReader(FolderSource):
    """Reads the recordings below a folder, in the order of their paths; no manifest is needed.

    A transcript next to a recording, under the same name with another suffix, becomes its `text`; a JSON object in
    such a file becomes its columns. The folders and the name can be columns as well.

    Args:
        folder: the folder, or its URL, such as `s3://bucket/speech`; links to folders in it are not followed.
        suffixes: how the names of recordings end, in lower case; by default those of all usual formats.
        sidecars: the suffixes of files with transcripts, in the order in which they are looked for.
        pattern: the columns in the path below the folder, without the suffix: `{speaker}/{book}/{_}`. A field matches
            within one folder's or file's name, and `{_}` becomes no column.
    """

    name = "read_folder"

    expects = "a recording"

    reads_urls = True

    suffixes: Sequence[str] = ()
    sidecars: Sequence[str] = (".txt", ".lab", ".json")
    pattern: str = ""

    def row_files(self) -> Sequence[Path]:
        self.require_folder()
        return [self.place]

    def inputs(self) -> Sequence[Path]:
        return ()

    def check(self) -> None:
        self._fields()
        self.require_folder()
        if next(self.recordings(), None) is None:
            raise PlanError(f"{self.folder} has no recordings (looked for {', '.join(sorted(self._suffixes()))})")
        super().check()

    def count_rows(self, path: Path) -> int | None:
        return sum(1 for _ in self.recordings())

    def recordings(self) -> Iterator[str]:
        """Yield the paths of the recordings relative to the folder: those that a run has listed, or those there now."""
        listed: Iterable[str] | None = getattr(self, "_recordings_of_run", None)
        return self.listing() if listed is None else iter(listed)

    def listing(self) -> Iterator[str]:
        """Yield the paths of the recordings that are there now, relative to the folder, sorted folder by folder."""
        suffixes = tuple(self._suffixes())
        if not is_url(self.folder):
            return _walk(str(self.folder), "", suffixes)
        self.require_folder()
        names = names_below(str(self.place))
        return (name for name in names if name.lower().endswith(suffixes) and not _is_hidden(name))

    def use_listing(self, names: Iterable[str] | None) -> None:
        self._recordings_of_run = names

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        remote, place = is_url(self.folder), str(self.place)
        sidecars = self._sidecars_below(place) if remote else self.sidecars
        row = partial(self._row, place if remote else os.path.abspath(place), self._fields(), sidecars)  # noqa: PTH100
        names = enumerate(self.recordings(), start=1)
        left = ((number, name) for number, name in names if number > after)
        yield from _together(left, row) if remote and sidecars else ((number, row(name)) for number, name in left)

    def _sidecars_below(self, url: str) -> Sequence[str]:
        """Return the suffixes of transcripts that some object has, so that no other one is asked for."""
        return [suffix for suffix in self.sidecars if any(name.endswith(suffix) for name in names_below(url))]

    def _row(
        self, folder: str, fields: re.Pattern[str] | None, sidecars: Collection[str], name: str
    ) -> Record | RecordError:
        stem = name.rpartition(".")[0]
        record: Record = {self.filepath_key: f"{folder.rstrip('/')}/{name}"}
        if fields is not None:
            match = fields.fullmatch(stem)
            if match is None:
                return RecordError("bad_row", f"{name!r:.200} does not have the pattern {self.pattern}")
            record |= match.groupdict()
        found = _sidecar(f"{folder.rstrip('/')}/{stem}", sidecars)
        return (
            found
            if isinstance(found, RecordError)
            else {**record, **found, self.filepath_key: record[self.filepath_key]}
        )

    def _suffixes(self) -> frozenset[str]:
        return frozenset(self.suffixes) or AUDIO_SUFFIXES

    def _fields(self) -> re.Pattern[str] | None:
        """Return the pattern as a regular expression; None: there is none.

        Raises:
            PlanError: it is not a pattern.
        """
        if not self.pattern:
            return None
        parts = _FIELD.split(self.pattern)
        names = [name for name in parts[1::2] if name != "_"]
        if len(set(names)) < len(names) or any("{" in text or "}" in text for text in parts[::2]):
            raise PlanError(f"pattern {self.pattern!r}: write each field once, as in {{speaker}}/{{book}}/{{_}}")
        expression = "".join(
            re.escape(part) if index % 2 == 0 else "[^/]+" if part == "_" else f"(?P<{part}>[^/]+)"
            for index, part in enumerate(parts)
        )
        return re.compile(expression)


def _sidecar(stem: str, suffixes: Collection[str]) -> Record | RecordError:
    """Return the columns from the file next to a recording.

    Args:
        stem: the path or URL of the recording, without its suffix.
        suffixes: of the files, in the order in which they are looked for.
    """
    for suffix in suffixes:
        path = f"{stem}{suffix}"
        try:
            with open_file(path) as file:  # never a FIFO, which would not let go
                content = file.pread(MAX_LINE_BYTES + 1, 0)
        except FileNotFoundError:
            continue
        except NotRegularError as error:
            if Path(path).is_dir():
                continue
            return RecordError("not_a_regular_file", str(error))
        except PermissionError as error:
            return RecordError("unreadable_file", f"cannot read {path}: {error.strerror}")
        except OSError as error:
            raise InfrastructureError(f"cannot read {path}: {error.strerror or error}") from error
        if len(content) > MAX_LINE_BYTES:
            return RecordError("line_too_long", f"{path} is longer than {MAX_LINE_BYTES} bytes")
        if suffix == ".json":
            row = parse_line(content)
            return RecordError(row.code, f"{path}: {row}") if isinstance(row, RecordError) else with_known_names(row)
        try:
            return {"text": " ".join(content.decode("utf-8-sig").split())}
        except UnicodeDecodeError as error:
            return RecordError("bad_row", f"{path} is not UTF-8: {error.reason} at byte {error.start}")
    return {}


def _together(names: Iterator[tuple[int, str]], row: Callable[[str], Record | RecordError]) -> Iterator[Row]:
    """Yield the rows of recordings whose transcripts are asked of a store several at a time."""
    with ThreadPoolExecutor(_REQUESTS, thread_name_prefix="transcripts") as pool:
        while some := list(islice(names, _REQUESTS)):
            yield from zip((number for number, _ in some), pool.map(row, (name for _, name in some)), strict=True)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or "/." in name


def _walk(root: str, below: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Yield the files of a folder and of those below it, sorted by name; names are compared as bytes."""
    try:
        with os.scandir(os.path.join(root, below)) as found:  # noqa: PTH118
            entries = sorted(cast("Any", found), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise InfrastructureError(f"cannot list {root}/{below}: {error.strerror or error}") from error
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith("."):
                yield from _walk(root, path, suffixes)
        elif entry.name.lower().endswith(suffixes) and not entry.name.startswith(".") and is_file(entry):
            yield path
