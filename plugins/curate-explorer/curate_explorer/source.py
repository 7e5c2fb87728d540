"""What is explored: the records of a run with their outcomes, or the rows of a manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs

from curate.audio.files import roots_in_run
from curate.engine import RunReader
from curate.errors import PlanError, RecordError
from curate.io import read_rows

KEPT, FILTERED, FAILED = "kept", "filtered", "failed"


@attrs.frozen
class Row:
    """A record and its outcome.

    Args:
        stage: the stage that has filtered it, or at which it failed; "" if it is kept.
        reason: of the filter, or the message of the error.
        code: of the error.
    """

    id: str
    outcome: str
    record: Mapping[str, Any]
    stage: str = ""
    reason: str = ""
    code: str = ""


class Source(Protocol):
    """What is explored."""

    key: str
    """Changes when the rows do."""
    name: str
    path: Path
    roots: Sequence[str] | None
    """The folders that audio may be read from; None: any."""
    base: Path
    """The folder that relative paths of audio start from."""

    def rows(self) -> Iterator[Row]:
        """Yield all rows, in an order that does not change."""
        ...


class RunSource:
    """A run directory: kept records, then filtered, then failed ones.

    Args:
        path: the run directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = RunReader(path)
        self.name = self.run.name
        described = self.run.description.get("audio_roots", ())
        self.roots: Sequence[str] | None = roots_in_run(described, path)
        self.base = Path(self.run.origin.get("folder") or ".")
        commits = [f"{phase}:{each.unit}:{each.rows}" for phase, found in self.run.commits.items() for each in found]
        self.key = json.dumps([str(path.resolve()), self.run.committed_at(), commits])

    def rows(self) -> Iterator[Row]:
        for record in self.run.records():
            yield Row(str(record.get("_id", "")), KEPT, _without_id(record))
        for note in self.run.filtered():
            yield Row(
                str(note.get("_id", "")),
                FILTERED,
                _without_id(note.get("record") or {}),
                str(note.get("stage", "")),
                str(note.get("reason", "")),
            )
        for note in self.run.failed():
            yield Row(
                str(note.get("_id", "")),
                FAILED,
                _without_id(note.get("record") or {}),
                str(note.get("stage", "")),
                str(note.get("message", "")),
                str(note.get("code", "")),
            )


class ManifestSource:
    """A manifest in any format that curate reads; a line that is not a record is shown as failed.

    Args:
        path: the manifest.
        roots: the folders that audio may be read from; by default the manifest's own.
    """

    def __init__(self, path: Path, roots: Sequence[str] | None = None) -> None:
        state = path.stat()
        self.path = path
        self.name = path.name
        self.base = path.resolve().parent
        self.roots: Sequence[str] | None = list(roots) if roots else [str(self.base)]
        self.key = json.dumps([str(path.resolve()), state.st_size, state.st_mtime_ns])

    def rows(self) -> Iterator[Row]:
        for number, row in read_rows(self.path):
            identity = f"{self.path.name}:{number}"
            if isinstance(row, RecordError):
                yield Row(identity, FAILED, {}, "read_manifest", row.message, row.code)
            else:
                yield Row(str(row.get("_id") or identity), KEPT, _without_id(row))


def open_source(path: Path, roots: Sequence[str] | None = None) -> RunSource | ManifestSource:
    """Return the source at a path.

    Raises:
        PlanError: it is neither a run directory nor a manifest.
    """
    if path.is_dir():
        return RunSource(path)
    if not path.is_file():
        raise PlanError(f"{path}: there is no run directory and no manifest")
    return ManifestSource(path, roots)


def _without_id(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in record.items() if name != "_id"}
