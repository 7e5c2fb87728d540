"""Writes audio files, one for each record, with a manifest next to them."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, BinaryIO, ClassVar

from curate.audio.encoding import EncodedAudio
from curate.errors import PlanError, RecordError
from curate.io.provenance import CHECKSUMS
from curate.io.rows import encode_json, encode_text
from curate.records import DEFAULT_FILEPATH_KEY, ID, Record
from curate.stages.write.formats import OpenShard, ShardFormat, ShardPlace, member_name
from curate.stages.write.published import DataSet, PublishShards, Shard
from curate.stages.write.rows import published_row
from curate.stages.write.shards import ShardedWriter

MANIFEST = "manifest.jsonl"

_UNSAFE = re.compile(r"[^\w.+@=-]+")
_MOST_NAME_BYTES = 200
_MOST_VALUE_CHARS = 150
_OWN_FIELDS = frozenset({"id", "stem"})
_FILES_IN_MEMORY = 64
"""The number of parts in which the names are compared; one of them is in memory at a time."""


@dataclass
class AudioFilesFormat(ShardFormat):
    """A folder of audio files, their rows in a manifest, and their checksums.

    Args:
        template: the name of each file, without a suffix.
        filepath_key: the column with the path of the audio.
    """

    template: str = "{id}"
    filepath_key: str = DEFAULT_FILEPATH_KEY

    suffixes = (".jsonl", ".sha256")
    holds_files = True
    surveys = True

    def survey(self, records: Iterable[Record], scratch: Path) -> str:
        if "id" not in template_fields(self.template):  # with it, no two names are equal
            _check_names(records, self.name_of, scratch)
        return ""

    def name_of(self, record: Record) -> str:
        """Return the name of a record's file, without a suffix."""
        stem = Path(str(record.get(self.filepath_key) or "").rpartition("::")[2] or "none").stem
        own = {"id": member_name(record[ID]), "stem": _safe(stem)}
        values = {
            name: own[name] if name in own else _safe(record.get(name)) for name in template_fields(self.template)
        }
        return self.template.format(**values)

    def open_at(self, place: ShardPlace) -> OpenShard:
        manifest, checksums = place.files
        return _AudioFiles(self, place.folder, manifest, checksums)


class _AudioFiles:
    def __init__(self, format: AudioFilesFormat, folder: Path, manifest: BinaryIO, checksums: BinaryIO) -> None:
        self._format, self._folder, self._manifest, self._checksums = format, folder, manifest, checksums

    def add(self, record: Record, audio: EncodedAudio) -> None:
        name = f"{self._format.name_of(record)}.{audio.extension}"
        if len(name.encode(errors="surrogateescape")) > _MOST_NAME_BYTES:
            raise RecordError("bad_value", f"the file's name is longer than {_MOST_NAME_BYTES} bytes: {name:.80}…")
        row = {DEFAULT_FILEPATH_KEY: name, **published_row(record, audio)}
        line = encode_json(row) + b"\n"
        write_member(self._folder / name, audio.content, self._checksums)
        self._manifest.write(line)

    def close(self) -> None:
        return


def write_member(path: Path, content: bytes, checksums: BinaryIO) -> None:
    """Write a new file, and its checksum as a line of `sha256sum`."""
    with path.open("xb") as file:
        file.write(content)
    checksums.write(encode_text(f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"))


def template_fields(template: str) -> list[str]:
    """Return the columns that a template names.

    Raises:
        PlanError: it cannot be a name.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise PlanError(f"template={template!r}: {error}") from None
    for _, field, specification, conversion in parts:
        if field is not None and (not field.isidentifier() or specification or conversion):
            raise PlanError(f"template={template!r}: {{{field}}} is not the name of a column in braces")
    return [field for _, field, _, _ in parts if field is not None]


def _safe(value: object) -> str:
    """Return a value as a part of a name."""
    if value is None:
        return "none"
    text = unicodedata.normalize("NFC", str(value))
    return _UNSAFE.sub("_", text)[:_MOST_VALUE_CHARS].strip(".") or "_"


def _check_names(records: Iterable[Record], name_of: Any, scratch: Path) -> None:
    """Check, out of core, that no two names are equal where a file system makes no difference of case.

    Raises:
        PlanError: two are; the message names the records.
    """
    paths = [scratch / f"names-{number}" for number in range(_FILES_IN_MEMORY)]
    files = [path.open("wb") for path in paths]
    try:
        for record in records:
            digest = hashlib.sha256(str(name_of(record)).casefold().encode(errors="surrogatepass")).digest()[:16]
            files[digest[0] % _FILES_IN_MEMORY].write(digest)
    finally:
        for file in files:
            file.close()
    for path in paths:
        content = path.read_bytes()
        path.unlink()
        seen: set[bytes] = set()
        for start in range(0, len(content), 16):
            digest = content[start : start + 16]
            if digest in seen:
                _raise_collision(records, name_of, digest)
            seen.add(digest)


def _raise_collision(records: Iterable[Record], name_of: Any, wanted: bytes) -> None:
    def fits(name: str) -> bool:
        return hashlib.sha256(name.casefold().encode(errors="surrogatepass")).digest()[:16] == wanted

    found = [(record[ID], name) for record in records if fits(name := str(name_of(record)))]
    raise PlanError(
        f"template: {len(found):,} records would have the name {found[0][1]!r}, such as {found[0][0]} and "
        f"{found[1][0]}; add a column that distinguishes them, or {{id}}"
    )


@dataclass
class PublishAudioFiles(PublishShards):
    """Publishes audio files in folders of bounded size, a manifest with relative paths, and a list of checksums."""

    kind: ClassVar[str] = "audio_files"

    def names(self, shard: Shard, count: int) -> Mapping[str, str]:
        return {}

    def member_folder(self, shard: Shard, count: int) -> str:
        return f"{_below(shard.folder)}{audio_folder(shard)}"

    def checksum_lists(self, published: DataSet) -> Sequence[str]:
        return (CHECKSUMS,)

    def write_index(self, published: DataSet) -> None:
        start = f'{{"{DEFAULT_FILEPATH_KEY}": "'.encode()
        for name, shards in published.by_folder():
            with (published.folder / name / MANIFEST).open("wb") as manifest:
                for shard in shards:
                    folder = f"{audio_folder(shard)}/".encode()
                    with shard.files[".jsonl"].open("rb") as rows:
                        for line in rows:
                            manifest.write(start + folder + line.removeprefix(start))
        write_checksums(published, self.member_folder)


def audio_folder(shard: Shard) -> str:
    """Return the folder of a shard's audio files, inside the folder of its label."""
    return f"audio/{shard.number:05d}"


def _below(folder: str) -> str:
    return f"{folder}/" if folder else ""


def write_checksums(published: DataSet, folder_of: Any) -> None:
    """Write one list of the checksums of all files of single records."""
    with (published.folder / CHECKSUMS).open("wb") as file:
        for _, shards in published.by_folder():
            for shard in shards:
                folder = str(folder_of(shard, len(shards)))
                with shard.files[".sha256"].open("rb") as lines:
                    for line in lines:
                        digest, _, name = line.partition(b"  ")
                        file.write(digest + b"  " + f"{folder}/".encode() + name)


@dataclass
class AudioFilesWriter(ShardedWriter):
    """Publishes one audio file for each record, and `manifest.jsonl` with their paths relative to it.

    The files lie in `audio/00000`, `audio/00001` and so on, in the order of the input, with `shard_records` in each.
    `checksums.sha256` has their checksums.

    Args:
        template: the name of each file, without a suffix: columns in braces, `{id}` for a name that follows from the
            record's id, and `{stem}` for that of its recording. Two records of one name are an error, before any work.
        shard_records: how many files are in one folder, about.
    """

    template: str = "{id}"
    shard_records: int | None = 1000

    name = "write_audio"

    def check(self) -> None:
        if self.shards is not None or self.shard_hours is not None or self.shard_mb is not None:
            raise PlanError("write_audio bounds its folders with shard_records alone")
        super().check()
        fields = template_fields(self.template)
        if not fields or "/" in self.template or self.template.startswith("."):
            raise PlanError(
                f"template={self.template!r} must have a column in braces, no slash (use `by` for folders), and no "
                "leading dot"
            )

    def reads(self) -> Collection[str]:
        return [name for name in template_fields(self.template) if name not in _OWN_FIELDS]

    def shard_format(self) -> ShardFormat:
        return AudioFilesFormat(self.template, self.filepath_key)

    def publisher(self) -> PublishAudioFiles:
        return PublishAudioFiles(self.path)
