"""Writes a tarred data set as NeMo reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

from curate.audio.encoding import EncodedAudio
from curate.errors import PlanError, RecordError
from curate.io.rows import encode_json
from curate.records import ID, Record
from curate.stages.write.bins import duration_bins, token_bins
from curate.stages.write.formats import OpenShard, ShardFormat, member_name
from curate.stages.write.published import DataSet, PublishShards, Shard
from curate.stages.write.rows import published_row
from curate.stages.write.shards import ShardedWriter
from curate.stages.write.tars import TarShard

_CANARY: Mapping[str, Any] = {
    "pnc": "yes",
    "itn": "no",
    "timestamp": "no",
    "diarize": "no",
    "decodercontext": "",
    "emotion": "<|emo:undefined|>",
}
_BINS = 30
_TOKEN_BINS = 2
_WHOLE = "tarred_audio_manifest.json"
"""How many bins of tokens there are for each of durations."""


@dataclass
class NemoFormat(ShardFormat):
    """One tar with the audio, and the rows of the manifest in the same order: NeMo pairs them by their place.

    Args:
        target: `asr`, or a Canary model, which wants to know the task of each record.
        lang: the language of records without one.
    """

    target: Literal["asr", "canary", "canary_v1"] = "asr"
    lang: str | None = None

    suffixes = (".tar", ".jsonl")

    def open(self, files: Sequence[BinaryIO]) -> OpenShard:
        tar, manifest = files
        return _NemoShard(self, TarShard(tar), manifest)

    def row(self, record: Record, audio: EncodedAudio, name: str) -> Record:
        """Return the row of the manifest.

        Raises:
            RecordError: neither the record nor the stage names the language.
        """
        row = published_row(record, audio)
        lang = record.get("lang") or self.lang
        if lang is None:
            raise RecordError("missing_column", "the record has no lang, and the stage has no `lang:` for such records")
        row |= {"text": record.get("text") or "", "lang": lang}
        if self.target != "asr":
            row = {**_CANARY, "source_lang": lang, "target_lang": lang, **row}
        if self.target == "canary_v1":
            row.setdefault("taskname", "asr")
        return {"audio_filepath": name, **row}


class _NemoShard:
    def __init__(self, format: NemoFormat, tar: TarShard, manifest: BinaryIO) -> None:
        self._format, self._tar, self._manifest = format, tar, manifest

    def add(self, record: Record, audio: EncodedAudio) -> None:
        name = f"{member_name(record[ID])}.{audio.extension}"
        row = encode_json(self._format.row(record, audio, name)) + b"\n"
        self._tar.add(name, audio.content)
        self._manifest.write(row)

    def close(self) -> None:
        self._tar.close()


@dataclass
class PublishNemoTarred(PublishShards):
    """Publishes tars with sharded manifests, `input_cfg.yaml`, and bins of durations for bucketing.

    Args:
        weights: how much each folder is drawn from: `hours` or `equal`.
    """

    weights: Literal["hours", "equal"] = "hours"

    kind: ClassVar[str] = "nemo_tarred"

    def names(self, shard: Shard, count: int) -> Mapping[str, str]:
        folder = f"{shard.folder}/" if shard.folder else ""
        return {
            ".tar": f"{folder}audio_{shard.number}.tar",
            ".jsonl": f"{folder}sharded_manifests/manifest_{shard.number}.json",
        }

    def write_index(self, published: DataSet) -> None:
        entries: list[dict[str, Any]] = []
        total_s = sum(shard.duration_s for shard in published.shards) or 1.0
        for name, shards in published.by_folder():
            _write_manifest(shards, published.folder / name / _WHOLE)
            places = f"{name}/" if name else ""
            numbers = f"_OP_0..{len(shards) - 1}_CL_"
            # NeMo takes a single manifest for that of all shards, whose rows must have their shard's number
            manifest = f"sharded_manifests/manifest_{numbers}.json" if len(shards) > 1 else _WHOLE
            weight = sum(shard.duration_s for shard in shards) / total_s if self.weights == "hours" else 1.0
            entries.append(
                {
                    "type": "nemo_tarred",
                    "manifest_filepath": f"{places}{manifest}",
                    "tarred_audio_filepaths": f"{places}audio_{numbers}.tar",
                    "weight": round(weight, 6),
                    "tags": {"folder": name} if name else {},
                }
            )
        write_yaml(published.folder / "input_cfg.yaml", entries)
        tally = published.tally
        bins: dict[str, Any] = {"bucket_duration_bins": duration_bins(tally.durations, _BINS)}
        if tally.tokens and tally.tokens.total() == tally.durations.total():
            bins["bucket_duration_token_bins"] = token_bins(tally.tokens, _BINS, _TOKEN_BINS)
        write_yaml(published.folder / "bucket_duration_bins.yaml", bins)


def _write_manifest(shards: Sequence[Shard], path: Path) -> None:
    """Write the rows of all shards to one manifest, with the number of their shard."""
    with path.open("wb") as manifest:
        for shard in shards:
            with shard.files[".jsonl"].open("rb") as rows:
                for line in rows:
                    manifest.write(line[:-2] + b', "shard_id": %d}\n' % shard.number)


def write_yaml(path: Path, value: Any) -> None:
    """Write a value as YAML."""
    import yaml

    path.write_text(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), encoding="utf-8")


@dataclass
class NemoTarredWriter(ShardedWriter):
    """Publishes a tarred data set that NeMo trains from: every record is in exactly one shard.

    Row k of `sharded_manifests/manifest_i.json` is member k of `audio_i.tar`. `input_cfg.yaml` lists the folders with
    weights; its paths are relative to the data set.

    Args:
        lang: the language of records without a `lang`; null: they go to quarantine.
        target: `asr`; `canary` adds `source_lang target_lang pnc itn timestamp diarize decodercontext emotion` where a
            record has none; `canary_v1` adds `taskname` as well.
        weights: how `input_cfg.yaml` weighs folders: by their `hours`, or `equal`.
    """

    lang: str | None = None
    target: Literal["asr", "canary", "canary_v1"] = "asr"
    weights: Literal["hours", "equal"] = "hours"

    name = "write_nemo_tarred"

    def check(self) -> None:
        super().check()
        if self.target not in ("asr", "canary", "canary_v1"):
            raise PlanError(f"target={self.target!r} is none of asr, canary, canary_v1")
        if self.weights not in ("hours", "equal"):
            raise PlanError(f"weights={self.weights!r} is neither 'hours' nor 'equal'")

    def shard_format(self) -> ShardFormat:
        return NemoFormat(self.target, self.lang)

    def publisher(self) -> PublishNemoTarred:
        return PublishNemoTarred(self.path, self.weights)
