"""Packs shards in workers: each is one batch, encoded and written whole under a name that follows from its content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from curate.audio import AudioSettings, RecordingCache
from curate.audio.encoding import AudioEncoding
from curate.errors import InfrastructureError, RecordError
from curate.fingerprint import describe_value
from curate.io.failpoints import failpoint
from curate.records import DEFAULT_FILEPATH_KEY, ID, AudioBatch, Record
from curate.stage import SHARD_MEMBERS, Partitioner, ProcessingStage
from curate.stages.write.assignment import POSITION, SHARD, SURVEY
from curate.stages.write.formats import OpenShard, ShardFormat, ShardPlace
from curate.stages.write.tallies import ShardTally
from curate.storage import TEMPORARY, describe_file, describe_folder, sync_directory, sync_folder, write_atomically

SHARD_FOLDER = "shards"
DESCRIPTION = ".json"
"""The suffix of the description of a shard: its records, its length, and the checksums of its files."""

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
            for name in _EARLIER:
                record.pop(name, None)
            if POSITION in record:  # is not in the shard, whose name would change with its neighbours
                positions[record[ID]] = record.pop(POSITION)
        folder = Path(SHARD_FOLDER, self.name.partition(".")[0], label)
        key = self._digest(batch.data, survey)
        shard = self._find(folder, key)
        if shard is None:
            key, shard = self._write(folder, key, batch, survey)
        kept: list[Record] = []
        for record in batch.data:
            duration = shard["durations"].get(record[ID])
            if duration is not None:
                record["duration"] = duration
                kept.append(record)
        if kept:
            self._report(folder, key, shard["files"])
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

    # ------------------------------------------------------------------ one shard

    def _find(self, folder: Path, key: str) -> dict[str, Any] | None:
        """Return the description of a shard that is there already and whole; None: it is not."""
        description = self._folder / folder / f"{key}{DESCRIPTION}"
        try:
            described = cast("dict[str, Any]", json.loads(description.read_bytes()))
            for suffix, file in described["files"].items():
                if describe_file(description.with_name(f"{key}{suffix}")) != file:
                    return None
            if "members" in described and describe_folder(_members(description)) != described["members"]:
                return None
        except (OSError, ValueError):
            return None
        return described

    def _write(self, folder: Path, key: str, batch: AudioBatch, survey: str) -> tuple[str, dict[str, Any]]:
        """Write a shard, and return its name and its description; without a record, nothing is written."""
        place = self._folder / folder
        place.mkdir(parents=True, exist_ok=True)
        unfinished = f"{key}{TEMPORARY}{os.getpid()}"
        temporary = [place / f"{unfinished}{suffix}" for suffix in self.format.suffixes]
        members = place / f"{unfinished}{SHARD_MEMBERS}"
        tally = ShardTally()
        described: dict[str, Any] = {"files": {}, "records": 0, "durations": tally.durations}
        try:
            with ExitStack() as stack:
                files = [stack.enter_context(path.open("wb")) for path in temporary]
                if self.format.holds_files:
                    shutil.rmtree(members, ignore_errors=True)
                    members.mkdir()
                shard = self.format.open_at(ShardPlace(files, members, survey))
                for record in batch.data:
                    self.context.announce([record])
                    try:
                        tally.add(record, self._add(shard, record))
                    except RecordError as error:
                        batch.fail(record, error)
                shard.close()
                failpoint("shard.before_sync")
                for file in files:
                    file.flush()
                    os.fsync(file.fileno())
            left_out = [record[ID] for record in batch.data if record[ID] not in tally.durations]
            if left_out:  # what is in it is no longer what the name says
                key = self._digest(batch.data, survey, *left_out)
            if tally.durations:
                described = self._finish(place, key, temporary, members, tally)
        except OSError as error:
            raise InfrastructureError(f"cannot write the shard {place / key}: {error}") from error
        finally:
            for path in temporary:
                path.unlink(missing_ok=True)
            shutil.rmtree(members, ignore_errors=True)
        return key, described

    def _add(self, shard: OpenShard, record: Record) -> float:
        if all(record.get(name) is None for name in _PARTS):
            with self._recordings.alone(record) as audio:
                encoded = self.encoding.encode(audio, is_whole=True)
        else:
            with self._recordings.audio(record) as audio:
                encoded = self.encoding.encode(audio, is_whole=False)
        shard.add({**record, "duration": encoded.duration_s}, encoded)
        return encoded.duration_s

    def _finish(
        self, place: Path, key: str, temporary: Sequence[Path], members: Path, tally: ShardTally
    ) -> dict[str, Any]:
        """Give the files their names, the description last: a shard without it is not there. Return the description."""
        files: dict[str, Any] = {}
        for path, suffix in zip(temporary, self.format.suffixes, strict=True):
            path.replace(place / f"{key}{suffix}")
            files[suffix] = describe_file(place / f"{key}{suffix}")
            failpoint("shard.after_rename")
        described = {"files": files, "records": len(tally.durations), "durations": tally.durations, **tally.totals()}
        description = place / f"{key}{DESCRIPTION}"
        if self.format.holds_files:
            sync_folder(members)
            shutil.rmtree(_members(description), ignore_errors=True)  # of an attempt that was killed here
            members.rename(_members(description))
            described["members"] = describe_folder(_members(description))
        write_atomically(description, json.dumps(described).encode() + b"\n")  # makes the names before it durable, too
        failpoint("shard.after_description")
        if place not in self._durable:
            for folder in place.relative_to(self._folder).parents:
                sync_directory(self._folder / folder)
            self._durable.add(place)
        return described

    def _report(self, folder: Path, key: str, files: Mapping[str, Any]) -> None:
        """Name the files of a shard to the engine; they were read for their checksums, and are not read again."""
        description = describe_file(self._folder / folder / f"{key}{DESCRIPTION}")
        for suffix, file in {**files, DESCRIPTION: description}.items():
            self.context.new_shard((folder / f"{key}{suffix}").as_posix(), file["size"], file["sha256"])


def _members(description: Path) -> Path:
    """Return the folder of the files of a shard, by its description."""
    return description.with_suffix(SHARD_MEMBERS)
