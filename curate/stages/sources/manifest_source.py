"""The base of sources that read files of rows: finds the files, checks the audio's roots, and completes the records."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from curate.errors import InfrastructureError, PlanError, RecordError
from curate.io import Row
from curate.io.rows import is_finite_number
from curate.records import DEFAULT_FILEPATH_KEY, ID, Failed, Record
from curate.stage import Source
from curate.storage import scheme_of
from curate.suggest import nearest

SAMPLED_ROWS = 100
"""The number of rows of each file that the plan reads to find the columns and to check the audio roots."""

_SOURCE_ID = "source_id"
"""The name in the records of a column `_id` that the input has, because theirs is the position."""


@dataclass
class ManifestSource(Source):
    """Base of sources whose input is one or several files of rows: a subclass defines `read_rows(path, after)`.

    The rest is here: patterns and missing files, positions as `_id`, relative audio paths, roots, columns, resuming in
    the middle of a file, and rows that are not records. The fields of a subclass come after these, with defaults.

    Args:
        manifest: a path or glob pattern, or several. Files that match a pattern are read in the order
            of their names.
        filepath_key: the column that holds the path of the audio.
        roots: the folders, or URLs, that audio may lie below; by default the folder of each manifest.
        dataset_name: written into the column `dataset_name`, unless empty.
    """

    manifest: str | Path | Sequence[str | Path]
    filepath_key: str = DEFAULT_FILEPATH_KEY
    roots: str | Path | Sequence[str | Path] = ()
    dataset_name: str = ""

    expects: ClassVar[str] = "one record a row"
    """What messages say that a file should hold."""

    # A subclass defines the first of these, and the others where it knows more.

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        """Yield the rows of a file that come after number `after`, each with its number, from 1.

        A row is a dict, or the `RecordError` that sends it to quarantine.
        """
        raise NotImplementedError(f"{type(self).__name__} must define read_rows(path, after)")

    def count_rows(self, path: Path) -> int | None:
        """Return about how many rows a file has; None: unknown."""
        return None

    def declared_columns(self, path: Path) -> Collection[str] | None:
        """Return the columns that a file declares; None: those of its first rows."""
        return None

    def complete_record(self, record: Record, folder: str) -> None:
        """Make the path of the audio absolute, and check that lengths of time are usable numbers.

        Raises:
            RecordError: `bad_value`, for a `duration` or `offset` that is not a number of seconds.
        """
        path = record.get(self.filepath_key)
        if isinstance(path, str) and _is_path(path):
            record[self.filepath_key] = os.path.join(folder, path)  # noqa: PTH118 (a tenth of the time, for every record)
        for name in ("duration", "offset"):
            value: Any = record.get(name)
            if value is not None and not (is_finite_number(value) and value >= 0):
                raise RecordError("bad_value", f"{name} = {_short_repr(value)} is not a number of seconds")
        if self.dataset_name:
            record["dataset_name"] = self.dataset_name

    # The interface of sources, for the plan and the run.

    def inputs(self) -> Sequence[Path]:
        """Return the manifest files, in order.

        Raises:
            PlanError: a file is missing, a pattern matches no file, or a file would be read twice.
        """
        given = [self.manifest] if isinstance(self.manifest, str | Path) else list(self.manifest)
        if not given:
            raise PlanError("manifest is empty: give one path or several")
        files = [path for pattern in given for path in _matching_files(str(pattern))]
        seen: set[str] = set()
        for path in files:
            real = os.path.realpath(path)
            if real in seen:
                raise PlanError(f"the manifest {path} is listed twice: its records would be read twice")
            seen.add(real)
        return files

    def check(self) -> None:
        check_exist(self.roots)
        sampled = {path: self._first_rows(path) for path in self.inputs()}
        if not any(sampled.values()):
            raise PlanError(f"the manifest {self.manifest} has no rows")
        for path, rows in sampled.items():
            problems = [row for row in rows if isinstance(row, RecordError)]
            if problems and len(problems) == len(rows):
                raise PlanError(
                    f"{path} is not a manifest of {self.expects}: none of its first {len(rows)} rows is a record; "
                    f"{problems[0]}"
                )
            self._check_roots(path, [row for row in rows if not isinstance(row, RecordError)])

    def _check_roots(self, path: Path, records: Sequence[Record]) -> None:
        """Raise when most of the first records' audio lies outside the roots: then the setting is at fault."""
        named = [audio for record in records if isinstance(audio := record.get(self.filepath_key), str)]
        places = [path.parent / audio for audio in named if _is_path(audio)]
        roots = self._roots_of(path)
        outside = [place for place in places if not any(_lies_in(place, root) for root in roots)]
        if 2 * len(outside) > len(places):
            needed = _folders_of(outside) + [str(root.absolute()) for root in roots if len(outside) < len(places)]
            raise PlanError(
                f"the audio of {path} lies outside its roots, {outside[0]} for example; "
                f"to allow it, set\n    roots: [{', '.join(dict.fromkeys(needed))}]"
            )

    def _roots_of(self, path: Path) -> list[Path]:
        return root_paths(self.roots) if self.roots else [path.parent]

    def count(self) -> int | None:
        counts = [self.count_rows(path) for path in self.inputs()]
        return None if None in counts else sum(filter(None, counts))

    def audio_roots(self) -> tuple[str, ...] | None:
        local = (str(root.absolute()) for path in self.inputs() for root in self._roots_of(path))
        return tuple(dict.fromkeys([*local, *root_urls(self.roots)]))

    def columns(self) -> Collection[str] | None:
        names: set[str] = set()
        for path in self.inputs():
            declared = self.declared_columns(path)
            rows: list[Any] = self._first_rows(path) if declared is None else [dict.fromkeys(declared)]
            names |= {name for row in rows if not isinstance(row, RecordError) for name in identified("", row)}
        return names - {ID} | ({"dataset_name"} if self.dataset_name else set())

    def read(self, after: str | None = None) -> Iterator[Record | Failed]:
        files = {str(path): path for path in self.inputs()}
        first, last = next(iter(files)), 0
        if after is not None:
            first, _, number = after.rpartition(":")
            if first not in files:
                raise PlanError(f"unknown record {after!r}: its manifest is not among {', '.join(files)}")
            last = int(number)
        for name in list(files)[list(files).index(first) :]:
            folder = str(files[name].parent.absolute())
            try:
                for number, row in self.read_rows(files[name], last):
                    identity = f"{name}:{number}"
                    if isinstance(row, RecordError):
                        yield Failed({ID: identity}, row)
                        continue
                    record = identified(identity, row)
                    item: Record | Failed = record
                    try:
                        self.complete_record(record, folder)
                    except RecordError as error:
                        item = Failed(record, error)
                    yield item
            except (OSError, EOFError) as error:
                raise InfrastructureError(f"cannot read {name} to its end: {error}") from error
            last = 0

    def _first_rows(self, path: Path) -> list[Record | RecordError]:
        return [row for _, row in islice(self.read_rows(path, 0), SAMPLED_ROWS)]


def identified(identity: str, row: Record) -> Record:
    """Return a row as a record: its position first, under `_id`; a column `_id` of its own is kept as `source_id`."""
    if ID not in row:
        return {ID: identity, **row}
    return {ID: identity} | {_SOURCE_ID if name == ID else name: value for name, value in row.items()}


def _matching_files(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_dir():
        raise PlanError(f"{path} is a folder; give the manifest in it, or a pattern such as {path}/*.jsonl")
    if path.is_file():
        return [path]
    if path.exists():  # a pipe cannot be read twice, first for the plan and then for the run
        raise PlanError(f"{path} is not a regular file; write the manifest to a file")
    # `Path.glob` takes no absolute patterns
    found = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())  # noqa: PTH207
    if not found:
        siblings = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
        near = nearest(path.name, siblings)
        hint = "" if near is None else f"; did you mean {path.parent / near}?"
        raise PlanError(f"the manifest {pattern} does not exist (looked from {Path.cwd()}){hint}")
    return found


def root_paths(roots: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the roots that are folders."""
    return [Path(root) for root in _listed(roots) if scheme_of(str(root)) is None]


def root_urls(roots: str | Path | Sequence[str | Path]) -> list[str]:
    """Return the roots that are URLs."""
    return [str(root) for root in _listed(roots) if scheme_of(str(root)) is not None]


def _listed(roots: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    return [roots] if isinstance(roots, str | Path) else roots


def check_exist(roots: str | Path | Sequence[str | Path]) -> None:
    for root in root_paths(roots):
        if not root.is_dir():
            raise PlanError(f"roots: {root} is not a folder (looked from {Path.cwd()})")


def _is_path(audio: str) -> bool:
    """Return whether a string can be a local path; others are reported for each record when its audio is opened."""
    try:
        os.fsencode(audio)
    except UnicodeEncodeError:
        return False
    return audio != "" and "://" not in audio and "\0" not in audio


def _lies_in(path: Path, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _folders_of(files: Sequence[Path]) -> list[str]:
    """Return the common folder of all files, or their own folders if the common one is the root of the file system."""
    folders = sorted({os.path.realpath(file.parent) for file in files})
    common = os.path.commonpath(folders)
    return folders if common == os.sep else [common]


def _short_repr(value: object) -> str:
    return "a very large number" if isinstance(value, int) and value.bit_length() > 1000 else f"{value!r:.80}"
