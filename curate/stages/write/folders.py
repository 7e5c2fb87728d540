"""Publishes a folder: built next to its place, and renamed when it is whole; or uploaded, what describes it last."""

from __future__ import annotations

import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from curate.errors import InfrastructureError, PlanError
from curate.io.failpoints import failpoint
from curate.io.provenance import PROVENANCE_FORMAT
from curate.stage import RUN_FOLDERS, Writer
from curate.stages.write.claims import check_url, claim, is_meant_as_url, require_own_folder
from curate.stages.write.places import check_writable
from curate.stages.write.uploads import upload_folder
from curate.storage import TEMPORARY, path_of, read_json, sync_directory
from curate.versions import installed_versions

_ENCODERS = ("av", "numpy", "pyarrow", "soundfile", "soxr")
"""The distributions, other than curate, that the bytes of a set depend on."""


@dataclass
class FolderWriter(Writer):
    """The base of writers that publish a folder.

    Args:
        path: the folder; a relative path lies inside the run directory. It may be a URL.
    """

    path: str | Path

    tuning = frozenset({"path"})
    kind: ClassVar[str] = "folder"
    """The format, as `provenance.json` names it."""

    def check(self) -> None:
        if is_meant_as_url(self.path):
            check_url(self._url)
            return
        path = Path(os.path.normpath(self.path))
        check_writable(self.path, path)
        if path.is_absolute():
            return
        if path.parts[:1] in ((), ("..",)):
            raise PlanError(f"path={str(self.path)!r} must be a folder inside the run directory, or an absolute path")
        if path.parts[0] in RUN_FOLDERS:
            raise PlanError(f"path={str(self.path)!r}: {path.parts[0]}/ is reserved for the run's own files")

    def outputs(self) -> tuple[str, ...]:
        return (self._url if is_meant_as_url(self.path) else os.path.normpath(self.path),)

    def check_place(self, directory: Path) -> None:
        require_own_folder(self.place(directory), directory)

    def place(self, directory: Path) -> Path:
        """Return where the folder is published."""
        return path_of(self._url) if is_meant_as_url(self.path) else directory / os.path.normpath(self.path)

    @property
    def _url(self) -> str:
        return str(self.path).rstrip("/")

    @contextmanager
    def building(self, directory: Path) -> Generator[Path]:
        """Give an empty folder, which takes the place of the published one when the block ends without an error.

        Raises:
            PlanError: another run has published there meanwhile.
            InfrastructureError: a file cannot be written.
        """
        place = self.place(directory)
        self.check_place(directory)  # something may have appeared since the run began
        if is_meant_as_url(self.path):
            claim(self.name, [place], directory)
            place = directory / f"publish-{hashlib.sha256(self._url.encode()).hexdigest()[:12]}"
        # The name has the run in it: another one may be building a set for the same place at this moment.
        own = f"{place.name}{TEMPORARY}{hashlib.sha256(os.fsencode(directory.absolute())).hexdigest()[:12]}-"
        building = place.with_name(f"{own}{secrets.token_hex(4)}")
        try:
            for left in place.parent.glob(f"{glob.escape(own)}*/"):  # by a killed attempt
                shutil.rmtree(left)
            building.mkdir(parents=True)
            yield building
            if is_meant_as_url(self.path):
                upload_folder(building, self._url)
                return
            _sync(building)
            failpoint("set.before_rename")
            self.check_place(directory)  # or since this set was begun: it would be deleted
            _replace(building, place)
            failpoint("set.after_rename")
        except OSError as error:
            name = self._url if is_meant_as_url(self.path) else place
            raise InfrastructureError(f"cannot publish {name}: {error.strerror or error}") from error
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
            "versions": installed_versions(_ENCODERS),
            "fingerprint": run.get("fingerprint"),
            "layout": run.get("layout"),
            "stages": run.get("settings"),
            "inputs": run.get("inputs"),
            "outcomes": dict(self.outcomes),
        }


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
