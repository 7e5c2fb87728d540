"""Writes a data set in the layout of WebDataset: the files of a sample follow one another in a tar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

from curate.audio.encoding import EncodedAudio
from curate.io.rows import encode_json, encode_text
from curate.records import ID, Record
from curate.stages.write.formats import OpenShard, ShardFormat, member_name
from curate.stages.write.published import DataSet, PublishShards, Shard
from curate.stages.write.rows import published_row
from curate.stages.write.shards import ShardedWriter
from curate.stages.write.tars import TarShard


@dataclass
class WebDatasetFormat(ShardFormat):
    """One tar with `key.<codec>`, `key.json` and, for transcribed records, `key.txt`."""

    suffixes = (".tar",)

    def open(self, files: Sequence[BinaryIO]) -> OpenShard:
        return _Samples(TarShard(files[0]))


class _Samples:
    def __init__(self, tar: TarShard) -> None:
        self._tar = tar

    def add(self, record: Record, audio: EncodedAudio) -> None:
        key, text = member_name(record[ID]), record.get("text")
        row = {**published_row(record, audio), "key": key}
        description = encode_json(row)
        self._tar.add(f"{key}.{audio.extension}", audio.content)
        self._tar.add(f"{key}.json", description)
        if text is not None:
            self._tar.add(f"{key}.txt", encode_text(text))

    def close(self) -> None:
        self._tar.close()


@dataclass
class PublishWebDataset(PublishShards):
    """Publishes `shard-000000.tar` and so on, and a list of them in `shards.txt`."""

    kind: ClassVar[str] = "webdataset"

    def names(self, shard: Shard, count: int) -> Mapping[str, str]:
        return {".tar": _name(shard)}

    def write_index(self, published: DataSet) -> None:
        names = "".join(f"{_name(shard)}\n" for shard in published.shards)
        (published.folder / "shards.txt").write_text(names, encoding="utf-8")


def _name(shard: Shard) -> str:
    folder = f"{shard.folder}/" if shard.folder else ""
    return f"{folder}shard-{shard.number:06d}.tar"


@dataclass
class WebDatasetWriter(ShardedWriter):
    """Publishes a data set in the layout of WebDataset: tars of samples, each with audio, `json` and `txt`."""

    name = "write_webdataset"

    def shard_format(self) -> ShardFormat:
        return WebDatasetFormat()

    def publisher(self) -> PublishWebDataset:
        return PublishWebDataset(self.path)
