"""Where records come from: manifests, and lists in memory."""

from __future__ import annotations

import glob
import hashlib
import pickle
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from curate.errors import PlanError, RecordError
from curate.io.manifest import read_rows
from curate.io.rows import is_finite_number
from curate.records import DEFAULT_FILEPATH_KEY, ID, Failed, Record
from curate.stage import Source

_LOOKED_AT = 100
"""So many rows of every file tell, before the run, which columns there are and where the audio lies."""


@dataclass
class ReadManifest(Source):
    """Reads NeMo manifests: one JSON object a line, or one row of Parquet, for each utterance.

    Relative paths in `filepath_key` are resolved against the manifest's folder; the records carry absolute ones. A line
    that is no usable record goes to quarantine with file and line, and the others go on.

    Args:
        manifest: a path or glob pattern, or several: `.jsonl`, `.json`, `.jsonl.gz`, `.parquet`. Files that a pattern
            finds are read in the order of their names.
        filepath_key: the column that holds the path of the audio.
        roots: the folders that audio may lie in; by default the folder of each manifest.
        dataset_name: written into the column `dataset_name`, unless empty.
    """

    manifest: str | Path | Sequence[str | Path]
    filepath_key: str = DEFAULT_FILEPATH_KEY
    roots: Sequence[str | Path] = ()
    dataset_name: str = ""

    def inputs(self) -> Sequence[Path]:
        """Return the manifest files, in order.

        Raises:
            PlanError: a file is missing, a pattern finds nothing, or a file would be read twice.
        """
        given = [self.manifest] if isinstance(self.manifest, str | Path) else list(self.manifest)
        if not given:
            raise PlanError("manifest is empty; give a path, or several")
        files: list[Path] = []
        for pattern in given:
            path = Path(pattern)
            if path.is_dir():
                raise PlanError(f"{path} is a folder; name the manifest in it, or a pattern such as {path}/*.jsonl")
            found = [path] if path.exists() else _matching(str(pattern))
            if not found:
                near = ", ".join(sorted(str(other) for other in path.parent.glob("*.jsonl*"))[:3])
                hint = f"; there is {near}" if near else ""
                raise PlanError(f"the manifest {pattern} does not exist (looked from {Path.cwd()}){hint}")
            files.extend(found)
        for position, path in enumerate(files):
            if path.resolve() in {other.resolve() for other in files[:position]}:
                raise PlanError(f"the manifest {path} is given twice; its records would be read twice")
        return files

    def check(self) -> None:
        if not any(True for path in self.inputs() for _ in read_rows(path)):
            raise PlanError(f"the manifest {self.manifest} has no rows")
        self._check_roots()

    def _check_roots(self) -> None:
        """Look at the first rows: a manifest whose audio lies elsewhere would fail on every record."""
        for path in self.inputs():
            outside = [
                audio
                for record in self._first_records(path)
                if isinstance(audio := record.get(self.filepath_key), str)
                and not any(_lies_in(path.parent / audio, root) for root in self._roots_of(path))
            ]
            if outside:
                folder = PurePosixPath(outside[0]).parent
                raise PlanError(
                    f"the audio of {path} lies outside its roots, {outside[0]} for example; "
                    f"if that is right, say so:\n    roots: [{folder}]"
                )

    def _first_records(self, path: Path) -> Iterator[Record]:
        for count, (_, row) in enumerate(read_rows(path)):
            if count == _LOOKED_AT:
                return
            if not isinstance(row, RecordError):
                yield row

    def _roots_of(self, path: Path) -> list[Path]:
        return [Path(root) for root in self.roots] or [path.parent]

    def audio_roots(self) -> tuple[str, ...] | None:
        return tuple(dict.fromkeys(str(root.absolute()) for path in self.inputs() for root in self._roots_of(path)))

    def columns(self) -> Collection[str] | None:
        names = {name for path in self.inputs() for record in self._first_records(path) for name in record}
        return names | ({"dataset_name"} if self.dataset_name else set())

    def read(self, after: str | None = None) -> Iterator[Record | Failed]:
        skipping, last = (False, 0) if after is None else (True, int(after.rpartition(":")[2]))
        for path in self.inputs():
            here = f"{path}:"
            if skipping and not after.startswith(here):  # pyright: ignore[reportOptionalMemberAccess]
                continue
            folder = path.parent.absolute()
            for number, row in read_rows(path, after=last if skipping else 0):
                identity = f"{here}{number}"
                if isinstance(row, RecordError):
                    yield Failed({ID: identity}, row)
                    continue
                try:
                    yield self._checked(identity, row, folder)
                except RecordError as error:
                    yield Failed({**row, ID: identity}, error)
            skipping = False

    def _checked(self, identity: str, row: Record, folder: Path) -> Record:
        """Return the record of a row: its id first, its path absolute, its numbers such as one can calculate with."""
        record: Record = {ID: identity, **row}
        record[ID] = identity  # a row's own `_id` would break the books
        path = record.get(self.filepath_key)
        if isinstance(path, str) and "://" not in path and "\0" not in path:
            record[self.filepath_key] = str(folder / path)
        for name in ("duration", "offset"):
            value: Any = record.get(name)
            if value is not None and not (is_finite_number(value) and value >= 0):
                raise RecordError("bad_value", f"{name} = {value!r:.80} is not a number of seconds")
        if self.dataset_name:
            record["dataset_name"] = self.dataset_name
        return record


def _matching(pattern: str) -> list[Path]:
    # `Path.glob` takes no absolute patterns
    return sorted(map(Path, glob.glob(pattern, recursive=True)))  # noqa: PTH207


def _lies_in(path: Path, root: Path) -> bool:
    """Return whether a path lies below a root as it is written; links are followed when the file is opened."""
    return Path(*_normal(path)).is_relative_to(Path(*_normal(root)))


def _normal(path: Path) -> Sequence[str]:
    parts: list[str] = []
    for part in path.absolute().parts:
        if part == "..":
            parts = parts[:-1] if len(parts) > 1 else parts
        else:
            parts.append(part)
    return parts


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
    roots: Sequence[str | Path] | None = None

    tuning = frozenset({"records"})  # they are in the fingerprint as one checksum

    def fingerprint(self) -> Mapping[str, Any]:
        return {"records_sha256": hashlib.sha256(pickle.dumps(list(self.records), 5)).hexdigest()}

    def check(self) -> None:
        for number, record in enumerate(self.records, start=1):
            if type(record) is not dict:
                raise PlanError(f"record {number} is a {type(record).__name__} and not a dict")

    def columns(self) -> Collection[str] | None:
        return {name for record in self.records[:_LOOKED_AT] for name in record}

    def audio_roots(self) -> tuple[str, ...] | None:
        return None if self.roots is None else tuple(str(Path(root).absolute()) for root in self.roots)

    def read(self, after: str | None = None) -> Iterator[Record | Failed]:
        first = 0 if after is None else int(after.rpartition(":")[2])
        label = self.label
        for number, record in enumerate(self.records[first:], start=first + 1):
            yield {ID: f"{label}:{number}", **record}
