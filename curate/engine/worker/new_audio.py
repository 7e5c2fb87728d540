"""Writes new audio that stages make, as files of the run directory that a commit will name.

A file is written under its final name when the stage makes it, so that the next stage can read it. It is made durable
(fsync, many files together) before the records that refer to it are acknowledged. Files to which no outcome of a record
refers are deleted; the leftovers of a crash are deleted when the run is resumed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from curate.audio.files import RUN_SCHEME
from curate.audio.flac import encode_flac
from curate.engine.protocol.messages import NewFile, PartialResult
from curate.engine.worker.outcomes import OutcomeCollector
from curate.errors import InfrastructureError
from curate.io.failpoints import failpoint
from curate.records import ID, Record
from curate.storage import sync_directory, temporary_path

FOLDER = "audio"

_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")
_ID_CHARACTERS = 80
_DIGEST_CHARACTERS = 32


class NewAudio:
    """The files that one worker has written and not yet acknowledged.

    Args:
        run_directory: the run directory; the files lie in its folder `audio`.
    """

    def __init__(self, run_directory: str) -> None:
        self._directory = Path(run_directory)
        self._outcomes: OutcomeCollector | None = None
        self._written: dict[str, dict[str, NewFile]] = {}
        """Root → path → file."""

    def begin(self, outcomes: OutcomeCollector) -> None:
        """Note the batch that the next files belong to; those of a batch that was abandoned are forgotten."""
        self._outcomes = outcomes
        self._written.clear()

    def write(self, record: Record, samples: Any, rate_hz: int, *, filepath_key: str) -> Record:
        """Write samples as FLAC, and return the record with this file as its audio.

        The record loses its `offset`, and the columns that choose a channel where the samples have one; its `duration`
        is that of the samples.

        Raises:
            RecordError: the samples cannot be encoded.
            InfrastructureError: the file cannot be written.
        """
        if self._outcomes is None:
            raise InfrastructureError("context.new_audio writes audio of the record at work; call it while processing")
        content = encode_flac(samples, rate_hz)
        identity: str = record[ID]
        path = _path_of(identity, content)
        try:
            _write(self._directory / path, content)
        except OSError as error:
            raise InfrastructureError(f"cannot write {path} in the run directory: {error}") from error
        (root,) = self._outcomes.roots_of([identity])
        file = NewFile(root, path, len(content), hashlib.sha256(content).hexdigest())
        self._written.setdefault(root, {})[path] = file
        self._outcomes.track_individually()
        changed = {**record, filepath_key: RUN_SCHEME + path, "duration": round(len(samples) / rate_hz, 6)}
        changed.pop("offset", None)
        if samples.ndim == 1:
            changed.pop("channel", None)
            changed.pop("channel_selector", None)
        for column, value in (
            ("sampling_rate", int(rate_hz)),
            ("channels", 1 if samples.ndim == 1 else samples.shape[1]),
        ):
            if column in changed:
                changed[column] = value
        return changed

    def acknowledge(self, result: PartialResult) -> None:
        """Make durable what the records of a result refer to, and name it in the result; delete the rest.

        Raises:
            InfrastructureError: the file system refuses.
        """
        if not self._written:
            return
        files: list[NewFile] = []
        unused: list[NewFile] = []
        for root in dict.fromkeys(result.roots()):
            written = self._written.pop(root, {})
            used = _used(result, root, written)
            for path, file in written.items():
                (files if path in used else unused).append(file)
        try:
            self._make_durable(files)
            for file in unused:
                (self._directory / file.path).unlink(missing_ok=True)
        except OSError as error:
            raise InfrastructureError(f"cannot keep new audio in {self._directory / FOLDER}: {error}") from error
        result.files = files

    def _make_durable(self, files: Collection[NewFile]) -> None:
        if not files:
            return
        failpoint("audio.before_sync")
        for file in files:
            with (self._directory / file.path).open("rb") as written:
                os.fsync(written.fileno())
        for folder in sorted({(self._directory / file.path).parent for file in files}):
            sync_directory(folder)
        sync_directory(self._directory / FOLDER)
        sync_directory(self._directory)
        failpoint("audio.after_sync")


def _used(result: PartialResult, root: str, written: Collection[str]) -> set[str]:
    """Return which of the paths that were written for a root the outcomes of this root refer to."""
    if not written:
        return set()
    found: set[str] = set()
    values = {RUN_SCHEME + path: path for path in written}
    for row in _rows_of(result, root):
        if isinstance(row, bytes):  # a path is made of characters that JSON leaves alone
            found.update(path for value, path in values.items() if f'"{value}"'.encode() in row)
        else:
            found.update(values[value] for value in row.values() if isinstance(value, str) and value in values)
    return found


def _rows_of(result: PartialResult, root: str) -> Iterator[Record | bytes]:
    for of_root, row in zip(result.kept_roots or (), result.kept, strict=True):
        if of_root == root:
            yield row
    for note in (*result.filtered, *result.quarantined):
        if note.root == root:
            yield note.record


def _path_of(identity: str, content: bytes) -> str:
    """Return the path of new audio below the run directory: fanned out, and named by the id and the content.

    Two records never share a file, even if their audio is the same: each is deleted with its own record.
    """
    digest = hashlib.sha256(hashlib.sha256(content).digest() + identity.encode(errors="surrogatepass")).hexdigest()
    name = _UNSAFE.sub("_", identity)[-_ID_CHARACTERS:].lstrip(".-")
    return f"{FOLDER}/{digest[:2]}/{name}-{digest[:_DIGEST_CHARACTERS]}.flac"


def _write(path: Path, content: bytes) -> None:
    """Write a file that appears whole, or not at all; it is not yet durable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    temporary.write_bytes(content)
    failpoint("audio.after_temporary")
    temporary.replace(path)
    failpoint("audio.after_rename")
