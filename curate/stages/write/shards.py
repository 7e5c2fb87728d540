"""Published data sets in shards: cut, encoded and packed in workers, each shard whole and by one worker.

    ShardedWriter           what a pipeline names, a composite of
    ├── AssignShards        gather: the order of the output, and the shard of each record
    ├── CutShards           partitioner: each shard is one batch
    ├── PackShards          in workers: encodes the records of a shard, and gives them to the `ShardFormat`
    └── PublishShards       links the committed shards under their final names, and writes the index

A format is a `ShardFormat`, which writes one shard, and a `PublishShards`, which names the files and writes the index.

A shard's name in the run directory is a digest of its rows and of the format's settings. So it is written once: work
that is repeated after a crash, a retry or a fork finds it and does not encode again. Which records share a shard
depends on all records of the phase before, and never on what has been written already.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal, Protocol, cast

from curate.audio import AudioSettings, RecordingCache
from curate.audio.encoding import BYTES_PER_S, AudioEncoding, EncodedAudio
from curate.composite import CompositeStage
from curate.errors import InfrastructureError, PlanError, RecordError
from curate.fingerprint import describe_value
from curate.io.failpoints import failpoint
from curate.records import DEFAULT_FILEPATH_KEY, ID, AudioBatch, Record
from curate.stage import Partitioner, ProcessingStage, Stage
from curate.stages.write.assignment import SHARD, AssignShards
from curate.storage import TEMPORARY, describe_file, sync_directory, write_atomically

SHARD_FOLDER = "shards"
DESCRIPTION = ".json"
"""The suffix of the description of a shard: its records, its length, and the checksums of its files."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


class OpenShard(Protocol):
    """One shard that is being written."""

    def add(self, record: Record, audio: EncodedAudio) -> None:
        """Add a record, whose `duration` is that of the audio; whatever is wrong with it is raised before writing.

        Raises:
            RecordError: the record cannot be in this format.
        """
        ...

    def close(self) -> None:
        """Write the end of the shard; the caller closes the files."""
        ...


class ShardFormat:
    """Writes shards of a format; a dataclass of settings, of which a copy goes to every worker."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """The endings of the files that one shard consists of."""

    def open(self, files: Sequence[BinaryIO]) -> OpenShard:
        """Return a shard that is written to files, one for each suffix.

        The same records must give the same bytes: no time, no random number, no name of this machine.
        """
        raise NotImplementedError(f"{type(self).__name__} must define open(files)")


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
        return (SHARD,)

    def check(self) -> None:
        self.encoding.check()

    def setup(self) -> None:
        context = self.context
        if context.run_directory is None:
            raise InfrastructureError(f"stage {self.name!r} writes shards, which needs a run directory: run_dir=…")
        self._folder = Path(context.run_directory)
        self._recordings = RecordingCache() if context.recordings is None else context.recordings(self.filepath_key)
        described = [type(self.format).__qualname__, describe_value(self.format), describe_value(self.encoding)]
        self._described = json.dumps([described, describe_value(context.audio or AudioSettings())], sort_keys=True)

    def process(self, batch: AudioBatch) -> AudioBatch:
        label = str(batch.data[0][SHARD]).rpartition("#")[0]
        for record in batch.data:
            del record[SHARD]
        folder = Path(SHARD_FOLDER, self.name.partition(".")[0], label)
        key = self._digest(batch.data)
        shard = self._find(folder, key)
        if shard is None:
            key, shard = self._write(folder, key, batch)
        kept: list[Record] = []
        for record in batch.data:
            duration = shard["durations"].get(record[ID])
            if duration is not None:
                record["duration"] = duration
                kept.append(record)
        if kept:
            self._report(folder, key, shard["files"])
        batch.data = kept
        return batch

    def _digest(self, rows: Sequence[Record], *more: str) -> str:
        digest = hashlib.sha256(self._described.encode())
        for row in rows:
            digest.update(json.dumps(row, sort_keys=True).encode())
        for each in more:
            digest.update(each.encode(errors="surrogatepass"))
        return digest.hexdigest()[:32]

    # ------------------------------------------------------------------ one shard

    def _find(self, folder: Path, key: str) -> dict[str, Any] | None:
        """Return the description of a shard that is there already and whole; None: it is not."""
        description = self._folder / folder / f"{key}{DESCRIPTION}"
        try:
            described = cast("dict[str, Any]", json.loads(description.read_bytes()))
            for suffix, file in described["files"].items():
                if describe_file(description.with_name(f"{key}{suffix}")) != file:
                    return None
        except (OSError, ValueError):
            return None
        return described

    def _write(self, folder: Path, key: str, batch: AudioBatch) -> tuple[str, dict[str, Any]]:
        """Write a shard, and return its name and its description; without a record, nothing is written."""
        place = self._folder / folder
        place.mkdir(parents=True, exist_ok=True)
        temporary = [place / f"{key}{TEMPORARY}{os.getpid()}{suffix}" for suffix in self.format.suffixes]
        durations: dict[str, float] = {}
        described: dict[str, Any] = {"files": {}, "records": 0, "durations": durations}
        try:
            with ExitStack() as stack:
                files = [stack.enter_context(path.open("wb")) for path in temporary]
                shard = self.format.open(files)
                for record in batch.data:
                    self.context.announce([record])
                    try:
                        durations[record[ID]] = self._add(shard, record)
                    except RecordError as error:
                        batch.fail(record, error)
                shard.close()
                failpoint("shard.before_sync")
                for file in files:
                    file.flush()
                    os.fsync(file.fileno())
            if len(durations) < len(batch.data):  # what is in it is no longer what the name says
                key = self._digest(batch.data, *(record[ID] for record in batch.data if record[ID] not in durations))
            if durations:
                described = self._finish(place, key, temporary, durations)
        except OSError as error:
            raise InfrastructureError(f"cannot write the shard {place / key}: {error}") from error
        finally:
            for path in temporary:
                path.unlink(missing_ok=True)
        return key, described

    def _add(self, shard: OpenShard, record: Record) -> float:
        audio = self._recordings.audio(record)
        is_whole = all(record.get(name) is None for name in ("offset", "channel", "channel_selector"))
        path, roots = record[self.filepath_key], self.context.audio_roots
        try:
            encoded = self.encoding.encode(audio, path, roots, is_whole=is_whole)
        finally:
            audio.forget()
        shard.add({**record, "duration": encoded.duration_s}, encoded)
        return encoded.duration_s

    def _finish(self, place: Path, key: str, temporary: Sequence[Path], durations: dict[str, float]) -> dict[str, Any]:
        """Give the files their names, the description last: a shard without it is not there. Return the description."""
        files: dict[str, Any] = {}
        for path, suffix in zip(temporary, self.format.suffixes, strict=True):
            path.replace(place / f"{key}{suffix}")
            files[suffix] = describe_file(place / f"{key}{suffix}")
            failpoint("shard.after_rename")
        described = {"files": files, "records": len(durations), "durations": durations}
        write_atomically(place / f"{key}{DESCRIPTION}", json.dumps(described).encode() + b"\n")
        failpoint("shard.after_description")
        for folder in (place, *place.relative_to(self._folder).parents):
            sync_directory(self._folder / folder)
        return described

    def _report(self, folder: Path, key: str, files: Mapping[str, Any]) -> None:
        """Name the files of a shard to the engine; they were read for their checksums, and are not read again."""
        description = describe_file(self._folder / folder / f"{key}{DESCRIPTION}")
        for suffix, file in {**files, DESCRIPTION: description}.items():
            self.context.new_shard((folder / f"{key}{suffix}").as_posix(), file["size"], file["sha256"])


def member_name(identity: str) -> str:
    """Return the name of a record's files in a shard: its input, line and part, without a dot, and a digest of its id.

    The digest keeps apart what the readable part does not. The name depends on the id alone, so the members of a shard
    keep their names in another assignment.
    """
    path, _, line = identity.rpartition(":")
    name = _UNSAFE.sub("_", f"{path.rpartition('/')[2].partition('.')[0]}-{line}")
    return f"{name[-60:].lstrip('_-')}-{hashlib.sha256(identity.encode(errors='surrogatepass')).hexdigest()[:12]}"


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
        return (
            AssignShards(
                by=[self.by] if isinstance(self.by, str) else list(self.by),
                buckets=self.buckets,
                shards=self.shards,
                shard_records=self.shard_records,
                shard_s=self._shard_s(bytes_per_s),
            ),
            CutShards(),
            PackShards(self.shard_format(), encoding, self.filepath_key),
            self.publisher(),
        )

    def _shard_s(self, bytes_per_s: float) -> float | None:
        if self.shard_hours is not None:
            return self.shard_hours * 3600
        if self.shards is not None or self.shard_records is not None:
            return None
        return (self.shard_mb or 512) * 1e6 / max(1.0, bytes_per_s)
