"""The sources of records: manifests, and lists in memory."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.errors import InfrastructureError, PlanError
from curate.fingerprint import describe_code
from curate.io import (
    ManifestFormat,
    Row,
    can_grow,
    check_parquet,
    count_rows,
    declared_columns,
    judge_content,
    read_rows,
)
from curate.plugin import CURATE, current_host
from curate.records import DEFAULT_FILEPATH_KEY, ID, Failed, Record
from curate.stage import Source
from curate.stages.sources.audio_roots import check_exist, root_paths
from curate.stages.sources.manifest_source import SAMPLED_ROWS, ManifestSource, identified


@dataclass
class ReadManifest(ManifestSource):
    """Reads manifests: JSON Lines as NeMo has them, a JSON array, CSV, TSV or Parquet.

    The content says the format, whatever the suffix is; gzip, zstd, bzip2, xz, UTF-16 and byte order marks are read as
    well. A format of a plugin is chosen by its suffix. Relative paths in `filepath_key` are resolved against the
    manifest's folder; the records carry absolute ones. A row that is not a usable record goes to quarantine with file
    and line, and the others continue. A column `_id` that the manifest has is kept as `source_id`.

    Args:
        manifest: a path or glob pattern, or several. Files that a pattern finds are read in the order of their names.
    """

    expects = "JSON objects, one a line or in an array, or rows of a table with names in its first row"

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        unread = self._unread(path) if self.keep or self.drop else ()
        return read_rows(path, after=after, format=_format_of(path), leave_out=unread)

    def count_rows(self, path: Path) -> int | None:
        return count_rows(path, format=_format_of(path))

    def declared_columns(self, path: Path) -> Collection[str] | None:
        return declared_columns(path, format=_format_of(path))

    def can_grow(self, path: Path) -> bool:
        format = _format_of(path)
        return can_grow(path) if format is None else format.can_grow

    def check(self) -> None:
        for path in self.files():
            if _format_of(path) is None and _is_parquet(path):
                check_parquet(path, self._unread(path))
        super().check()

    def check_records(self, path: Path, records: Sequence[Record]) -> None:
        reader = _other_reader(path, records)
        if reader:
            raise PlanError(f"{path} is {reader}")
        super().check_records(path, records)

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the code that reads each format of a plugin; curate's own changes with curate's version."""
        found: dict[str, Any] = {}
        for path in self.inputs():
            reference = current_host().format_of(path)
            if reference is not None and reference.distribution != CURATE:
                found[reference.qualified_name] = describe_code(reference.load().read_rows)
        return {"formats": found} if found else {}

    def _unread(self, path: Path) -> frozenset[str]:
        """Return the columns of a Parquet file that no record has."""
        shape = self.shape()
        if shape is None or not (shape.keep or shape.drop) or _format_of(path) is not None:
            return frozenset()
        if not _is_parquet(path):
            return frozenset()
        return shape.unread(declared_columns(path) or ())


def _other_reader(path: Path, records: Sequence[Record]) -> str:
    """Return a description of a manifest of another tool, with its reader; empty for any other manifest."""
    first = records[0] if records else {}
    audio = first.get(DEFAULT_FILEPATH_KEY)
    if "shard_id" in first and isinstance(audio, str) and not (path.parent / audio).is_file():
        return "a NeMo tarred manifest: its audio is in tars; use read_nemo_tarred"
    if first.get("type") in ("MonoCut", "MultiCut", "MixedCut") or ("start" in first and "recording" in first):
        return "a manifest of Lhotse cuts: use read_lhotse"
    return ""


def _is_parquet(path: Path) -> bool:
    try:
        return judge_content(path).form == "parquet"
    except (OSError, EOFError) as error:
        raise InfrastructureError(f"cannot read the manifest {path}: {error}") from error


def _format_of(path: Path) -> ManifestFormat | None:
    """Return the format of a plugin that has the file's suffix; None: the content decides."""
    reference = current_host().format_of(path)
    return None if reference is None or reference.distribution == CURATE else reference.load()


@dataclass
class ReadRecords(Source):
    """Reads a list of records in memory, for tests, notebooks and small jobs.

    Args:
        records: plain dicts; they are not changed.
        label: the first part of the ids, `<label>:<number>`.
        roots: the folders that audio may lie in; None allows any folder.
    """

    records: Sequence[Record] = field(repr=False)
    label: str = "records"
    roots: str | Path | Sequence[str | Path] | None = None

    tuning = frozenset({"records"})  # they are in the fingerprint as one checksum

    def fingerprint(self) -> Mapping[str, Any]:
        return {"records_sha256": hashlib.sha256(pickle.dumps(list(self.records), 5)).hexdigest()}

    def check(self) -> None:
        check_exist(self.roots or ())
        for number, record in enumerate(self.records, start=1):
            if type(record) is not dict:
                raise PlanError(f"record {number} is a {type(record).__name__}, not a dict")

    def count(self) -> int | None:
        return len(self.records)

    def record_columns(self) -> Collection[str] | None:
        return {name for record in self.records[:SAMPLED_ROWS] for name in identified("", record)} - {ID}

    def audio_roots(self) -> tuple[str, ...] | None:
        return None if self.roots is None else tuple(str(root.absolute()) for root in root_paths(self.roots))

    def read(self, after: str | None = None) -> Iterator[Record | Failed]:
        first = 0 if after is None else int(after.rpartition(":")[2])
        label = self.label
        for number, record in enumerate(self.records[first:], start=first + 1):
            yield identified(f"{label}:{number}", record)
