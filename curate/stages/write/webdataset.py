"""Writes a data set in the layout of WebDataset: the files of a sample follow one another in a tar."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from curate.audio.encoding import EncodedAudio
from curate.errors import RecordError
from curate.records import ID, Record
from curate.stages.write.nemo_tarred import TarShard
from curate.stages.write.published import PublishShards, Shard
from curate.stages.write.shards import OpenShard, ShardedWriter, ShardFormat, member_name


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
        if text is not None and not isinstance(text, str):
            raise RecordError("bad_value", f"text must be a string, not {type(text).__name__}")
        row = {name: value for name, value in record.items() if name not in (ID, "offset", "audio_filepath")}
        for name in ("audio_filepath", "offset"):
            if record.get(name) is not None:
                row[f"source_{name}"] = record[name]
        row |= {"key": key, "sampling_rate": audio.rate_hz, "channels": audio.channels}
        description = json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
        self._tar.add(f"{key}.{audio.extension}", audio.content)
        self._tar.add(f"{key}.json", description)
        if text is not None:
            self._tar.add(f"{key}.txt", text.encode())

    def close(self) -> None:
        self._tar.close()


@dataclass
class PublishWebDataset(PublishShards):
    """Publishes `shard-000000.tar` and so on, and a list of them in `shards.txt`."""

    kind: ClassVar[str] = "webdataset"

    def names(self, shard: Shard, count: int) -> Mapping[str, str]:
        return {".tar": _name(shard)}

    def write_index(self, shards: Sequence[Shard], folder: Path) -> None:
        (folder / "shards.txt").write_text("".join(f"{_name(shard)}\n" for shard in shards), encoding="utf-8")


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
