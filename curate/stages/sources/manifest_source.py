"""The bases of sources whose records are rows of files: they find the files, and shape and complete the records."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from curate.errors import InfrastructureError, PlanError, RecordError
from curate.io import Row
from curate.io.rows import is_finite_number
from curate.records import DEFAULT_FILEPATH_KEY, ID, Failed, Record, string_bytes
from curate.stage import Source
from curate.stages.sources.audio_roots import check_exist, check_within, listed_paths, root_paths, root_urls
from curate.stages.sources.patterns import glob_files
from curate.stages.sources.record_shape import SHAPING, ColumnSettings, bcp_47
from curate.storage import find_objects, is_url, path_of
from curate.suggest import nearest

SAMPLED_ROWS = 100
_SAMPLED_BYTES = 16 * 1024 * 1024
"""The number of rows of each file that the plan reads to find the columns and to check the audio roots."""

_SECONDS = ("duration", "offset")

_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.-][A-Za-z0-9_./ -]*\Z")
"""A usual relative path."""

_SHARDED = re.compile(r"_OP_\d+\.\.\d+_CL_")

_SOURCE_ID = "source_id"
"""The name in the records of a column `_id` that the input has, because theirs is the position."""


@dataclass(kw_only=True)
class RowSource(ColumnSettings, Source):
    """Base of sources whose records are the rows of files.

    A subclass defines `row_files()` and `read_rows(path, after)`. The rest is here: positions as `_id`, relative audio
    paths, roots, columns, resuming in the middle of a file, and rows that are not records.

    Args:
        filepath_key: the column that holds the path of the audio.
        roots: the folders, or URLs, that audio may lie below; by default the folder of the input.
        dataset_name: written into the column `dataset_name`, unless empty.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    roots: str | Path | Sequence[str | Path] = ()
    dataset_name: str = ""

    expects: ClassVar[str] = "one record a row"
    """What messages say that a file should hold."""

    lists = True

    audio_folder: ClassVar[str] = ""
    """The folder that audio paths in a file of rows are relative to, relative to the folder of that file."""

    # A subclass defines the first two of these, and the others where it knows more.

    def row_files(self) -> Sequence[Path]:
        """Return the files whose rows are the records, in order.

        Raises:
            PlanError: one is missing.
        """
        raise NotImplementedError(f"{type(self).__name__} must define row_files()")

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
        # mostly the first test decides: a call for every record would take longer
        if isinstance(path, str) and (_PLAIN_PATH.match(path) or (path[:1] != "/" and _is_path(path))):
            record[self.filepath_key] = f"{folder}/{path}" if folder[-1:] != "/" else folder + path
        for name in _SECONDS:
            value: Any = record.get(name)
            if value is None or (type(value) is float and 0 <= value < math.inf):  # nearly always
                continue
            if not (is_finite_number(value) and value >= 0):
                raise RecordError("bad_value", f"{name} = {_short_repr(value)} is not a number of seconds")
        lang = record.get("lang")
        if lang is not None and isinstance(lang, str):
            record["lang"] = bcp_47(lang)
        if self.dataset_name:
            record["dataset_name"] = self.dataset_name

    def given(self) -> Collection[str]:
        """Return the paths in the settings, of which some may be patterns or folders; none: all are looked for."""
        return ()

    # The interface of sources, for the plan and the run.

    def files(self) -> Sequence[Path]:
        """Return the files whose rows are read: those that a run has listed, or else those that are there now."""
        listed: Sequence[Path] | None = getattr(self, "_files_of_run", None)
        return self.row_files() if listed is None else listed

    def listing(self) -> Iterator[str] | None:
        found = list(map(str, self.row_files()))
        return None if set(found) <= set(self.given()) else iter(found)

    def use_listing(self, names: Iterable[str] | None) -> None:
        self._files_of_run = None if names is None else [path_of(name) for name in names]

    inputs = files

    def check(self) -> None:
        check_exist(self.roots)
        sampled = {path: self._first_rows(path) for path in self.files()}
        if not any(sampled.values()):
            raise PlanError(f"the manifest {self.described_input} has no rows")
        self._check_names(sampled)
        for path, rows in sampled.items():
            problems = [row for row in rows if isinstance(row, RecordError)]
            if problems and len(problems) == len(rows):
                raise PlanError(
                    f"{path} is not a manifest of {self.expects}: none of its first {len(rows)} rows is a record; "
                    f"{problems[0]}"
                )
            self.check_records(path, [row for row in rows if not isinstance(row, RecordError)])

    @property
    def described_input(self) -> str:
        """The input as messages name it."""
        return ", ".join(map(str, self.files()))

    def check_records(self, path: Path, records: Sequence[Record]) -> None:
        """Check the first records of a file.

        Raises:
            PlanError: the settings do not fit them.
        """
        shape = self.shape()
        shaped = records if shape is None else [shape.apply(record) for record in records]
        self._check_roots(path, shaped)

    def _check_names(self, sampled: Mapping[Path, Sequence[Record | RecordError]]) -> None:
        shape = self.shape()
        if shape is None:
            return
        names: set[str] = set()
        for path, rows in sampled.items():
            declared = self.declared_columns(path)
            names |= (
                set(declared or ())
                if declared is not None
                else {name for row in rows if not isinstance(row, RecordError) for name in row}
            )
        shape.check(names, self.described_input)

    def _check_roots(self, path: Path, records: Sequence[Record]) -> None:
        """Raise when most of the first records' audio lies outside the roots: then the setting is at fault."""
        folder = path.parent / self.audio_folder
        named = [audio for record in records if isinstance(audio := record.get(self.filepath_key), str)]
        places = [folder / audio if _is_path(audio) else audio for audio in named if _is_path(audio) or is_url(audio)]
        check_within(path, places, [*self.roots_of(path), *root_urls(self.roots)])

    def roots_of(self, path: Path) -> list[Path]:
        """Return the folders that the audio of a file of rows may lie below."""
        return root_paths(self.roots) if self.roots else [path.parent / self.audio_folder]

    def count(self) -> int | None:
        counts = [self.count_rows(path) for path in self.files()]
        return None if None in counts else sum(filter(None, counts))

    def audio_roots(self) -> tuple[str, ...] | None:
        local = (str(root.absolute()) for path in self.files() for root in self.roots_of(path))
        return tuple(dict.fromkeys([*local, *root_urls(self.roots)]))

    def record_columns(self) -> Collection[str] | None:
        shape = self.shape()
        names: set[str] = set()
        for path in self.files():
            declared = self.declared_columns(path)
            rows: list[Any] = self._first_rows(path) if declared is None else [dict.fromkeys(declared)]
            for row in rows:
                if not isinstance(row, RecordError):
                    names |= identified("", row if shape is None else shape.apply(row)).keys()
        return names - {ID} | ({"dataset_name"} if self.dataset_name else set())

    def read(self, after: str | None = None) -> Iterator[Record | Failed]:
        files = {str(path): path for path in self.files()}
        first, last = next(iter(files)), 0
        if after is not None:
            first, _, number = after.rpartition(":")
            if first not in files:
                raise PlanError(f"unknown record {after!r}: its manifest is not among {', '.join(files)}")
            last = int(number)
        shape = self.shape() if any(getattr(self, setting) for setting in SHAPING) else None
        for name in list(files)[list(files).index(first) :]:
            folder = str((files[name].parent / self.audio_folder).absolute())
            try:
                for number, row in self.read_rows(files[name], last):
                    identity = f"{name}:{number}"
                    if isinstance(row, RecordError):
                        yield Failed({ID: identity}, row)
                        continue
                    record = identified(identity, row if shape is None else shape.apply(row))
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
        found: list[Record | RecordError] = []
        size = 0
        for _, row in islice(self.read_rows(path, 0), SAMPLED_ROWS):
            found.append(row)
            size += string_bytes(row) if isinstance(row, dict) else 0
            if size >= _SAMPLED_BYTES:
                break
        return found


@dataclass
class ManifestSource(RowSource):
    """Base of sources whose input is one or several files of rows: a subclass defines `read_rows(path, after)`.

    Patterns and missing files are handled here, and the rest in `RowSource`. The fields of a subclass need defaults.

    Args:
        manifest: a path or glob pattern, or several. Files that match a pattern are read in the order
            of their names.
    """

    manifest: str | Path | Sequence[str | Path]

    def row_files(self) -> Sequence[Path]:
        """Return the manifest files, in order.

        Raises:
            PlanError: a file is missing, a pattern matches no file, or a file would be read twice.
        """
        given = [self.manifest] if isinstance(self.manifest, str | Path) else list(self.manifest)
        if not given:
            raise PlanError("manifest is empty: give one path or several")
        files = [path for pattern in given for path in matching_files(str(pattern))]
        seen: set[str] = set()
        for path in files:
            real = str(path.resolve())
            if real in seen:
                raise PlanError(f"the manifest {path} is listed twice: its records would be read twice")
            seen.add(real)
        self.lists = len(files) != len(given) or any(str(a) != str(b) for a, b in zip(files, given, strict=True))
        return files

    def given(self) -> Collection[str]:
        return listed_paths(self.manifest)

    @property
    def described_input(self) -> str:
        return str(self.manifest)


def matching_files(pattern: str) -> list[Path]:
    """Return the files that a path or a pattern names, in the order of their names.

    Raises:
        PlanError: there is none, or the path names something other than a file.
    """
    if is_url(pattern):
        return matching_objects(pattern)
    path = Path(pattern)
    if _SHARDED.search(pattern) and not path.is_file():
        raise PlanError(f"{pattern} is NeMo's name for the manifests of tars: use read_nemo_tarred")
    if path.is_dir():
        raise PlanError(f"{path} is a folder; give the manifest in it, or a pattern such as {path}/*.jsonl")
    if path.is_file():
        return [path]
    if path.exists():  # a pipe cannot be read twice, first for the plan and then for the run
        raise PlanError(f"{path} is not a regular file; write the manifest to a file")
    if path.is_symlink():
        raise PlanError(f"{path} is a link to {path.readlink()}, and no file is there")
    found = sorted(path for path in map(Path, glob_files(pattern)) if path.is_file())
    if not found:
        siblings = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
        near = nearest(path.name, siblings)
        hint = "" if near is None else f"; did you mean {path.parent / near}?"
        raise PlanError(f"the manifest {pattern} does not exist (looked from {Path.cwd()}){hint}")
    return found


def matching_objects(pattern: str) -> list[Path]:
    """Return the objects that a URL or a pattern of URLs names, in the order of their names.

    Raises:
        PlanError: there is none, the store cannot be reached, or the URL is malformed.
    """
    try:
        path_of(pattern)  # refuses what is malformed
        found = find_objects(pattern)
    except FileNotFoundError as error:
        raise PlanError(f"{pattern} does not exist") from error
    except (OSError, LookupError, ValueError) as error:
        raise PlanError(f"{pattern} cannot be read: {error}") from error
    if not found:
        raise PlanError(f"no object matches {pattern}")
    return [path_of(one.uri) for one in found]


def _is_path(audio: str) -> bool:
    """Return whether a string can be a local path; others are reported for each record when its audio is opened."""
    try:
        os.fsencode(audio)
    except UnicodeEncodeError:
        return False
    return audio != "" and "://" not in audio and "\0" not in audio


def identified(identity: str, row: Record) -> Record:
    """Return a row as a record: its position first, under `_id`.

    A column `_id` of its own is kept as `source_id`, and as `source_id_2` if there is a `source_id` as well.
    """
    if ID not in row:
        return {ID: identity, **row}
    name_of_id = _SOURCE_ID
    number = 1
    while name_of_id in row:
        number += 1
        name_of_id = f"{_SOURCE_ID}_{number}"
    return {ID: identity} | {name_of_id if name == ID else name: value for name, value in row.items()}


def _short_repr(value: object) -> str:
    return "a very large number" if isinstance(value, int) and value.bit_length() > 1000 else f"{value!r:.80}"
