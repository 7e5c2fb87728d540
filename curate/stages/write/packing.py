"""Packs shards in workers: each is one batch, encoded and written whole under a name that follows from its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curate.audio import AudioSettings, RecordingCache
from curate.audio.encoding import AudioEncoding
from curate.errors import InfrastructureError, RecordError
from curate.fingerprint import describe_value
from curate.records import DEFAULT_FILEPATH_KEY, ID, AudioBatch, Record
from curate.stage import Partitioner, ProcessingStage
from curate.stages.write.assignment import POSITION, SHARD, SURVEY
from curate.stages.write.formats import OpenShard, ShardFormat
from curate.stages.write.shard_files import PackedShard, find_shard, new_shard
from curate.stages.write.tallies import ShardTally
from curate.storage import sync_directory

SHARD_FOLDER = "shards"

_PARTS = ("offset", "channel", "channel_selector")
"""The columns of records that share their recording with others."""

_sorted = json.JSONEncoder(sort_keys=True).encode
"""As `json.dumps(…, sort_keys=True)`, which makes a new encoder in each call."""

_EARLIER = (SHARD, SURVEY)
"""The columns that the assignment has added for this stage alone."""


@dataclass
class CutShards(Partitioner):
    """Makes one batch of each shard."""

    name = "cut"

    def reads(self) -> Collection[str]:
        return (SHARD,)

    def partition(self, records: Iterator[Record]) -> Iterator[AudioBatch]:
        data: list[Record] = []
        for record in records:
            if data and record[SHARD] != data[0][SHARD]:
                yield AudioBatch(data, task_id=data[0][SHARD])
                data = []
            data.append(record)
        if data:
            yield AudioBatch(data, task_id=data[0][SHARD])


@dataclass
class PackShards(ProcessingStage):
    """Encodes the records of a shard and writes them to its files.

    A record that cannot be read or encoded is left out of the shard and goes to quarantine.

    Args:
        format: writes the files.
        encoding: how the audio is written.
        filepath_key: the column with the path of the audio.
    """

    format: ShardFormat
    encoding: AudioEncoding = field(default_factory=AudioEncoding)
    filepath_key: str = DEFAULT_FILEPATH_KEY

    name = "pack"
    whole_batches = True

    def reads(self) -> Collection[str]:
        return (self.filepath_key, SHARD)

    def writes(self) -> Collection[str]:
        return ("duration",)

    def drops(self) -> Collection[str]:
        return _EARLIER

    def check(self) -> None:
        self.encoding.check()

    def setup(self) -> None:
        context = self.context
        if context.run_directory is None:
            raise InfrastructureError(f"stage {self.name!r} writes shards, which needs a run directory: run_dir=…")
        self._folder = Path(context.run_directory)
        self._durable: set[Path] = set()
        """The folders of shards whose own names this worker has made durable."""
        self._recordings = RecordingCache() if context.recordings is None else context.recordings(self.filepath_key)
        described = [type(self.format).__qualname__, describe_value(self.format), describe_value(self.encoding)]
        self._described = json.dumps([described, describe_value(context.audio or AudioSettings())], sort_keys=True)

    def process(self, batch: AudioBatch) -> AudioBatch:
        label = str(batch.data[0][SHARD]).rpartition("#")[0]
        survey = str(batch.data[0].get(SURVEY) or "")
        positions: dict[str, int] = {}
        for record in batch.data:
            for column in _EARLIER:
                record.pop(column, None)
            if POSITION in record:  # is not in the shard, whose name would change with its neighbours
                positions[record[ID]] = record.pop(POSITION)
        folder = Path(SHARD_FOLDER, self.name.partition(".")[0], label)
        place, name = self._folder / folder, self._digest(batch.data, survey)
        shard = find_shard(place, name) or self._write(place, name, batch, survey)
        kept: list[Record] = []
        for record in batch.data:
            duration = shard.durations.get(record[ID])
            if duration is not None:
                record["duration"] = duration
                kept.append(record)
        if kept:
            for suffix, file in shard.files.items():
                self.context.new_shard((folder / f"{shard.name}{suffix}").as_posix(), file["size"], file["sha256"])
        for record in (*batch.data, *(note.record for note in batch.failed)):
            if record[ID] in positions:
                record[POSITION] = positions[record[ID]]
        batch.data = kept
        return batch

    def _digest(self, rows: Sequence[Record], survey: str, *more: str) -> str:
        digest = hashlib.sha256(self._described.encode())
        digest.update(survey.encode(errors="surrogatepass"))
        for row in rows:
            digest.update(_sorted(row).encode())
        for each in more:
            digest.update(each.encode(errors="surrogatepass"))
        return digest.hexdigest()[:32]

    def _write(self, folder: Path, name: str, batch: AudioBatch, survey: str) -> PackedShard:
        """Write a shard of the records that can be in it; without any, nothing is written."""
        tally = ShardTally()
        try:
            with new_shard(folder, name, self.format, survey) as shard:
                for record in batch.data:
                    self.context.announce([record])
                    try:
                        tally.add(record, self._add(shard.content, record))
                    except RecordError as error:
                        batch.fail(record, error)
                shard.content.close()
                left_out = [record[ID] for record in batch.data if record[ID] not in tally.durations]
                if left_out:  # what is in it is not what the name says
                    name = self._digest(batch.data, survey, *left_out)
                if not tally.durations:
                    return PackedShard(name, {}, {})
                packed = shard.finish(name, tally)
            self._make_durable(folder)
        except OSError as error:
            raise InfrastructureError(f"cannot write the shard {folder / name}: {error}") from error
        return packed

    def _add(self, shard: OpenShard, record: Record) -> float:
        if all(record.get(name) is None for name in _PARTS):
            with self._recordings.alone(record) as audio:
                encoded = self.encoding.encode(audio, is_whole=True)
        else:
            with self._recordings.audio(record) as audio:
                encoded = self.encoding.encode(audio, is_whole=False)
        shard.add({**record, "duration": encoded.duration_s}, encoded)
        return encoded.duration_s

    def _make_durable(self, folder: Path) -> None:
        """Make the names of a folder of shards, and of those above it, survive a crash of the machine."""
        if folder not in self._durable:
            for above in folder.relative_to(self._folder).parents:
                sync_directory(self._folder / above)
            self._durable.add(folder)
