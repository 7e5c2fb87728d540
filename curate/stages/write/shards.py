"""Published data sets in shards: cut, encoded and packed in workers, each shard whole and by one worker.

    ShardedWriter           what a pipeline names, a composite of
    ├── AssignShards        gather: the order of the output, and the shard of each record
    ├── CutShards           partitioner: each shard is one batch
    ├── PackShards          in workers: encodes the records of a shard, and gives them to the `ShardFormat`
    ├── PublishShards       links the committed shards under their final names, and writes the index
    └── RestoreOrder        gather: the order of the input again, for the stages behind

A format is a `ShardFormat`, which writes one shard, and a `PublishShards`, which names the files and writes the index.

A shard's name in the run directory is a digest of its rows and of the format's settings. So it is written once: work
that is repeated after a crash, a retry or a fork finds it and does not encode again. Which records share a shard
depends on all records of the phase before, and never on what has been written already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from curate.audio.encoding import BYTES_PER_S, AudioEncoding
from curate.composite import CompositeStage
from curate.errors import PlanError
from curate.records import DEFAULT_FILEPATH_KEY
from curate.stage import Stage
from curate.stages.write.assignment import AssignShards
from curate.stages.write.formats import ShardFormat
from curate.stages.write.input_order import RestoreOrder
from curate.stages.write.packing import CutShards, PackShards


@dataclass
class ShardedWriter(CompositeStage):
    """The base of stages that publish a data set in shards: define `shard_format()` and `publisher()`.

    Args:
        path: the folder of the data set; a relative path lies inside the run directory.
        shards: how many there are (of each folder), as many as records at most.
        shard_records, shard_hours, shard_mb: how much is in one; at most one of these and `shards`. The size in MB is
            estimated from durations. The default is 512 MB.
        by: columns whose values have folders of their own, such as `split` or `lang`.
        buckets: of durations, each with a folder of its own: how many, with equally many hours in each; or the borders
            in seconds.
        codec: `flac`, `wav`, `mp3`, or `opus`.
        rate_hz: the sampling rate; None: each recording's own.
        channels: `mono` or `all`.
        bit_depth: of `flac` and `wav`.
        copy: whether files that need no change are copied and not encoded again.
        deny_licenses: patterns of licenses that are not published, such as `CC-BY-NC*`; a source that has one for all
            its records is an error of the plan, and other records of such a license are filtered.
        filepath_key: the column with the path of the audio.
    """

    path: str | Path
    shards: int | None = None
    shard_records: int | None = None
    shard_hours: float | None = None
    shard_mb: float | None = None
    by: str | list[str] = field(default_factory=list[str])
    buckets: int | list[float] | None = None
    codec: Literal["flac", "wav", "mp3", "opus"] = "flac"
    rate_hz: int | None = None
    channels: Literal["mono", "all"] = "mono"
    bit_depth: int = 16
    copy: bool = True
    deny_licenses: list[str] = field(default_factory=list[str])
    filepath_key: str = DEFAULT_FILEPATH_KEY

    def shard_format(self) -> ShardFormat:
        """Return the format of its shards."""
        raise NotImplementedError(f"{type(self).__name__} must define shard_format()")

    def publisher(self) -> Stage:
        """Return the stage that publishes the shards."""
        raise NotImplementedError(f"{type(self).__name__} must define publisher()")

    def check(self) -> None:
        sizes = {
            name: value
            for name in ("shards", "shard_records", "shard_hours", "shard_mb")
            if (value := getattr(self, name)) is not None
        }
        if len(sizes) > 1:
            raise PlanError(f"{' and '.join(sizes)} contradict each other: give one of them")
        for name, value in sizes.items():
            if not value > 0:
                raise PlanError(f"{name}={value!r} must be positive")

    def decompose(self) -> Sequence[Stage]:
        encoding = AudioEncoding(self.codec, self.rate_hz, self.channels, self.bit_depth, self.copy)
        bytes_per_s = BYTES_PER_S.get(self.codec, 0) * (self.rate_hz or 16_000) / 16_000
        written = self.shard_format()
        assign = AssignShards(
            by=[self.by] if isinstance(self.by, str) else list(self.by),
            buckets=self.buckets,
            shards=self.shards,
            shard_records=self.shard_records,
            shard_s=self._shard_s(bytes_per_s),
            format=written if written.surveys else None,
            deny_licenses=list(self.deny_licenses),
        )
        stages = (assign, CutShards(), PackShards(written, encoding, self.filepath_key), self.publisher())
        return (*stages, RestoreOrder()) if assign.reorders else stages

    def _shard_s(self, bytes_per_s: float) -> float | None:
        if self.shard_hours is not None:
            return self.shard_hours * 3600
        if self.shards is not None or self.shard_records is not None:
            return None
        return (self.shard_mb or 512) * 1e6 / max(1.0, bytes_per_s)
