"""Publishes the records of a run as one file, which appears whole or not at all."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from curate.errors import InfrastructureError, PlanError
from curate.io.failpoints import failpoint
from curate.io.format import ManifestFormat
from curate.io.manifest import find_format
from curate.records import RecordReader
from curate.storage import replacing


def publish(records: RecordReader, path: Path, *, format: ManifestFormat | None = None) -> None:
    """Write records to a file, and make its folder.

    Args:
        records: read once or several times, in the order of the input.
        path: the file.
        format: None: as the suffix says.

    Raises:
        PlanError: the format is only read, or the suffix says none.
        InfrastructureError: the file cannot be written.
    """
    format = format or find_format(path)
    if format is None or format.write is None:
        raise PlanError(f"cannot write {path}: no format that can be written has this suffix")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(f"cannot create {path.parent}: {error.strerror or error}") from error
    failpoint("publish.before_write")
    with replacing(path, before_rename=partial(failpoint, "publish.after_temporary")) as file:
        format.write(records, file)
    failpoint("publish.after_rename")
