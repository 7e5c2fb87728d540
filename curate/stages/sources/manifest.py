"""The sources of records: manifests, and lists in memory."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.errors import PlanError
from curate.fingerprint import describe_code
from curate.io import ManifestFormat, Row, count_rows, declared_columns, read_rows
from curate.plugin import CURATE, current_host
from curate.records import ID, Failed, Record
from curate.stage import Source
from curate.stages.sources.manifest_source import SAMPLED_ROWS, ManifestSource, check_exist, identified, root_paths


@dataclass
class ReadManifest(ManifestSource):
    """Reads NeMo manifests: one JSON object a line, or one row of Parquet, for each utterance.

    The suffix says the format: `.jsonl`, `.json`, `.jsonl.gz`, `.parquet`, or that of a plugin; a file with any other
    name is read as JSON Lines. Relative paths in `filepath_key` are resolved against the manifest's folder; the records
    carry absolute ones. A line that is not a usable record goes to quarantine with file and line, and the others
    continue. A column `_id` that the manifest has is kept as `source_id`.

    Args:
        manifest: a path or glob pattern, or several. Files that a pattern finds are read in the order of their names.
        filepath_key: the column that holds the path of the audio.
        roots: the folders that audio may lie in; by default the folder of each manifest.
        dataset_name: the value of the column `dataset_name`; empty: do not write the column.
    """

    expects = "one JSON object a line, or Parquet"

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        return read_rows(path, after=after, format=_format_of(path))

    def count_rows(self, path: Path) -> int | None:
        return count_rows(path, format=_format_of(path))

    def declared_columns(self, path: Path) -> Collection[str] | None:
        return declared_columns(path, format=_format_of(path))

    def can_grow(self, path: Path) -> bool:
        format = _format_of(path)
        return format is not None and format.can_grow

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the code that reads each format of a plugin; curate's own changes with curate's version."""
        found: dict[str, Any] = {}
        for path in self.inputs():
            reference = current_host().format_of(path)
            if reference is not None and reference.distribution != CURATE:
                found[reference.qualified_name] = describe_code(reference.load().read_rows)
        return {"formats": found} if found else {}


def _format_of(path: Path) -> ManifestFormat | None:
    reference = current_host().format_of(path)
    return None if reference is None else reference.load()


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

    def columns(self) -> Collection[str] | None:
        return {name for record in self.records[:SAMPLED_ROWS] for name in identified("", record)} - {ID}

    def audio_roots(self) -> tuple[str, ...] | None:
        return None if self.roots is None else tuple(str(root.absolute()) for root in root_paths(self.roots))

    def read(self, after: str | None = None) -> Iterator[Record | Failed]:
        first = 0 if after is None else int(after.rpartition(":")[2])
        label = self.label
        for number, record in enumerate(self.records[first:], start=first + 1):
            yield identified(f"{label}:{number}", record)
