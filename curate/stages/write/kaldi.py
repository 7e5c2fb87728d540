"""Writes a Kaldi data folder with cut audio."""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

from curate.audio.encoding import EncodedAudio
from curate.errors import PlanError
from curate.io.provenance import CHECKSUMS
from curate.io.rows import encode_json
from curate.records import ID, Record
from curate.stages.write.audio_files import write_checksums, write_member
from curate.stages.write.formats import OpenShard, ShardFormat, ShardPlace, member_name
from curate.stages.write.published import DataSet, PublishShards, Shard
from curate.stages.write.rows import published_row
from curate.stages.write.shards import ShardedWriter

_NOT_IN_SPEAKER = re.compile(r"[^A-Za-z0-9_.]+")
_OPEN_FILES = 100
_GENDERS = {"f": "f", "female": "f", "m": "m", "male": "m"}


@dataclass
class KaldiFormat(ShardFormat):
    """A folder of audio files, and what Kaldi's files say of each, in the order of their ids."""

    suffixes = (".jsonl", ".sha256")
    holds_files = True

    def open_at(self, place: ShardPlace) -> OpenShard:
        rows, checksums = place.files
        return _KaldiShard(place.folder, rows, checksums)


class _KaldiShard:
    def __init__(self, folder: Path, rows: BinaryIO, checksums: BinaryIO) -> None:
        self._folder, self._file, self._checksums = folder, rows, checksums
        self._rows: list[tuple[str, bytes]] = []

    def add(self, record: Record, audio: EncodedAudio) -> None:
        row = published_row(record, audio)
        utterance = member_name(record[ID])
        speaker = None if row.get("speaker") is None else speaker_id(str(row["speaker"]))
        if speaker is not None:
            utterance = f"{speaker}-{utterance}"
        name = f"{utterance}.{audio.extension}"
        about = {
            "utterance": utterance,
            "file": name,
            "duration": audio.duration_s,
            "speaker": speaker or utterance,
            "text": None if row.get("text") is None else " ".join(str(row["text"]).split()),
            "lang": None if row.get("lang") is None else "".join(str(row["lang"]).split()),
            "gender": _GENDERS.get(str(row.get("gender")).lower()),
        }
        line = encode_json(about) + b"\n"
        write_member(self._folder / name, audio.content, self._checksums)
        self._rows.append((utterance, line))

    def close(self) -> None:
        for _, line in sorted(self._rows):
            self._file.write(line)


def speaker_id(speaker: str) -> str:
    """Return a speaker as a prefix of utterances: all its characters sort behind the hyphen that ends it.

    So Kaldi's two orders agree: that of the utterances, and that of the speakers.
    """
    safe = _NOT_IN_SPEAKER.sub("_", speaker)[:60]
    if safe == speaker:
        return safe
    return f"{safe}_{hashlib.sha256(speaker.encode(errors='surrogatepass')).hexdigest()[:8]}"


@dataclass
class PublishKaldi(PublishShards):
    """Publishes audio files in folders of bounded size, and Kaldi's files, sorted as `LC_ALL=C sort` does."""

    kind: ClassVar[str] = "kaldi"

    def names(self, shard: Shard, count: int) -> Mapping[str, str]:
        return {}

    def member_folder(self, shard: Shard, count: int) -> str:
        folder = f"{shard.folder}/" if shard.folder else ""
        return f"{folder}wav/{shard.number:05d}"

    def checksum_lists(self, published: DataSet) -> Sequence[str]:
        return (CHECKSUMS,)

    def write_index(self, published: DataSet) -> None:
        for name, shards in published.by_folder():
            folder = published.folder / name
            with _merged(shards, folder) as rows:
                _write_tables(folder, rows)
            _write_speakers(folder)
        write_checksums(published, self.member_folder)


def _write_tables(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the files that are keyed by utterance, and the speakers' genders."""
    tables = ("wav.scp", "segments", "text", "utt2spk", "utt2lang", "utt2dur", "reco2dur", "spk2gender")
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(
                (folder / name).open("w", encoding="utf-8", errors="backslashreplace", newline="\n")
            )
            for name in tables
        }
        with_gender = ""
        for row in rows:
            key, duration = row["utterance"], f"{row['duration']:.6f}"
            files["wav.scp"].write(f"{key} {row['place']}\n")
            files["segments"].write(f"{key} {key} 0 {duration}\n")
            files["utt2spk"].write(f"{key} {row['speaker']}\n")
            files["utt2dur"].write(f"{key} {duration}\n")
            files["reco2dur"].write(f"{key} {duration}\n")
            for table, column in (("text", "text"), ("utt2lang", "lang")):
                if row[column] is not None:
                    files[table].write(f"{key} {row[column]}\n")
            if row["gender"] is not None and row["speaker"] != with_gender:
                with_gender = row["speaker"]
                files["spk2gender"].write(f"{row['speaker']} {row['gender']}\n")
    for name in tables:
        if not (folder / name).stat().st_size:
            (folder / name).unlink()


def _write_speakers(folder: Path) -> None:
    with (folder / "utt2spk").open(encoding="utf-8") as lines, (folder / "spk2utt").open("w", encoding="utf-8") as file:
        pairs = (line.split() for line in lines)
        for speaker, group in groupby(pairs, key=lambda pair: pair[1]):
            file.write(f"{speaker} {' '.join(utterance for utterance, _ in group)}\n")


@contextmanager
def _merged(shards: Sequence[Shard], folder: Path) -> Generator[Iterator[Mapping[str, Any]]]:
    """Give the rows of all shards in the order of their utterances, with at most 100 files open."""
    runs: list[Path] = []
    for number, start in enumerate(range(0, len(shards), _OPEN_FILES)):
        run = folder / f"rows-{number}.jsonl"
        with ExitStack() as stack, run.open("w", encoding="ascii") as file:
            some = shards[start : start + _OPEN_FILES]
            sorted_rows = [_rows(stack.enter_context(shard.files[".jsonl"].open("rb")), shard) for shard in some]
            for row in heapq.merge(*sorted_rows, key=_utterance):
                file.write(json.dumps(row) + "\n")
        runs.append(run)
    with ExitStack() as stack:
        yield heapq.merge(*(map(json.loads, stack.enter_context(run.open("rb"))) for run in runs), key=_utterance)
    for run in runs:
        run.unlink()


def _rows(lines: Iterable[bytes], shard: Shard) -> Iterator[dict[str, Any]]:
    for line in lines:
        row: dict[str, Any] = json.loads(line)
        yield {**row, "place": f"wav/{shard.number:05d}/{row['file']}"}


def _utterance(row: Mapping[str, Any]) -> str:
    return str(row["utterance"])


@dataclass
class KaldiWriter(ShardedWriter):
    """Publishes a Kaldi data folder: `wav.scp`, `segments`, `text`, `utt2spk`, `spk2utt`, and what is known of
    `utt2lang`, `spk2gender`, `utt2dur` and `reco2dur`.

    Each record is a recording of one utterance, cut to a file below `wav`. The paths in `wav.scp` are relative to the
    folder. The id of an utterance begins with its speaker, so both orders of Kaldi agree.

    Args:
        shard_records: how many files are in one folder, about.
    """

    codec: Literal["flac", "wav", "mp3", "opus"] = "wav"
    shard_records: int | None = 1000

    name = "write_kaldi"

    def check(self) -> None:
        if self.shards is not None or self.shard_hours is not None or self.shard_mb is not None:
            raise PlanError("write_kaldi bounds its folders with shard_records alone")
        super().check()
        if self.channels != "mono":
            raise PlanError(f"channels={self.channels!r}: a recording of Kaldi's has one channel")

    def shard_format(self) -> ShardFormat:
        return KaldiFormat()

    def publisher(self) -> PublishKaldi:
        return PublishKaldi(self.path)
