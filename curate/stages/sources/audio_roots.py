"""The folders and URLs that the audio of a source may lie below, as its settings name them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from curate.errors import PlanError
from curate.storage import is_url

Paths = str | Path | Sequence[str | Path]


def check_within(path: Path, places: Sequence[str | Path], roots: Sequence[str | Path]) -> None:
    """Check that most of the first records' audio lies in the roots; where it does not, the setting is at fault.

    Raises:
        PlanError: it does not; the message has the line to paste.
    """
    outside = [place for place in places if not any(_lies_in(place, root) for root in roots)]
    if 2 * len(outside) > len(places):
        needed = _folders_of(outside) + [_absolute(root) for root in roots if len(outside) < len(places)]
        raise PlanError(
            f"the audio of {path} lies outside its roots, {outside[0]} for example; "
            f"to allow it, set\n    roots: [{', '.join(dict.fromkeys(needed))}]"
        )


def root_paths(roots: Paths) -> list[Path]:
    """Return the roots that are folders."""
    return [Path(root) for root in listed_paths(roots) if not is_url(root)]


def root_urls(roots: Paths) -> list[str]:
    """Return the roots that are URLs."""
    return [root for root in listed_paths(roots) if is_url(root)]


def listed_paths(given: Paths) -> list[str]:
    """Return the paths of a setting that takes one or several."""
    return [str(path) for path in ([given] if isinstance(given, str | Path) else given)]


def check_exist(roots: Paths) -> None:
    """Raise `PlanError` when a root is not a folder."""
    for root in root_paths(roots):
        if not root.is_dir():
            raise PlanError(f"roots: {root} is not a folder (looked from {Path.cwd()})")


def _lies_in(place: str | Path, root: str | Path) -> bool:
    if is_url(place) or is_url(root):
        return is_url(root) and str(place).startswith(f"{str(root).rstrip('/')}/")
    return Path(os.path.realpath(place)).is_relative_to(os.path.realpath(root))


def _absolute(root: str | Path) -> str:
    return str(root) if is_url(root) else str(Path(root).absolute())


def _folders_of(places: Sequence[str | Path]) -> list[str]:
    """Return the common folder of all files, or their own folders if the common one is the root of the file system; of
    URLs, the buckets or hosts.
    """
    urls = sorted({"/".join(str(place).split("/")[:3]) for place in places if is_url(place)})
    folders = sorted({os.path.realpath(Path(place).parent) for place in places if not is_url(place)})
    if not folders:
        return urls
    common = os.path.commonpath(folders)
    return [*(folders if common == os.sep else [common]), *urls]
