"""Writes Parquet with recordings, as the library `datasets` and the Hub of Hugging Face read it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

from curate.audio.encoding import EncodedAudio
from curate.errors import RecordError
from curate.io.parquet import schema_of, table_of
from curate.records import ID, Record
from curate.stages.write.formats import OpenShard, ShardFormat, ShardPlace, member_name
from curate.stages.write.published import DataSet, PublishShards, Shard
from curate.stages.write.readme import readme_of
from curate.stages.write.rows import published_row
from curate.stages.write.shards import ShardedWriter

AUDIO = "audio"
_ROWS_A_GROUP = 100
_GROUP_BYTES = 64 * 2**20
"""A group of rows is closed at this size, however few they are."""

_NOT_IN_SPLIT = re.compile(r"\W+")
DEFAULT_SPLIT = "train"


@dataclass
class HuggingFaceFormat(ShardFormat):
    """One Parquet file with the column `audio`; all shards have the columns and types of the whole set.

    Args:
        rate_hz: the sampling rate of all recordings; None: they may have different ones.
        channels: as they are encoded.
    """

    rate_hz: int | None = None
    channels: Literal["mono", "all"] = "mono"

    suffixes = (".parquet",)
    surveys = True

    def survey(self, records: Iterable[Record], scratch: Path) -> str:
        schema = schema_of(_Rows(records, 1 if self.channels == "mono" else 2))
        return base64.b64encode(schema.serialize().to_pybytes()).decode()

    def open_at(self, place: ShardPlace) -> OpenShard:
        import pyarrow

        arrow: Any = pyarrow
        columns = arrow.ipc.read_schema(arrow.py_buffer(base64.b64decode(place.survey)))
        return _ParquetShard(place.files[0], columns, self.rate_hz)


class _Rows:
    """The rows that records will have, without what is known of their audio only when it is encoded."""

    def __init__(self, records: Iterable[Record], channels: int) -> None:
        self._records, self._channels = records, channels

    def __iter__(self) -> Iterator[Record]:
        unknown = EncodedAudio(b"", "flac", 1, self._channels, 0)
        for record in self._records:
            try:
                row = published_row(record, unknown)
            except RecordError:
                continue  # it will not be in the set
            row["duration"] = 0.0
            yield {"text": None, **row}


class _ParquetShard:
    def __init__(self, file: BinaryIO, columns: Any, rate_hz: int | None) -> None:
        import pyarrow
        from pyarrow import parquet

        self._arrow: Any = pyarrow
        self._columns = columns
        audio = self._arrow.struct([("bytes", self._arrow.binary()), ("path", self._arrow.string())])
        fields = [self._arrow.field(AUDIO, audio), *(field for field in columns if field.name != AUDIO)]
        described = {"info": {"features": {AUDIO: {"sampling_rate": rate_hz, "_type": "Audio"}}}}
        self._schema = self._arrow.schema(fields, metadata={"huggingface": json.dumps(described)})
        options: dict[str, Any] = {
            "compression": "zstd",
            "use_dictionary": columns.names,
            "write_statistics": columns.names,
        }
        make: Any = parquet.ParquetWriter
        self._writer = make(file, self._schema, **options)
        self._rows: list[Record] = []
        self._audio: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, record: Record, audio: EncodedAudio) -> None:
        row = published_row(record, audio)
        self._rows.append(row)
        self._audio.append({"bytes": audio.content, "path": f"{member_name(record[ID])}.{audio.extension}"})
        self._bytes += len(audio.content)
        if len(self._rows) >= _ROWS_A_GROUP or self._bytes >= _GROUP_BYTES:
            self._write()

    def _write(self) -> None:
        table = table_of(self._rows, self._columns)
        audio = self._arrow.array(self._audio, type=self._schema.field(AUDIO).type)
        arrays = [audio, *(table.column(field.name) for field in self._schema if field.name != AUDIO)]
        self._writer.write_table(self._arrow.table(arrays, schema=self._schema))
        self._rows, self._audio, self._bytes = [], [], 0

    def close(self) -> None:
        if self._rows:
            self._write()
        self._writer.close()


@dataclass
class PublishHuggingFace(PublishShards):
    """Publishes `data/train-00000-of-00002.parquet` and so on, and a dataset card in `README.md`.

    Args:
        title: of the dataset card; empty: the name of the folder.
        description: the first paragraph of the dataset card; empty: none.
    """

    title: str = ""
    description: str = ""

    kind: ClassVar[str] = "hf"
    tuning = frozenset({"path", "title", "description"})

    def names(self, shard: Shard, count: int) -> Mapping[str, str]:
        folder, split = place_of(shard.folder)
        return {".parquet": f"{folder}/{split}-{shard.number:05d}-of-{count:05d}.parquet"}

    def write_index(self, published: DataSet) -> None:
        title = self.title or Path(self.path).name
        configs: dict[str, list[dict[str, str]]] = {}
        for name, _ in published.by_folder():
            folder, split = place_of(name)
            config = folder.partition("/")[2] or "default"
            configs.setdefault(config, []).append({"split": split, "path": f"{folder}/{split}-*.parquet"})
        readme = readme_of(title, self.description, published.provenance, configs, writer=self.name.partition(".")[0])
        (published.folder / "README.md").write_text(readme, encoding="utf-8")


def place_of(label: str) -> tuple[str, str]:
    """Return the folder and the split of a label: its last level is the split."""
    above, _, last = label.rpartition("/")
    split = _NOT_IN_SPLIT.sub("_", last or DEFAULT_SPLIT)
    return (f"data/{above}" if above else "data"), split


@dataclass
class HuggingFaceWriter(ShardedWriter):
    """Publishes a data set for Hugging Face: Parquet with an Audio column, splits, and a dataset card.

    The last column of `by` gives the splits, and those before it the configurations. Every file has the same columns,
    those of all records, with one type for each; values without a common type are JSON text.

    Args:
        title: of the dataset card; empty: the name of the folder.
        description: the first paragraph of the dataset card; empty: none.
    """

    title: str = ""
    description: str = ""

    name = "write_hf"

    def shard_format(self) -> ShardFormat:
        return HuggingFaceFormat(self.rate_hz, self.channels)

    def publisher(self) -> PublishHuggingFace:
        return PublishHuggingFace(self.path, self.title, self.description)
