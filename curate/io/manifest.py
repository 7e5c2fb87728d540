"""Reads the rows of manifests in any format, one at a time with their number in the file, and publishes records."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from curate.errors import InfrastructureError, PlanError
from curate.io.by_content import columns_by_content, count_by_content, read_by_content, require_records
from curate.io.delimited import CSV, TSV
from curate.io.failpoints import failpoint
from curate.io.format import ManifestFormat, Row, WriteOptions
from curate.io.jsonl import GZ, JSONL, JSONL_GZ, NEMO_JSON, json_rows
from curate.io.parquet import PARQUET
from curate.records import RecordReader
from curate.storage import RemotePath, replacing

FORMATS: Mapping[str, ManifestFormat] = MappingProxyType(
    {format.name: format for format in (JSONL, NEMO_JSON, JSONL_GZ, GZ, CSV, TSV, PARQUET)}
)
"""The formats of curate itself, by name; those of plugins are announced by `curate_formats`."""


def find_format(path: Path, formats: Iterable[ManifestFormat] = tuple(FORMATS.values())) -> ManifestFormat | None:
    """Return the format with the longest suffix that the file's name ends in; None: the name ends in none of them."""
    name = path.name.lower()
    fitting = [(len(suffix), format) for format in formats for suffix in format.suffixes if name.endswith(suffix)]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def read_rows(
    path: Path, *, after: int = 0, format: ManifestFormat | None = None, leave_out: Collection[str] = ()
) -> Iterator[Row]:
    """Yield the rows of a manifest that come after number `after`.

    Args:
        path: the file.
        after: the number of the last row that is not wanted.
        format: None: as the content shows, whatever the suffix says.
        leave_out: columns that need not be read, where the content is Parquet.

    Raises:
        PlanError: the file holds something else than records, such as a recording.
        InfrastructureError: the file cannot be read, or ends in the middle.
    """
    try:
        if format is not None:
            yield from format.read_rows(path, after)
        elif _is_plain_jsonl(path, (status := path.stat()).st_size, status.st_mtime_ns):
            with path.open("rb") as file:
                yield from json_rows(file, after)
        else:
            yield from read_by_content(path, after, leave_out)
    except (OSError, EOFError) as error:
        raise InfrastructureError(f"cannot read the manifest {path} to its end: {error}") from error


def count_rows(path: Path, *, format: ManifestFormat | None = None) -> int | None:
    """Return about how many rows a manifest has; None: unknown.

    Raises:
        InfrastructureError: the file cannot be read.
    """
    try:
        return count_by_content(path) if format is None else format.count_rows(path)
    except (OSError, EOFError) as error:
        raise InfrastructureError(f"cannot read the manifest {path}: {error}") from error


def declared_columns(path: Path, *, format: ManifestFormat | None = None) -> Collection[str] | None:
    """Return the columns that a manifest declares; None: its format declares none.

    Raises:
        InfrastructureError: the file cannot be read.
    """
    try:
        return columns_by_content(path) if format is None else format.columns(path)
    except (OSError, EOFError) as error:
        raise InfrastructureError(f"cannot read the manifest {path}: {error}") from error


def publish(
    records: RecordReader, path: Path, *, format: ManifestFormat | None = None, options: WriteOptions | None = None
) -> None:
    """Write records to a file, and make its folder.

    Args:
        records: read once or several times, in the order of the input.
        path: the file.
        format: None: as the suffix says.
        options: None: the defaults.

    Raises:
        PlanError: the format is only read, or the suffix says none.
        InfrastructureError: the file cannot be written.
    """
    publish_together({path: records}, format=format, options=options)


def publish_together(
    files: Mapping[Path, RecordReader],
    *,
    format: ManifestFormat | None = None,
    options: WriteOptions | None = None,
    check: Callable[[Path], object] | None = None,
) -> None:
    """Write records to several files, none of which is replaced before all are written.

    Args:
        files: path → records; the other arguments and the errors are those of `publish`.
        check: called before a local file gets its name; what it raises leaves the file as it was.
    """
    with ExitStack() as renamed:
        for path, records in files.items():
            written = format or find_format(path)
            if written is None or (written.write is None and written.write_with is None):
                raise PlanError(f"cannot write {path}: no format that can be written has this suffix")
            if isinstance(path, RemotePath):
                file = renamed.enter_context(_uploading(path))
            else:
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise InfrastructureError(f"cannot create {path.parent}: {error.strerror or error}") from error
                failpoint("publish.before_write")
                complete = partial(failpoint, "publish.after_temporary")
                before_rename = complete if check is None else partial(_checked, complete, partial(check, path))
                file = renamed.enter_context(replacing(path, before_rename=before_rename))
            if written.write_with is not None:
                written.write_with(records, file, options or WriteOptions())
            elif written.write is not None:
                written.write(records, file)
    failpoint("publish.after_rename")


def _checked(complete: Callable[[], object], check: Callable[[], object]) -> None:
    complete()
    check()


@contextmanager
def _uploading(path: RemotePath) -> Generator[BinaryIO]:
    failpoint("publish.before_write")
    try:
        with path.writing() as file:
            yield file
            failpoint("publish.after_temporary")
    except OSError as error:
        raise InfrastructureError(f"cannot write {path}: {error}") from error


@functools.lru_cache(maxsize=1024)
def _is_plain_jsonl(path: Path, size: int, mtime_ns: int) -> bool:
    """Return whether a file is like most manifests; the answer is kept until its size or its time changes."""
    content = require_records(path)
    return content.form == "json lines" and not content.compression and content.encoding == "utf-8"
