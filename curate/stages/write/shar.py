"""Writes Lhotse Shar: compressed files of cuts, each with a tar of their recordings in the same order."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, cast

from curate.audio.encoding import EncodedAudio
from curate.io.rows import encode_json
from curate.records import ID, Record
from curate.stages.write.formats import OpenShard, ShardFormat, member_name
from curate.stages.write.nemo_tarred import write_yaml
from curate.stages.write.published import DataSet, PublishShards, Shard
from curate.stages.write.rows import published_row
from curate.stages.write.shards import ShardedWriter
from curate.stages.write.tars import TarShard

_OF_SUPERVISION = {"text": "text", "lang": "language", "speaker": "speaker", "gender": "gender"}
_OF_AUDIO = frozenset({"duration", "sampling_rate", "channels"})
_GZIP_LEVEL = 6

DEFAULT_FOLDER = "shar"
"""The folder of a set that `by` does not divide: Lhotse takes every file next to the cuts for a field of them."""


@dataclass
class SharFormat(ShardFormat):
    """Cuts in `.jsonl.gz`, and in the tar `key.flac` and `key.json` for each, which is how Lhotse pairs them."""

    suffixes = (".jsonl.gz", ".tar")

    def open(self, files: Sequence[BinaryIO]) -> OpenShard:
        cuts, tar = files
        packed = gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=cuts, mtime=0)
        return _SharShard(cast("BinaryIO", packed), TarShard(tar))


class _SharShard:
    def __init__(self, cuts: BinaryIO, tar: TarShard) -> None:
        self._cuts, self._tar = cuts, tar

    def add(self, record: Record, audio: EncodedAudio) -> None:
        key = member_name(record[ID])
        cut = _cut(published_row(record, audio), key, audio)
        line = _json(cut)
        self._tar.add(f"{key}.{audio.extension}", audio.content)
        self._tar.add(f"{key}.json", _json(cut["recording"]))
        self._cuts.write(line)

    def close(self) -> None:
        self._cuts.close()
        self._tar.close()


def _json(value: Any) -> bytes:
    return encode_json(value) + b"\n"


def _cut(row: Record, key: str, audio: EncodedAudio) -> dict[str, Any]:
    channels = list(range(audio.channels))
    recording = {
        "id": key,
        "sources": [{"type": "shar", "channels": channels, "source": ""}],
        "sampling_rate": audio.rate_hz,
        "num_samples": audio.frames,
        "duration": audio.duration_s,
        "channel_ids": channels,
    }
    channel: Any = 0 if audio.channels == 1 else channels
    span = {"start": 0, "duration": audio.duration_s, "channel": channel}
    supervision: dict[str, Any] = {"id": key, "recording_id": key, **span}
    for column, name in _OF_SUPERVISION.items():
        if row.get(column) is not None:
            supervision[name] = row[column] if isinstance(row[column], str) else str(row[column])
    custom = {name: value for name, value in row.items() if name not in _OF_SUPERVISION and name not in _OF_AUDIO}
    kind = "MonoCut" if audio.channels == 1 else "MultiCut"
    cut = {"id": key, **span, "supervisions": [supervision], "recording": recording}
    return {**cut, **({"custom": custom} if custom else {}), "type": kind}


@dataclass
class PublishShar(PublishShards):
    """Publishes `cuts.000000.jsonl.gz` and `recording.000000.tar`, and a NeMo configuration of all folders."""

    kind: ClassVar[str] = "shar"

    def names(self, shard: Shard, count: int) -> Mapping[str, str]:
        folder = shard.folder or DEFAULT_FOLDER
        return {
            ".jsonl.gz": f"{folder}/cuts.{shard.number:06d}.jsonl.gz",
            ".tar": f"{folder}/recording.{shard.number:06d}.tar",
        }

    def write_index(self, published: DataSet) -> None:
        total_s = sum(shard.duration_s for shard in published.shards) or 1.0
        entries = [
            {
                "type": "lhotse_shar",
                "shar_path": name or DEFAULT_FOLDER,
                "weight": round(sum(shard.duration_s for shard in shards) / total_s, 6),
                "tags": {"folder": name} if name else {},
            }
            for name, shards in published.by_folder()
        ]
        write_yaml(published.folder / "input_cfg.yaml", entries)


@dataclass
class SharWriter(ShardedWriter):
    """Publishes a data set in Lhotse's Shar, which `CutSet.from_shar(in_dir=…)` reads, folder by folder; without `by`,
    the folder is `shar`.

    A record is a cut with one supervision; columns that Lhotse has no place for are custom fields of the cut.
    `input_cfg.yaml` lists the folders with weights by their hours, for NeMo and for `CutSet.mux`.
    """

    name = "write_shar"

    def shard_format(self) -> ShardFormat:
        return SharFormat()

    def publisher(self) -> PublishShar:
        return PublishShar(self.path)
