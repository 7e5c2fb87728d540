"""The reader of Hugging Face's audio data sets: Parquet, `save_to_disk` folders, and folders with a metadata file."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from curate.errors import InfrastructureError, PlanError, RecordError
from curate.io import Row, audio_columns, count_rows, read_rows
from curate.io.parquet import rows_of
from curate.io.parquet_schema import parquet_source
from curate.stages.sources.audio_roots import listed_paths, root_paths
from curate.stages.sources.known_names import with_known_names
from curate.stages.sources.manifest_source import RowSource, matching_files
from curate.storage import SEPARATOR, RemotePath, open_file
from curate.storage.columnar import arrow_batches

_SPLIT = re.compile(r"^([A-Za-z][\w.]*?)-\d{5}-of-\d{5}")
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_SPLITS = frozenset({"train", "validation", "valid", "dev", "test"})
_HEAD_BYTES = 512


@dataclass
class HuggingFaceReader(RowSource):
    """Reads audio data sets of Hugging Face: Parquet with an Audio column, `save_to_disk` and `AudioFolder` folders.

    The recordings stay in the file: `audio_filepath` is `train.parquet::audio/17`, for row 17, and their column is
    never read by the driver. Columns that others know by another name are renamed (`sentence` to `text`, `speaker_id`
    to `speaker`, …) unless the name is taken; a ClassLabel becomes its name; `split` comes from names of files or
    folders.

    Args:
        path: a file, a pattern, several, or a folder: of `save_to_disk`, with `metadata.csv` or `.jsonl`, or with
            Parquet files.
        audio: the column of recordings; empty: the one that the file declares.
    """

    name = "read_hf"

    expects = "rows with recordings"

    path: str | Path | Sequence[str | Path]
    audio: str = ""

    def row_files(self) -> Sequence[Path]:
        files: list[Path] = []
        for one in listed_paths(self.path):
            files += _files_in(Path(one)) if Path(one).is_dir() else matching_files(one)
        return files

    def given(self) -> Collection[str]:
        return listed_paths(self.path)

    @property
    def described_input(self) -> str:
        return str(self.path)

    def roots_of(self, path: Path) -> list[Path]:
        return root_paths(self.roots) if self.roots else [path.parent]

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        rows = self._table_rows(path, after) if _is_columnar(path) else self._metadata_rows(path, after)
        split = _split_of(path)
        for number, row in rows:
            if isinstance(row, RecordError):
                yield number, row
                continue
            record = with_known_names(row)
            yield number, record if split is None or "split" in record else {**record, "split": split}

    def _metadata_rows(self, path: Path, after: int) -> Iterator[Row]:
        for number, row in read_rows(path, after=after):
            if not isinstance(row, RecordError):
                if not isinstance(row.get("file_name"), str):
                    yield number, RecordError("missing_column", "the row has no 'file_name'")
                    continue
                row = {self.filepath_key: row["file_name"], **{k: v for k, v in row.items() if k != "file_name"}}
            yield number, row

    def _table_rows(self, path: Path, after: int) -> Iterator[Row]:
        schema = _schema_of(path)
        audio = self._audio_column(path, schema)
        labels = _labels_of(schema, path)
        others = [name for name in schema.names if name not in (*audio_columns(schema), audio)]
        where = str(path.absolute())
        for number, row in _rows_without(path, schema, others, after):
            if isinstance(row, RecordError):
                yield number, row
                continue
            for name, names in labels.items():
                value = row.get(name)
                if isinstance(value, int) and 0 <= value < len(names):
                    row[name] = names[value]
            yield number, {self.filepath_key: f"{where}{SEPARATOR}{audio}/{number}", **row}

    def _audio_column(self, path: Path, schema: Any) -> str:
        found = [self.audio] if self.audio else audio_columns(schema)
        if self.audio and self.audio not in schema.names:
            raise PlanError(f"audio: {path} has no column {self.audio!r}; it has {', '.join(schema.names)}")
        if len(found) != 1:
            raise PlanError(
                f"{path} has {len(found) or 'no'} columns of recordings"
                + (
                    f" ({', '.join(found)}); choose one with audio: …"
                    if found
                    else f" (structs of bytes and path) among {', '.join(schema.names)}"
                )
            )
        return found[0]

    def declared_columns(self, path: Path) -> Collection[str] | None:
        if not _is_columnar(path):
            return None
        schema = _schema_of(path)
        audio = self._audio_column(path, schema)
        names = [name for name in schema.names if name not in (*audio_columns(schema), audio)]
        record = with_known_names(dict.fromkeys([self.filepath_key, *names]))
        split = {} if _split_of(path) is None else {"split": None}
        return list(record | split)

    def count_rows(self, path: Path) -> int | None:
        if path.suffix == ".arrow":
            return sum(batch.num_rows for batch in _batches(path))
        return count_rows(path)


def _files_in(folder: Path) -> list[Path]:
    """Return the files of rows in a folder, by the form that it has."""
    if (folder / "dataset_dict.json").is_file():
        return [
            path for split in _named_in(folder / "dataset_dict.json", "splits") for path in _files_in(folder / split)
        ]
    if (folder / "state.json").is_file():
        files = [folder / name for name in _named_in(folder / "state.json", "_data_files")]
        missing = [path for path in files if not path.is_file()]
        if missing:
            raise PlanError(f"{missing[0]} is missing, which {folder / 'state.json'} names; copy the whole folder")
        return files
    metadata = [path for name in _METADATA for path in sorted(folder.rglob(name)) if path.is_file()]
    if metadata:
        return metadata
    tables = _files_below(folder, "*.parquet") or _files_below(folder, "*.arrow")
    if not tables:
        raise PlanError(
            f"{folder} is not a data set of Hugging Face: it has neither state.json nor metadata.csv, "
            "metadata.jsonl or Parquet files"
        )
    return tables


def _named_in(path: Path, key: str) -> list[str]:
    """Return the names in a list of one of the files that `save_to_disk` writes."""
    described = _json_of(path.read_bytes(), str(path))
    found: Any = cast("dict[str, Any]", described).get(key) if isinstance(described, dict) else None
    names: list[Any] = [
        cast("dict[str, Any]", one).get("filename") if isinstance(one, dict) else one
        for one in (cast("list[Any]", found) if isinstance(found, list) else [None])
    ]
    if not all(isinstance(name, str) for name in names):
        raise PlanError(f"{path} is damaged: it has no list of names under {key!r}; write the data set again")
    return names


def _files_below(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.rglob(pattern) if path.is_file())


def _is_columnar(path: Path) -> bool:
    return path.name not in _METADATA and _head_of(path).startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"))


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _split_of(path: Path) -> str | None:
    match = _SPLIT.match(path.name)
    if match is not None and match[1] != "data":
        return match[1]
    return path.parent.name if path.parent.name in _SPLITS else None


def _schema_of(path: Path) -> Any:
    import pyarrow
    from pyarrow import parquet

    arrow: Any = pyarrow
    head = _head_of(path)
    try:
        if head.startswith(b"PAR1"):
            with parquet_source(path) as source:
                return cast("Any", parquet).read_schema(source)
        opened = arrow.ipc.open_file if head.startswith(b"ARROW1") else arrow.ipc.open_stream
        with path.open("rb") if isinstance(path, RemotePath) else arrow.memory_map(str(path)) as source:
            return opened(source).schema
    except (OSError, arrow.ArrowException) as error:
        raise InfrastructureError(f"cannot read {path}: {error}") from error


def _labels_of(schema: Any, path: Path) -> Mapping[str, list[str]]:
    """Return the names of the classes in each column of class labels."""
    metadata: dict[bytes, bytes] = schema.metadata or {}
    described: Any = {}
    info = path.parent / "dataset_info.json"
    if b"huggingface" in metadata:
        described = _member(_json_of(metadata[b"huggingface"], f"the metadata of {path}"), "info")
    elif info.is_file():
        described = _json_of(info.read_bytes(), str(info))
    features = _member(described, "features")
    return {name: about["names"] for name, about in features.items() if _is_label(about)}


def _json_of(content: bytes, where: str) -> Any:
    """Return a value of JSON.

    Raises:
        PlanError: it is none.
    """
    try:
        return json.loads(content)
    except ValueError as error:
        raise PlanError(f"{where} is damaged: {error}; write the data set again") from error


def _member(value: Any, name: str) -> dict[str, Any]:
    """Return an object within another one; an empty one where there is none."""
    found: Any = cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _is_label(about: Any) -> bool:
    if not isinstance(about, dict):
        return False
    found = cast("dict[str, Any]", about)
    return found.get("_type") == "ClassLabel" and isinstance(found.get("names"), list)


def _batches(path: Path) -> Iterator[Any]:
    with open_file(path) as file:
        yield from arrow_batches(file, _head_of(path))


def _rows_without(path: Path, schema: Any, names: list[str], after: int) -> Iterator[Row]:
    """Yield the rows of a table with these columns only; the bytes of the others are not read."""
    import pyarrow

    arrow: Any = pyarrow
    if _head_of(path).startswith(b"PAR1") and names:
        yield from read_rows(path, after=after, leave_out=set(schema.names) - set(names))
        return
    number = 0
    try:
        for size, batch in _sized_batches(path, names):
            first, number = number, number + size
            if number > after:
                rows = rows_of(batch) if names else (dict[str, Any]() for _ in range(size))
                for position, row in enumerate(rows, start=first + 1):
                    if position > after:
                        yield position, row
    except arrow.ArrowException as error:
        raise EOFError(str(error)) from error


def _sized_batches(path: Path, names: list[str]) -> Iterator[tuple[int, Any]]:
    if _head_of(path).startswith(b"PAR1"):
        yield count_rows(path) or 0, None
        return
    for batch in _batches(path):
        for start in range(0, batch.num_rows, 4096):
            part = batch.select(names).slice(start, 4096)
            yield min(4096, batch.num_rows - start), part
