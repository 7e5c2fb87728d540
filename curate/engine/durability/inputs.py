"""Describes the input files of a run, so that one that has changed, or has only grown, is noticed."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

from curate.engine.durability.copies import copy_of
from curate.errors import InfrastructureError, RunDirectoryError
from curate.records import Failed, Record
from curate.stage import Source
from curate.storage import Identity, RemotePath, path_of, replacing

_EDGE_BYTES = 65_536
_BLOCK_BYTES = 1 << 20
_REQUESTS = 16


def describe_inputs(paths: Sequence[Path], *, checksums: bool, listed: bool = False) -> list[dict[str, Any]]:
    """Return the description of the input files for `run.json`.

    Args:
        paths: the files.
        checksums: whether to read them whole, for their sha256; otherwise size, time of change and both ends are kept.
        listed: whether they were found earlier, so that one may be gone; it is left out.
    """
    described: list[dict[str, Any]] = []
    known = identities(paths) if RemotePath in map(type, paths) else [_identity(path) for path in paths]
    for path, found in zip(paths, known, strict=True):
        if found is None and listed:
            continue
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "the input is gone", str(path))
        entry: dict[str, Any] = {"path": str(path.resolve()), "size": found.size, "mtime_ns": found.mtime_ns}
        if found.tag:
            entry["tag"] = found.tag
        # the store's tag says as much as the ends; only the last input may grow, which needs them
        if not found.tag or path == paths[-1] or checksums:
            with path.open("rb") as file:
                entry["edges"] = _edges(file, found.size)
                if checksums:
                    entry["sha256"] = _sha256(file, found.size)
        described.append(entry)
    return described


def identities(paths: Sequence[Path]) -> list[Identity | None]:
    """Return the identity of each file, None for one that is missing; the store is asked for several at a time."""
    with ThreadPoolExecutor(_REQUESTS, thread_name_prefix="identity") as pool:
        return list(pool.map(_identity, paths))


def read_unchanged(source: Source) -> Iterator[Record | Failed]:
    """Yield a source's records.

    Raises:
        InfrastructureError: an input file has changed meanwhile, so the records are neither the old nor the new ones.
    """
    paths = source.inputs()
    before = identities(paths) if RemotePath in map(type, paths) else [_identity(path) for path in paths]
    yield from source.read()
    after = identities(paths) if RemotePath in map(type, paths) else [_identity(path) for path in paths]
    for path, old, new in zip(paths, before, after, strict=True):
        if old != new:
            raise InfrastructureError(f"{path} has changed while it was read; restore it, or use a new --run-dir")


def _identity(path: Path) -> Identity | None:
    try:
        if isinstance(path, RemotePath):
            return path.identity()
        status = path.stat()
    except FileNotFoundError:
        return None
    return Identity(str(path), status.st_size, status.st_mtime_ns)


def changed_input(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> str:
    """Return a clause about the first input that differs from what it was; "" if none does."""
    old, new = ({str(entry["path"]): entry for entry in entries} for entries in (before, now))
    for name in (*old, *new):
        if name not in old:
            return f"the input {name} is new"
        if name not in new:
            return f"the input {name} is gone"
        if not _is_same(old[name], new[name]):
            return f"the input {name} has changed"
    if list(old) != list(new):
        return f"the inputs are in another order: {', '.join(new)}"
    return ""


def _is_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if old["size"] != new["size"] or old.get("tag", "") != new.get("tag", ""):
        return False
    if "tag" in old:
        return True
    if old["edges"] != new["edges"]:
        return False
    if "sha256" not in old or (old["mtime_ns"] == new["mtime_ns"] and "sha256" not in new):
        return old["mtime_ns"] == new["mtime_ns"]
    found = new.get("sha256")
    if found is None:  # it was touched, or copied
        with path_of(new["path"]).open("rb") as file:
            found = _sha256(file, new["size"])
    return found == old["sha256"]


def check_grown(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], can_grow: Callable[[Path], bool]
) -> None:
    """Check that the inputs have not changed, except for lines at the end of the last one, and inputs behind it.

    Args:
        can_grow: whether more bytes at the end of a file are more records, as its source says.

    Raises:
        RunDirectoryError: something else has.
    """
    if not before:
        return
    *first_old, last_old = before
    added = now[len(before) :]
    now = now[: len(before)]
    if [entry["path"] for entry in before] != [entry["path"] for entry in now] or changed_input(first_old, now[:-1]):
        raise RunDirectoryError(
            "--grown: only the last input may have grown, and "
            f"{changed_input(before, [*now, *added])}; records are numbered through all inputs, so use a new --run-dir"
        )
    if not changed_input([last_old], now[-1:]):
        return
    path, size = path_of(last_old["path"]), int(last_old["size"])
    if not can_grow(path):
        raise RunDirectoryError(f"--grown: the format of {path} cannot grow at its end; use a new --run-dir")
    with path.open("rb") as file:
        whole = "sha256" in last_old
        same = int(now[-1]["size"]) >= size and (
            _sha256(file, size) == last_old["sha256"] if whole else _edges(file, size) == last_old["edges"]
        )
        file.seek(max(size - 1, 0))
        if not same or (size and file.read(1) != b"\n"):
            raise RunDirectoryError(
                f"--grown: {path} has changed before its old end at byte {size}, too, or its last line was extended; "
                "use a new --run-dir"
            )


def _edges(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256()
    for start in (0, max(0, size - _EDGE_BYTES)):
        file.seek(start)
        digest.update(file.read(min(_EDGE_BYTES, size - start)))
    return digest.hexdigest()


def _sha256(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (block := file.read(min(_BLOCK_BYTES, size))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


INPUTS = "inputs.jsonl"
"""The file of a run's inputs, and of its copy, where there are too many for `run.json`."""

MOST_IN_RUN_FILE = 100
"""The most inputs that are described in `run.json` itself."""


def store_inputs(described: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the content of `run.json`, of whose inputs all but the first are in a file next to it.

    Args:
        described: the description of the run.
        folder: where the file is written.
    """
    inputs: list[dict[str, Any]] = described["inputs"]
    digest = hashlib.sha256()
    with replacing(folder / INPUTS) as file:
        for entry in inputs:
            line = json.dumps(entry).encode() + b"\n"
            digest.update(line)
            file.write(line)
    kept = {"count": len(inputs), "sha256": digest.hexdigest()}
    return {**described, "inputs": inputs[:MOST_IN_RUN_FILE], "all_inputs": kept}


def stored_inputs(described: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Return the description of a run with all its inputs, from the content of `run.json`.

    Raises:
        RunDirectoryError: the file of its inputs is damaged, and so is its copy.
    """
    wanted: Any = described.get("all_inputs")
    if wanted is None:
        return dict(described)
    for path in (directory / INPUTS, copy_of(directory, INPUTS)):
        content = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(content).hexdigest() == wanted["sha256"]:
            others = {name: value for name, value in described.items() if name != "all_inputs"}
            return {**others, "inputs": list(map(json.loads, content.splitlines()))}
    raise RunDirectoryError(
        f"{directory / INPUTS} is damaged or missing, and so is its copy: whether the inputs have changed is not "
        "known; use a new --run-dir"
    )
