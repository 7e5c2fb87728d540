"""Second copies of what cannot be processed again: `run.json` and the commits, in the folder `copies`.

They are a few kilobytes a commit. A copy is written after its original and removed before it, so a copy without an
original means that the original was lost. Copies are not synced: what a crash of the machine takes from one makes its
checksum wrong, and the original, which is synced, is there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from curate.storage import json_checksum, sync_directory

COPIES = "copies"
"""The folder of the copies in a run directory."""

DAMAGED = "damaged"
"""The folder of damaged files that a repair has moved aside; nothing in it is read by a run or deleted."""

RUN = "run.json"


def copy_of(directory: Path, name: str) -> Path:
    """Return the path of the copy of a commit or of `run.json`, by the name of the original."""
    return directory / COPIES / name


def remove_commit(directory: Path, unit: str) -> None:
    """Delete the commit of a unit that no longer counts, its copy first."""
    name = f"{unit}.json"
    copy_of(directory, name).unlink(missing_ok=True)
    (directory / "commits" / name).unlink(missing_ok=True)


def move_aside(directory: Path, name: str) -> str:
    """Move a damaged file to the folder `damaged` of its run directory, and return its path there.

    Both paths are relative to the run directory; "" if there is no such file. A second file of the name gets a number.
    """
    source, target = directory / name, directory / DAMAGED / name
    if not source.exists() and not source.is_symlink():
        return ""
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while target.exists():
        number += 1
        target = directory / DAMAGED / f"{name}.{number}"
    source.rename(target)
    sync_directory(source.parent)
    return str(target.relative_to(directory))


def read_run_file(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Return the content of `run.json` or of its copy, None if it cannot be used; and the problem of the file.

    A file of JSON whose checksum is wrong has both: a content, and a problem.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None, "is missing"
    except OSError as error:
        return None, f"cannot be read: {error.strerror}"
    try:
        described: Any = json.loads(content)
    except ValueError:
        return None, f"is damaged: its {len(content):,} bytes are not JSON"
    if not isinstance(described, dict) or "format" not in described:
        return None, "is damaged: it does not describe a run"
    described = cast("dict[str, Any]", described)
    given = described.pop("checksum", None)
    if given is not None and given != json_checksum(described):
        return described, "is damaged: its content has another checksum than it was written with"
    return described, ""
