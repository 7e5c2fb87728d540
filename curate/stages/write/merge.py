"""The merge stage: it publishes the records as one file, or one for each value of a column, in the input's order."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Literal

from curate.errors import InfrastructureError, PlanError
from curate.io import ManifestFormat, WriteOptions, publish_together, with_published_audio
from curate.io.failpoints import failpoint
from curate.io.selected import ChosenColumns, divide
from curate.plugin import current_host
from curate.records import Record, RecordReader
from curate.stage import RUN_FOLDERS, Source, Writer
from curate.stages.write.assignment import folder_name
from curate.stages.write.claims import check_url, claim, claimed, is_meant_as_url, release, require_own_file
from curate.stages.write.licenses import check_licenses, is_denied
from curate.stages.write.places import check_writable
from curate.stages.write.uploads import upload_files
from curate.storage import RemotePath, delete, is_url, path_of, temporary_path

_COMPRESSIONS = ("zstd", "snappy", "gzip", "none")


@dataclass
class Merge(Writer):
    """Writes one manifest atomically: it is complete or does not exist.

    A path such as `{split}.jsonl` gives one file for each value of the columns in braces; they are replaced together,
    when all are written. Behind a URL they appear one after the other, each whole.

    Args:
        path: the file to write; a relative path lies inside the run directory. It may be a URL, such as
            `s3://bucket/curated.jsonl`. The suffix selects the format: `.jsonl`, `.jsonl.gz`, `.csv`, `.tsv`,
            `.parquet`, or that of a plugin. A file outside the run directory, or an object, that this run has not
            written is never replaced.
        columns: the only columns to write, in this order; empty: all, as they first occur.
        compression: of Parquet: `zstd` (the default), `snappy`, `gzip` or `none`.
        row_group_records: of Parquet: how many records a group of rows has.
        deny_licenses: patterns of licenses that are not published, such as `CC-BY-NC*`; a record that has one ends the
            run, and a source that has one for all its records is an error of the plan.
    """

    path: str | Path
    columns: list[str] = field(default_factory=list[str])
    compression: Literal["zstd", "snappy", "gzip", "none"] | None = None
    row_group_records: int | None = None
    deny_licenses: list[str] = field(default_factory=list[str])

    tuning = frozenset({"path", "columns", "compression", "row_group_records"})

    def check(self) -> None:
        remote = is_meant_as_url(self.path)
        path = Path(str(self.path) if remote else os.path.normpath(self.path))
        self._check_options(_format_of(path))
        template_columns(str(self.path) if remote else str(path))
        if remote:
            check_url(str(self.path))
            if "{" in str(self.path).partition("://")[2].partition("/")[0]:
                raise PlanError(f"path={str(self.path)!r}: columns in braces may name objects, and not the bucket")
            return
        check_writable(self.path, path)
        if path.is_absolute():
            return
        if path.parts[0] == "..":
            raise PlanError(f"path={str(self.path)!r} leaves the run directory; use an absolute path instead")
        if len(path.parts) > 1 and (path.parts[0] in RUN_FOLDERS or path.parts[0].startswith("{")):
            raise PlanError(f"path={str(self.path)!r}: {path.parts[0]}/ is reserved for the run's own files")

    def _check_options(self, format: ManifestFormat) -> None:
        for name in ("compression", "row_group_records"):
            if getattr(self, name) is not None and name not in format.options:
                raise PlanError(f"path={str(self.path)!r}: the format {format.name} has no {name}")
        if self.compression not in (None, *_COMPRESSIONS):
            raise PlanError(f"compression={self.compression!r} is none of {', '.join(_COMPRESSIONS)}")
        if self.row_group_records is not None and self.row_group_records < 1:
            raise PlanError(f"row_group_records={self.row_group_records!r} must be at least 1")
        if len(set(self.columns)) < len(self.columns):
            raise PlanError(f"columns={self.columns!r:.80}: a column stands twice")

    def reads(self) -> Collection[str]:
        needed = ("license",) if self.deny_licenses else ()
        return dict.fromkeys((*template_columns(str(self.path)), *self.columns, *needed))

    def check_sources(self, sources: Sequence[Source]) -> None:
        check_licenses(self.name, self.deny_licenses, sources)

    def outputs(self) -> tuple[str, ...]:
        return (str(self.path) if is_url(self.path) else os.path.normpath(self.path),)

    def check_place(self, directory: Path) -> None:
        place = self._place(directory)
        if not place.is_relative_to(directory) and "{" not in str(self.path):
            require_own_file(place, directory)

    def _place(self, directory: Path) -> Path:
        """Return the path of the file, or the template of the paths."""
        return path_of(str(self.path)) if is_url(self.path) else directory / os.path.normpath(self.path)

    def write(self, records: RecordReader, directory: Path) -> list[Path]:
        if self.deny_licenses:
            self._check_licenses(records)
        if self.columns:
            records = ChosenColumns(records, self.columns)
        place = self._place(directory)
        is_template = "{" in str(self.path)
        with ExitStack() as stack:
            files: Mapping[Path, RecordReader] = {place: records}
            scratch = stack.enter_context(_scratch(directory)) if is_template else directory
            if is_template:
                files = self._divided(records, directory, scratch)
            check: Callable[[Path], object] | None = None
            if is_template or not place.is_relative_to(directory):
                new = {path for path in files if not isinstance(path, RemotePath) and not path.exists()}
                self._claim(list(files), directory)
                check = partial(self._require_free, new=new, directory=directory)
            if (directory / "audio").is_dir():  # the run has made audio of its own
                files = {path: with_published_audio(each, path, directory) for path, each in files.items()}
            options = WriteOptions(self.compression, self.row_group_records, self.columns or list(self.planned_columns))
            format = _format_of(Path(self.path))
            if not (is_template and is_url(self.path)):
                publish_together(files, format=format, options=options, check=check)
                return list(files)
            # all are written to this disk first: a store's own buffers would be as many as the files
            whole = {str(url): scratch / f"object-{number}" for number, url in enumerate(files)}
            publish_together({whole[str(url)]: each for url, each in files.items()}, format=format, options=options)
            self._upload(whole, directory)
            return list(files)

    def _upload(self, files: Mapping[str, Path], directory: Path) -> None:
        """Upload files, and delete the objects of values that are gone.

        Raises:
            InfrastructureError: the store cannot be reached, or refuses a file.
        """
        failpoint("set.before_rename")
        try:
            upload_files(files)
            failpoint("set.after_rename")
            own = _pattern(str(self.path))
            gone = [url for url in claimed(self.name, directory) if url not in files and own.fullmatch(url)]
            for url in gone:
                delete(url)
            release(self.name, [url for url in gone if not path_of(url).exists()], directory)
        except OSError as error:
            raise InfrastructureError(f"cannot publish {self.path}: {error}") from error

    def _divided(self, records: RecordReader, directory: Path, scratch: Path) -> Mapping[Path, RecordReader]:
        """Return the files to write, each with its records."""
        template = str(self.path) if is_url(self.path) else os.path.normpath(self.path)
        names = template_columns(template)

        def place_of(record: Record) -> str:
            return template.format(**{name: folder_name(record.get(name)) for name in names})

        files = divide(records, place_of, scratch)
        return {path_of(place) if is_url(place) else directory / place: each for place, each in files.items()}

    def _check_licenses(self, records: RecordReader) -> None:
        for record in records:
            if is_denied(record.get("license"), self.deny_licenses):
                raise InfrastructureError(
                    f"stage {self.name!r} denies the license {record['license']!r} of {record['_id']}; "
                    "leave such records out with filter_quality, or change deny_licenses"
                )

    def _claim(self, paths: Sequence[Path], directory: Path) -> None:
        """Claim the files before they are written, and delete those that it no longer has.

        Raises:
            PlanError: a file is there already, and not this run's.
        """
        for path in paths:
            if not path.is_relative_to(directory):
                require_own_file(path, directory)
        for gone in claim(self.name, paths, directory):
            gone.unlink(missing_ok=True)

    def _require_free(self, path: Path, *, new: Collection[Path], directory: Path) -> None:
        """Check that a file which was not there before it was written has not appeared meanwhile.

        Raises:
            PlanError: another run has published it; it is not claimed any more.
        """
        if path in new and path.exists():
            release(self.name, [str(path.absolute())], directory)
            require_own_file(path, directory)


def template_columns(template: str) -> list[str]:
    """Return the columns in braces in a path.

    Raises:
        PlanError: the braces are not in pairs, or hold something else.
    """
    try:
        names = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise PlanError(f"path={template!r}: {error}") from None
    for name in names:
        if not name.isidentifier():
            raise PlanError(f"path={template!r}: {{{name}}} is not a column in braces, such as {{split}}")
    return list(dict.fromkeys(names))


def _pattern(template: str) -> re.Pattern[str]:
    """Return a pattern of the paths that a template gives."""
    parts = Formatter().parse(template)
    return re.compile("".join(re.escape(text) + ("" if name is None else "[^/]+") for text, name, _, _ in parts))


@contextmanager
def _scratch(directory: Path) -> Generator[Path]:
    """Give a folder in the run directory; that of a killed attempt is removed by the next."""
    folder = temporary_path(directory / "merge")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
