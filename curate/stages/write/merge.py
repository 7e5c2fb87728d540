"""Publishes the kept records as one file, in the order of the input."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from curate.errors import PlanError
from curate.io.publish import FORMATS, publish
from curate.records import RecordReader
from curate.stage import RUN_FOLDERS, Writer


@dataclass
class Merge(Writer):
    """Writes one manifest that appears whole or not at all.

    Args:
        path: where to; a relative path lies inside the run directory. The ending says the format: `.jsonl`,
            `.jsonl.gz` or `.parquet`.
    """

    path: str | Path

    def check(self) -> None:
        path = Path(os.path.normpath(self.path))
        if not path.name.endswith(tuple(FORMATS)):
            raise PlanError(f"path={str(self.path)!r}: the ending says the format, and is one of {', '.join(FORMATS)}")
        if path.is_absolute():
            above = next(folder for folder in path.parents if folder.exists())
            if not above.is_dir() or not os.access(above, os.W_OK):
                raise PlanError(f"path={str(self.path)!r}: {above} is no folder that may be written to")
        elif path.parts[0] == "..":
            raise PlanError(f"path={str(self.path)!r} leaves the run directory; use an absolute path instead")
        elif len(path.parts) > 1 and path.parts[0] in RUN_FOLDERS:
            raise PlanError(f"path={str(self.path)!r}: {path.parts[0]}/ is where the run keeps its own files")

    def outputs(self) -> tuple[str, ...]:
        return (os.path.normpath(self.path),)

    def write(self, records: RecordReader, directory: Path) -> list[Path]:
        path = directory / os.path.normpath(self.path)
        publish(records, path)
        return [path]
