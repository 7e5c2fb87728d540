"""The reader of WebDataset: a source of tars, and a stage that takes their samples apart in workers."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from curate.composite import CompositeStage
from curate.errors import InfrastructureError, PlanError, RecordError
from curate.io.jsonl import MAX_LINE_BYTES, parse_line
from curate.io.rows import is_finite_number
from curate.records import DEFAULT_FILEPATH_KEY, ID, Failed, Record
from curate.stage import RecordStage, Reject, Source, Stage
from curate.stages.sources.audio_roots import check_exist, root_paths, root_urls
from curate.stages.sources.known_names import AUDIO_SUFFIXES, with_known_names
from curate.stages.sources.manifest_source import matching_files
from curate.stages.sources.nemo_tarred import expand
from curate.stages.sources.record_shape import ColumnSettings, bcp_47
from curate.storage import SEPARATOR, StoredFile, open_file, path_of, tar_members
from curate.storage.tar import TarMember

_SHARD = "shard"
_ERROR = "_sample_error"
"""The column of a sample that cannot be read: the code and the message."""

_TEXTS = frozenset({"txt", "lab", "text", "transcript"})


@dataclass
class ShardsReader(Source):
    """Reads a list of tars: one record for each, in the order of the names, for a stage that takes it apart.

    Args:
        shards: a path or pattern, numbered names such as `shard-{000000..000099}.tar`, or several of these.
        roots: the folders that audio may lie in; by default those of the tars.
        dataset_name: written into the column `dataset_name`, unless empty.
    """

    lists = True

    shards: str | Path | Sequence[str | Path]
    roots: str | Path | Sequence[str | Path] = ()
    dataset_name: str = ""

    def check(self) -> None:
        check_exist(self.roots)
        self._files()

    def count(self) -> int | None:
        return len(self._files())

    def record_columns(self) -> Collection[str] | None:
        return None  # those of the samples are known in the workers alone

    def audio_roots(self) -> tuple[str, ...] | None:
        folders = root_paths(self.roots) if self.roots else [path.parent for path in self._files()]
        return tuple(dict.fromkeys([*(str(folder.absolute()) for folder in folders), *root_urls(self.roots)]))

    def inputs(self) -> Sequence[Path]:
        return self._files()

    def read(self, after: str | None = None) -> Iterator[Record | Failed]:
        named = {"dataset_name": self.dataset_name} if self.dataset_name else {}
        files = [(f"{path}:1", path) for path in self._files()]
        if after is not None:
            if after not in dict(files):
                raise PlanError(f"unknown record {after!r}: its tar is not among the shards")
            files = files[[identity for identity, _ in files].index(after) + 1 :]
        for identity, path in files:
            yield {ID: identity, _SHARD: str(path.absolute()), **named}

    def listing(self) -> Iterator[str] | None:
        found = list(map(str, self._found()))
        return None if set(found) <= set(expand(self.shards)) else iter(found)

    def use_listing(self, names: Iterable[str] | None) -> None:
        self._shards_of_run = None if names is None else [path_of(name) for name in names]

    def _files(self) -> Sequence[Path]:
        listed: Sequence[Path] | None = getattr(self, "_shards_of_run", None)
        return self._found() if listed is None else listed

    def _found(self) -> list[Path]:
        return [path for name in expand(self.shards) for path in matching_files(name)]


@dataclass
class SplitShard(ColumnSettings, RecordStage):
    """Takes a tar apart: one record for each sample, whose files have the same name up to the first dot.

    Only headers, `.json` and `.txt` are read; recordings stay in the tar. It runs in workers, so no tar is read through
    by the driver.

    Args:
        filepath_key: the column for the place of the recording.
    """

    cardinality = "splits"

    filepath_key: str = DEFAULT_FILEPATH_KEY

    def reads(self) -> Sequence[str]:
        return (_SHARD,)

    def check(self) -> None:
        self.shape()

    def process_record(self, record: Record) -> Iterator[Record] | Reject:
        shard = record[_SHARD]
        rest = {name: value for name, value in record.items() if name != _SHARD}
        try:
            with open_file(shard) as file:
                samples = list(self._samples(file, shard))
        except FileNotFoundError as error:
            raise RecordError("missing_file", f"{shard} does not exist") from error
        except OSError as error:
            raise InfrastructureError(f"cannot read {shard} to its end: {error}") from error
        if not samples:
            return Reject("the tar has no samples")
        return iter([{**rest, **sample} for sample in samples])

    def _samples(self, file: StoredFile, shard: str) -> Iterator[Record]:
        shape = self.shape()
        for key, members in itertools.groupby(tar_members(file), key=lambda member: _key_of(member.name)):
            if PurePosixPath(key).name:
                sample = self._sample(file, shard, key, list(members))
                if _ERROR in sample:
                    yield sample
                    continue
                sample = sample if shape is None else shape.apply(sample)
                if isinstance(sample.get("lang"), str):
                    sample["lang"] = bcp_47(sample["lang"])
                yield sample

    def _sample(self, file: StoredFile, shard: str, key: str, members: list[TarMember]) -> Record:
        audio: Record = {}
        about: Record = {}
        place = f"{shard}{SEPARATOR}{key}"
        names = [member.name for member in members]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            return _unreadable(key, RecordError("bad_row", f"{place}: the tar has {twice!r:.200} more than once"))
        for member in members:
            extension = member.name[len(key) + 1 :]
            kind = extension.rpartition(".")[2].lower()
            if f".{kind}" in AUDIO_SUFFIXES:
                column = extension if audio else self.filepath_key
                audio[column] = f"{shard}{SEPARATOR}{member.name}"
            elif kind == "json" or kind in _TEXTS or kind == "cls":
                found = _columns_of(file, member, kind, extension)
                if isinstance(found, RecordError):
                    error = RecordError(found.code, f"{shard}{SEPARATOR}{member.name}: {found}"[:500])
                    return {**audio, **_unreadable(key, error)}
                about |= found
        about = {name: value for name, value in about.items() if name not in (ID, self.filepath_key)}
        about = with_known_names(about)
        for name in ("duration", "offset"):
            value: Any = about.get(name)
            if value is not None and not (is_finite_number(value) and value >= 0):
                error = RecordError("bad_value", f"{place}: {name} = {value!r:.80} is not a number of seconds")
                return {**audio, **_unreadable(key, error)}
        return {**audio, **about, "key": key}


def _unreadable(key: str, error: RecordError) -> Record:
    return {"key": key, _ERROR: [error.code, str(error)]}


def _key_of(name: str) -> str:
    """Return a member's name up to the first dot behind the last slash."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _columns_of(file: StoredFile, member: TarMember, kind: str, extension: str) -> Record | RecordError:
    """Return the columns that a file of a sample becomes, or what is wrong with it."""
    if member.size > MAX_LINE_BYTES:
        return RecordError("line_too_long", f"it is longer than {MAX_LINE_BYTES} bytes")
    content = file.pread(member.size, member.offset)
    if kind == "json":
        return parse_line(content)
    try:
        text = " ".join(content.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        return RecordError("bad_row", f"it is not UTF-8: {error.reason} at byte {error.start}")
    return {"text" if kind in _TEXTS and extension.lower() == kind else extension: text}


@dataclass
class SampleStage(RecordStage):
    """Sends a sample to quarantine whose `.json` or `.txt` could not be read; the other samples of its tar continue."""

    def process_record(self, record: Record) -> Record:
        if _ERROR in record:
            code, message = record[_ERROR]
            raise RecordError(code, message)
        return record


@dataclass
class WebDatasetReader(ColumnSettings, CompositeStage):
    """Reads WebDataset tars: files with one name up to the first dot are a sample.

    The recording (`.flac`, `.wav`, `.opus`, …) stays in the tar and is `audio_filepath`; further recordings of a sample
    have columns named by their extension. The fields of `.json` are columns, `.txt` is `text`, and `key` is the name.
    The tars are taken apart by workers.

    Args:
        shards: a path or pattern, numbered names such as `shard-{000000..000099}.tar`, or several of these.
        roots: the folders that audio may lie in; by default those of the tars.
        dataset_name: written into the column `dataset_name`, unless empty.
        filepath_key: the column for the place of the recording.
    """

    name = "read_webdataset"

    shards: str | Path | Sequence[str | Path]
    roots: str | Path | Sequence[str | Path] = ()
    dataset_name: str = ""
    filepath_key: str = DEFAULT_FILEPATH_KEY

    def decompose(self) -> Sequence[Stage]:
        settings: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(ColumnSettings)}
        return (
            ShardsReader(self.shards, self.roots, self.dataset_name).with_(name="shards"),
            SplitShard(filepath_key=self.filepath_key, **settings).with_(name="samples"),
            SampleStage().with_(name="readable"),
        )
