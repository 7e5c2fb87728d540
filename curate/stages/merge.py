"""Publishes the kept records as one file, in the order of the input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from curate.errors import PlanError
from curate.io.publish import FORMATS, publish
from curate.records import RecordReader
from curate.stage import Writer


@dataclass
class Merge(Writer):
    """Writes one manifest that appears whole or not at all.

    Args:
        path: where to; a relative path lies inside the run directory. The ending says the format: `.jsonl`,
            `.jsonl.gz` or `.parquet`.
    """

    path: str

    def check(self) -> None:
        if not str(self.path).endswith(tuple(FORMATS)):
            raise PlanError(f"path={str(self.path)!r}: the ending says the format, and is one of {', '.join(FORMATS)}")
        if not Path(self.path).is_absolute() and ".." in Path(self.path).parts:
            raise PlanError(f"path={str(self.path)!r} leaves the run directory; use an absolute path instead")

    def outputs(self) -> tuple[str, ...]:
        return (str(self.path),)

    def write(self, records: RecordReader, directory: Path) -> list[Path]:
        path = directory / self.path
        publish(records, path)
        return [path]
