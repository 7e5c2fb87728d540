"""Where records come from: manifests, and lists in memory."""

from __future__ import annotations

import difflib
import glob
import hashlib
import os
import pickle
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from curate.errors import PlanError, RecordError
from curate.io.manifest import count_rows, read_rows
from curate.io.rows import is_finite_number
from curate.records import DEFAULT_FILEPATH_KEY, ID, Failed, Record
from curate.stage import Source

_LOOKED_AT = 100
"""So many rows of every file tell, before the run, which columns there are and where the audio lies."""

_SOURCE_ID = "source_id"
"""What a column `_id` of the input's own is called in the records, whose `_id` is their position."""


@dataclass
class ReadManifest(Source):
    """Reads NeMo manifests: one JSON object a line, or one row of Parquet, for each utterance.

    Relative paths in `filepath_key` are resolved against the manifest's folder; the records carry absolute ones. A line
    that is no usable record goes to quarantine with file and line, and the others go on. A column `_id` of the
    manifest's own is kept as `source_id`.

    Args:
        manifest: a path or glob pattern, or several: `.jsonl`, `.json`, `.jsonl.gz`, `.parquet`. Files that a pattern
            finds are read in the order of their names.
        filepath_key: the column that holds the path of the audio.
        roots: the folders that audio may lie in; by default the folder of each manifest.
        dataset_name: written into the column `dataset_name`, unless empty.
    """

    manifest: str | Path | Sequence[str | Path]
    filepath_key: str = DEFAULT_FILEPATH_KEY
    roots: str | Path | Sequence[str | Path] = ()
    dataset_name: str = ""

    def inputs(self) -> Sequence[Path]:
        """Return the manifest files, in order.

        Raises:
            PlanError: a file is missing, a pattern finds nothing, or a file would be read twice.
        """
        given = [self.manifest] if isinstance(self.manifest, str | Path) else list(self.manifest)
        if not given:
            raise PlanError("manifest is empty; give a path, or several")
        files = [path for pattern in given for path in _found(str(pattern))]
        seen: set[str] = set()
        for path in files:
            real = os.path.realpath(path)
            if real in seen:
                raise PlanError(f"the manifest {path} is given twice; its records would be read twice")
            seen.add(real)
        return files

    def check(self) -> None:
        _check_exist(self.roots)
        looked_at = {path: _first_rows(path) for path in self.inputs()}
        if not any(looked_at.values()):
            raise PlanError(f"the manifest {self.manifest} has no rows")
        for path, rows in looked_at.items():
            problems = [row for row in rows if isinstance(row, RecordError)]
            if problems and len(problems) == len(rows):
                raise PlanError(
                    f"{path} is no manifest, which has one JSON object a line, or is Parquet: "
                    f"in its first rows there is no record; {problems[0]}"
                )
            self._check_roots(path, [row for row in rows if not isinstance(row, RecordError)])

    def _check_roots(self, path: Path, records: Sequence[Record]) -> None:
        """Look at the first records: when most of the audio lies elsewhere, no record is to blame."""
        named = [audio for record in records if isinstance(audio := record.get(self.filepath_key), str)]
        places = [path.parent / audio for audio in named if _is_path(audio)]
        roots = self._roots_of(path)
        outside = [place for place in places if not any(_lies_in(place, root) for root in roots)]
        if 2 * len(outside) > len(places):
            needed = _folders_of(outside) + [str(root.absolute()) for root in roots if len(outside) < len(places)]
            raise PlanError(
                f"the audio of {path} lies outside its roots, {outside[0]} for example; "
                f"if that is right, say so:\n    roots: [{', '.join(dict.fromkeys(needed))}]"
            )

    def _roots_of(self, path: Path) -> list[Path]:
        return _listed(self.roots) or [path.parent]

    def count(self) -> int | None:
        counts = [count_rows(path) for path in self.inputs()]
        return None if None in counts else sum(filter(None, counts))

    def audio_roots(self) -> tuple[str, ...] | None:
        return tuple(dict.fromkeys(str(root.absolute()) for path in self.inputs() for root in self._roots_of(path)))

    def columns(self) -> Collection[str] | None:
        rows = [row for path in self.inputs() for row in _first_rows(path)]
        names = {name for row in rows if not isinstance(row, RecordError) for name in _identified("", row)}
        return names - {ID} | ({"dataset_name"} if self.dataset_name else set())

    def read(self, after: str | None = None) -> Iterator[Record | Failed]:
        files = {str(path): path for path in self.inputs()}
        first, last = next(iter(files)), 0
        if after is not None:
            first, _, number = after.rpartition(":")
            if first not in files:
                raise PlanError(f"there is no record {after!r}: its manifest is none of {', '.join(files)}")
            last = int(number)
        for name in list(files)[list(files).index(first) :]:
            folder = str(files[name].parent.absolute())
            for number, row in read_rows(files[name], after=last):
                identity = f"{name}:{number}"
                if isinstance(row, RecordError):
                    yield Failed({ID: identity}, row)
                    continue
                record = _identified(identity, row)
                try:
                    self._complete(record, folder)
                except RecordError as error:
                    yield Failed(record, error)
                else:
                    yield record
            last = 0

    def _complete(self, record: Record, folder: str) -> None:
        """Make the path absolute, and see that the numbers are such as one can calculate with."""
        path = record.get(self.filepath_key)
        if isinstance(path, str) and _is_path(path):
            record[self.filepath_key] = os.path.join(folder, path)  # noqa: PTH118 (a tenth of the time, for every record)
        for name in ("duration", "offset"):
            value: Any = record.get(name)
            if value is not None and not (is_finite_number(value) and value >= 0):
                raise RecordError("bad_value", f"{name} = {_shown(value)} is not a number of seconds")
        if self.dataset_name:
            record["dataset_name"] = self.dataset_name


def _identified(identity: str, row: Record) -> Record:
    """Return a row as a record: its position first, under `_id`."""
    if ID not in row:
        return {ID: identity, **row}
    return {ID: identity} | {_SOURCE_ID if name == ID else name: value for name, value in row.items()}


def _found(pattern: str) -> list[Path]:
    path = Path(pattern)
    if path.is_dir():
        raise PlanError(f"{path} is a folder; name the manifest in it, or a pattern such as {path}/*.jsonl")
    if path.is_file():
        return [path]
    if path.exists():  # a pipe cannot be read twice, first for the plan and then for the run
        raise PlanError(f"{path} is no regular file; write the manifest to one")
    # `Path.glob` takes no absolute patterns
    found = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())  # noqa: PTH207
    if not found:
        siblings = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, cutoff=0.5)
        hint = f"; did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else ""
        raise PlanError(f"the manifest {pattern} does not exist (looked from {Path.cwd()}){hint}")
    return found


def _first_rows(path: Path) -> list[Record | RecordError]:
    return [row for _, row in islice(read_rows(path), _LOOKED_AT)]


def _listed(roots: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(root) for root in ([roots] if isinstance(roots, str | Path) else roots)]


def _check_exist(roots: str | Path | Sequence[str | Path]) -> None:
    for root in _listed(roots):
        if not root.is_dir():
            raise PlanError(f"roots: {root} is no folder (looked from {Path.cwd()})")


def _is_path(audio: str) -> bool:
    """Return whether a text can be a path; what cannot is reported, record by record, where it would be opened."""
    try:
        os.fsencode(audio)
    except UnicodeEncodeError:
        return False
    return audio != "" and "://" not in audio and "\0" not in audio


def _lies_in(path: Path, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _folders_of(files: Sequence[Path]) -> list[str]:
    """Return the folder that all files lie in; if that is the top of the file system, the folders that they lie in."""
    folders = sorted({os.path.realpath(file.parent) for file in files})
    common = os.path.commonpath(folders)
    return folders if common == os.sep else [common]


def _shown(value: object) -> str:
    return "a very large number" if isinstance(value, int) and value.bit_length() > 1000 else f"{value!r:.80}"


@dataclass
class ReadRecords(Source):
    """Reads a list of records in memory, for tests, notebooks and small jobs.

    Args:
        records: plain dicts; they are not changed.
        label: the first part of the ids, `<label>:<number>`.
        roots: the folders that audio may lie in; None: anywhere.
    """

    records: Sequence[Record] = field(repr=False)
    label: str = "records"
    roots: str | Path | Sequence[str | Path] | None = None

    tuning = frozenset({"records"})  # they are in the fingerprint as one checksum

    def fingerprint(self) -> Mapping[str, Any]:
        return {"records_sha256": hashlib.sha256(pickle.dumps(list(self.records), 5)).hexdigest()}

    def check(self) -> None:
        _check_exist(self.roots or ())
        for number, record in enumerate(self.records, start=1):
            if type(record) is not dict:
                raise PlanError(f"record {number} is a {type(record).__name__} and not a dict")

    def count(self) -> int | None:
        return len(self.records)

    def columns(self) -> Collection[str] | None:
        return {name for record in self.records[:_LOOKED_AT] for name in _identified("", record)} - {ID}

    def audio_roots(self) -> tuple[str, ...] | None:
        return None if self.roots is None else tuple(str(root.absolute()) for root in _listed(self.roots))

    def read(self, after: str | None = None) -> Iterator[Record | Failed]:
        first = 0 if after is None else int(after.rpartition(":")[2])
        label = self.label
        for number, record in enumerate(self.records[first:], start=first + 1):
            yield _identified(f"{label}:{number}", record)
