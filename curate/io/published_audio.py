"""Records as they are published: the new audio of the run by a path relative to the published file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from curate.io.rows import decode_row, encode_row, without_id
from curate.records import ID, Record, RecordReader
from curate.storage import RemotePath

RUN_AUDIO = "run:audio/"
"""Begins the path of new audio inside a run; the rest is relative to the folder `audio` of the run directory."""

_MARK = f'"{RUN_AUDIO}'.encode()


def with_published_audio(records: RecordReader, path: Path, run_directory: Path) -> RecordReader:
    """Return the records with every `run:audio/…` replaced by a path relative to the folder of a published file.

    Args:
        path: the file that is published; the paths in one behind a URL are absolute.
        run_directory: the run directory; the records are returned as they are if there is no new audio in it.
    """
    audio = run_directory / "audio"
    if not audio.is_dir():
        return records
    is_remote = isinstance(path, RemotePath)
    relative = audio.absolute() if is_remote else os.path.relpath(audio.absolute(), path.absolute().parent)
    return _PublishedRecords(records, Path(relative).as_posix() + "/")


@attrs.frozen
class _PublishedRecords:
    records: RecordReader
    folder: str

    def __iter__(self) -> Iterator[Record]:
        return map(self._published, self.records)

    def lines(self) -> Iterator[bytes]:
        for line in self.records.lines():
            if _MARK in line:
                line = without_id(encode_row({**self._published(decode_row(line)), ID: ""}))
            yield line

    def _published(self, record: Record) -> Record:
        moved = {
            name: self.folder + value.removeprefix(RUN_AUDIO)
            for name, value in record.items()
            if isinstance(value, str) and value.startswith(RUN_AUDIO)
        }
        return {**record, **moved} if moved else record
