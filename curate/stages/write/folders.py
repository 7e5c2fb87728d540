"""Publishes a folder: built next to its place, and renamed when it is whole."""

from __future__ import annotations

import glob
import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from curate.errors import InfrastructureError, PlanError
from curate.io.failpoints import failpoint
from curate.io.provenance import PROVENANCE, PROVENANCE_FORMAT
from curate.stage import RUN_FOLDERS, Writer
from curate.stages.write.places import check_writable
from curate.storage import TEMPORARY, read_json, sync_directory

_ENCODERS = ("av", "numpy", "pyarrow", "soundfile", "soxr")
"""The distributions, other than curate, that the bytes of a set depend on."""


@dataclass
class FolderWriter(Writer):
    """The base of writers that publish a folder.

    Args:
        path: the folder; a relative path lies inside the run directory.
    """

    path: str | Path

    tuning = frozenset({"path"})
    kind: ClassVar[str] = "folder"
    """The format, as `provenance.json` names it."""

    def check(self) -> None:
        path = Path(os.path.normpath(self.path))
        check_writable(self.path, path)
        if path.is_absolute():
            return
        if path.parts[:1] in ((), ("..",)):
            raise PlanError(f"path={str(self.path)!r} must be a folder inside the run directory, or an absolute path")
        if path.parts[0] in RUN_FOLDERS:
            raise PlanError(f"path={str(self.path)!r}: {path.parts[0]}/ is reserved for the run's own files")

    def outputs(self) -> tuple[str, ...]:
        return (os.path.normpath(self.path),)

    def check_place(self, directory: Path) -> None:
        place = self.place(directory)
        if not place.exists():
            return
        if not place.is_dir() or any(place.iterdir()):
            owner = read_json(place / PROVENANCE).get("run") if place.is_dir() else None
            if owner is None:
                raise PlanError(
                    f"{place} is there already, and is not a data set that curate has published: "
                    "choose another path, or move it away"
                )
            if owner != str(directory.absolute()):
                raise PlanError(f"{place} is the data set of another run, {owner}: choose another path, or delete it")

    def place(self, directory: Path) -> Path:
        """Return where the folder is published."""
        return directory / os.path.normpath(self.path)

    @contextmanager
    def building(self, directory: Path) -> Generator[Path]:
        """Give an empty folder, which takes the place of the published one when the block ends without an error.

        Raises:
            InfrastructureError: a file cannot be written.
        """
        place = self.place(directory)
        building = place.with_name(f"{place.name}{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}")
        try:
            for left in place.parent.glob(f"{glob.escape(place.name)}{TEMPORARY}*/"):  # by a killed attempt
                shutil.rmtree(left)
            building.mkdir(parents=True)
            yield building
            _sync(building)
            failpoint("set.before_rename")
            _replace(building, place)
            failpoint("set.after_rename")
        except OSError as error:
            raise InfrastructureError(f"cannot publish {place}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def provenance(self, directory: Path) -> dict[str, Any]:
        """Return where a set comes from: the run, its stages with their settings, its inputs, and its outcomes."""
        run = read_json(directory / "run.json")
        return {
            "provenance": PROVENANCE_FORMAT,
            "kind": self.kind,
            "run": str(directory.absolute()),
            "pipeline": run.get("name"),
            "curate": run.get("curate"),
            "versions": _versions(),
            "fingerprint": run.get("fingerprint"),
            "layout": run.get("layout"),
            "stages": run.get("settings"),
            "inputs": run.get("inputs"),
            "outcomes": dict(self.outcomes),
        }


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _ENCODERS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _sync(building: Path) -> None:
    """Make a new folder durable; what is linked is durable already."""
    for path in building.rglob("*"):
        if path.is_dir():
            sync_directory(path)
        elif path.stat().st_nlink == 1:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_directory(building)


def _replace(building: Path, place: Path) -> None:
    """Put a new folder in the place of an old one of the same run."""
    old = building.with_name(f"{building.name}-old")
    if place.exists():
        place.rename(old)
    building.rename(place)
    sync_directory(place.parent)
    shutil.rmtree(old, ignore_errors=True)
