"""The reader of WebDataset: a source of tars, and a stage that takes their samples apart in workers."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from curate.composite import CompositeStage
from curate.errors import InfrastructureError, PlanError, RecordError
from curate.io.jsonl import MAX_LINE_BYTES, parse_line
from curate.records import DEFAULT_FILEPATH_KEY, ID, Failed, Record
from curate.stage import RecordStage, Reject, Source, Stage
from curate.stages.sources.audio_roots import check_exist, root_paths, root_urls
from curate.stages.sources.known_names import AUDIO_SUFFIXES, with_known_names
from curate.stages.sources.manifest_source import matching_files
from curate.stages.sources.nemo_tarred import expand
from curate.stages.sources.record_shape import ColumnSettings, bcp_47
from curate.storage import SEPARATOR, StoredFile, open_file, tar_members
from curate.storage.tar import TarMember

_SHARD = "shard"
_TEXTS = frozenset({"txt", "lab", "text", "transcript"})


@dataclass
class ShardsReader(Source):
    """Reads a list of tars: one record for each, in the order of the names, for a stage that takes it apart.

    Args:
        shards: a path or pattern, numbered names such as `shard-{000000..000099}.tar`, or several of these.
        roots: the folders that audio may lie in; by default those of the tars.
        dataset_name: written into the column `dataset_name`, unless empty.
    """

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

    def _files(self) -> list[Path]:
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
            raise RecordError("missing_file", f"no such file: {shard}") from error
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
                sample = sample if shape is None else shape.apply(sample)
                if isinstance(sample.get("lang"), str):
                    sample["lang"] = bcp_47(sample["lang"])
                yield sample

    def _sample(self, file: StoredFile, shard: str, key: str, members: list[TarMember]) -> Record:
        audio: Record = {}
        about: Record = {}
        for member in members:
            extension = member.name[len(key) + 1 :]
            kind = extension.rpartition(".")[2].lower()
            if f".{kind}" in AUDIO_SUFFIXES:
                column = extension if audio else self.filepath_key
                audio[column] = f"{shard}{SEPARATOR}{member.name}"
            elif kind == "json":
                about |= _json_of(file, member)
            elif kind in _TEXTS:
                about |= _text_of(file, member, "text" if extension == kind else extension)
            elif kind == "cls":
                about |= _text_of(file, member, extension)
        about = {name: value for name, value in about.items() if name not in (ID, self.filepath_key)}
        return {**audio, **with_known_names(about), "key": key}


def _key_of(name: str) -> str:
    """Return a member's name up to the first dot behind the last slash."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _json_of(file: StoredFile, member: TarMember) -> Record:
    parsed = parse_line(_content(file, member)) if member.size <= MAX_LINE_BYTES else RecordError("line_too_long", "")
    return {"json_error": f"{member.name}: {parsed}"[:300]} if isinstance(parsed, RecordError) else parsed


def _text_of(file: StoredFile, member: TarMember, column: str) -> Record:
    if member.size > MAX_LINE_BYTES:
        return {f"{column}_error": f"{member.name}: it is longer than {MAX_LINE_BYTES} bytes"[:300]}
    return {column: " ".join(_content(file, member).decode("utf-8-sig", errors="replace").split())}


def _content(file: StoredFile, member: TarMember) -> bytes:
    return file.pread(min(member.size, MAX_LINE_BYTES), member.offset)


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
        )
