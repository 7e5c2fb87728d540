"""The merge stage: it publishes the kept records as one file, in the order of the input."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from curate.errors import PlanError
from curate.io import ManifestFormat, publish, with_published_audio
from curate.plugin import current_host
from curate.records import RecordReader
from curate.stage import RUN_FOLDERS, Writer
from curate.stages.write.claims import check_url, claim, require_own_object
from curate.stages.write.places import check_writable
from curate.storage import path_of


@dataclass
class Merge(Writer):
    """Writes one manifest atomically: it is complete or does not exist.

    Args:
        path: the file to write; a relative path lies inside the run directory. It may be a URL, such as
            `s3://bucket/curated.jsonl`; an object that another has written there is not replaced. The suffix selects
            the format: `.jsonl`, `.jsonl.gz`, `.parquet`, or that of a plugin.
    """

    path: str | Path

    tuning = frozenset({"path"})

    def check(self) -> None:
        if "://" in str(self.path):
            _format_of(Path(str(self.path)))
            check_url(str(self.path))
            return
        path = Path(os.path.normpath(self.path))
        _format_of(path)
        check_writable(self.path, path)
        if path.is_absolute():
            return
        if path.parts[0] == "..":
            raise PlanError(f"path={str(self.path)!r} leaves the run directory; use an absolute path instead")
        if len(path.parts) > 1 and path.parts[0] in RUN_FOLDERS:
            raise PlanError(f"path={str(self.path)!r}: {path.parts[0]}/ is reserved for the run's own files")

    def outputs(self) -> tuple[str, ...]:
        return (str(self.path) if "://" in str(self.path) else os.path.normpath(self.path),)

    def check_place(self, directory: Path) -> None:
        if "://" in str(self.path):
            require_own_object(str(self.path), directory)

    def write(self, records: RecordReader, directory: Path) -> list[Path]:
        if "://" in str(self.path):
            return self._upload(records, directory)
        path = directory / os.path.normpath(self.path)
        if (directory / "audio").is_dir():  # the run has made audio of its own
            records = with_published_audio(records, path, directory)
        publish(records, path, format=_format_of(path))
        return [path]

    def _upload(self, records: RecordReader, directory: Path) -> list[Path]:
        path = path_of(str(self.path))
        self.check_place(directory)  # something may have appeared since the run began
        claim(str(path), directory)
        if (directory / "audio").is_dir():
            records = with_published_audio(records, path, directory)
        publish(records, path, format=_format_of(path))
        return [path]


def _format_of(path: Path) -> ManifestFormat:
    """Return the format that a path's suffix says.

    Raises:
        PlanError: it says none, or one that is only read.
    """
    host = current_host()
    reference = host.format_of(path)
    if reference is None or not reference.writable:
        known = ", ".join(suffix for one in host.formats if one.writable for suffix in one.suffixes)
        raise PlanError(f"path={str(path)!r}: the suffix must be one of {known}")
    return reference.load()
