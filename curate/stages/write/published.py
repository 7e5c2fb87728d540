"""Publishes a data set as a folder: built next to its place, and renamed when it is whole."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, cast

import attrs

from curate.errors import InfrastructureError, PlanError
from curate.io.failpoints import failpoint
from curate.io.provenance import PROVENANCE, PROVENANCE_FORMAT
from curate.stage import RUN_FOLDERS, ShardFile, ShardPublisher
from curate.stages.write.claims import check_url, claim, is_url, read_object, require_own_folder, upload_all
from curate.stages.write.places import check_writable
from curate.storage import TEMPORARY, delete, describe_file, path_of, read_json, sync_directory, write_json


@attrs.frozen
class Shard:
    """A shard of a data set that is being published.

    Args:
        folder: its folder in the data set; empty: the data set's own.
        number: its number in this folder, from 0.
        files: its files by their suffix; they must not be changed, but may be linked.
        description: how many records it has, and their durations by id.
    """

    folder: str
    number: int
    files: Mapping[str, Path]
    description: Mapping[str, Any]

    @property
    def records(self) -> int:
        return int(self.description["records"])

    @property
    def duration_s(self) -> float:
        return sum(self.description["durations"].values())


@dataclass
class PublishShards(ShardPublisher):
    """Publishes shards as a folder; the base of the publishers of each format.

    A format defines `names(shard, count)`, and `write_index(shards, folder)` for the files that describe all shards.

    Args:
        path: the folder; a relative path lies inside the run directory. It may be a URL.
    """

    path: str | Path

    name = "publish"
    tuning = frozenset({"path"})
    kind: ClassVar[str] = "shards"
    """The format, as `provenance.json` names it."""

    def names(self, shard: Shard, count: int) -> Mapping[str, str]:
        """Return the names of a shard's files, by suffix, inside the data set.

        Args:
            shard: the shard.
            count: how many shards its folder has.
        """
        raise NotImplementedError(f"{type(self).__name__} must define names(shard, count)")

    def write_index(self, shards: Sequence[Shard], folder: Path) -> None:
        """Write the files that describe the data set.

        Args:
            shards: in order; those of one folder follow one another.
            folder: where the data set is being built, with the files of all shards.
        """

    def check(self) -> None:
        if is_url(self.path):
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
        return (self._url if is_url(self.path) else os.path.normpath(self.path),)

    def check_place(self, directory: Path) -> None:
        if is_url(self.path):
            require_own_folder(self._url, PROVENANCE, directory)
            return
        place = self._place(directory)
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

    @property
    def _url(self) -> str:
        return str(self.path).rstrip("/")

    def publish(self, shards: Sequence[ShardFile], directory: Path) -> list[Path]:
        if is_url(self.path):
            return self._upload(shards, directory)
        place = self._place(directory)
        grouped = list(_grouped(shards))
        building = place.with_name(f"{place.name}{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}")
        try:
            for left in place.parent.glob(f"{glob.escape(place.name)}{TEMPORARY}*/"):  # by a killed attempt
                shutil.rmtree(left)
            building.mkdir(parents=True)
            files = self._link(grouped, building, {str(file.path): file for file in shards})
            self.write_index(grouped, building)
            _describe(building, files, grouped, directory, self.kind)
            _sync(building)
            failpoint("set.before_rename")
            _replace(building, place)
            failpoint("set.after_rename")
        except OSError as error:
            raise InfrastructureError(f"cannot publish {place}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return [place]

    def _upload(self, shards: Sequence[ShardFile], directory: Path) -> list[Path]:
        """Publish below a URL: all shards, then what describes them, and `provenance.json` last.

        A shard that is there from an earlier attempt of this run, by its `provenance.json`, is not sent again.
        """
        self.check_place(directory)  # something may have appeared since the run began
        grouped = list(_grouped(shards))
        digest = hashlib.sha256(self._url.encode()).hexdigest()[:12]
        building = directory / f"publish{TEMPORARY}{digest}"
        try:
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            files = self._link(grouped, building, {str(file.path): file for file in shards})
            linked = list(files)
            self.write_index(grouped, building)
            _describe(building, files, grouped, directory, self.kind)
            before = dict(read_object(f"{self._url}/{PROVENANCE}").get("files", {}))
            claim(self._url, directory)
            upload_all(building, self._url, [name for name in linked if before.get(name) != files[name]])
            failpoint("set.before_rename")
            upload_all(building, self._url, [name for name in files if name not in linked and name != PROVENANCE])
            upload_all(building, self._url, [PROVENANCE])
            failpoint("set.after_rename")
            for name in before.keys() - files.keys():
                delete(f"{self._url}/{name}")
        except OSError as error:
            raise InfrastructureError(f"cannot publish {self._url}: {error}") from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
        return [path_of(self._url)]

    def _place(self, directory: Path) -> Path:
        return directory / os.path.normpath(self.path)

    def _link(
        self, shards: Sequence[Shard], folder: Path, known: Mapping[str, ShardFile]
    ) -> dict[str, Mapping[str, Any]]:
        """Link all files of the shards, and return their sizes and checksums by their names."""
        counts = {name: sum(1 for _ in group) for name, group in groupby(shards, key=lambda shard: shard.folder)}
        files: dict[str, Mapping[str, Any]] = {}
        for shard in shards:
            names = self.names(shard, counts[shard.folder])
            for suffix, name in names.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                source = shard.files[suffix]
                try:
                    os.link(source, target)
                except OSError:  # another file system, or one without hard links
                    shutil.copyfile(source, target)
                files[name] = {"size": known[str(source)].size, "sha256": known[str(source)].sha256}
        return files


def _grouped(files: Sequence[ShardFile]) -> Iterable[Shard]:
    """Yield shards from their files, which are in order."""
    number, folder = 0, None
    for _, of_shard in groupby(files, key=lambda file: (file.position, file.path.name.partition(".")[0])):
        found = list(of_shard)
        by_suffix = {"." + file.path.name.partition(".")[2]: file.path for file in found}
        label = found[0].folder.partition("/")[2]
        number, folder = (number + 1 if label == folder else 0), label
        description = cast("dict[str, Any]", json.loads(by_suffix.pop(".json").read_bytes()))
        yield Shard(label, number, by_suffix, description)


def _describe(
    building: Path, files: dict[str, Mapping[str, Any]], shards: Sequence[Shard], directory: Path, kind: str
) -> None:
    """Write `provenance.json`."""
    run = read_json(directory / "run.json")
    for path in sorted(building.rglob("*")):
        name = path.relative_to(building).as_posix()
        if path.is_file() and name not in files:
            files[name] = describe_file(path)
    folders: dict[str, dict[str, Any]] = {}
    for shard in shards:
        folder = folders.setdefault(shard.folder, {"shards": 0, "records": 0, "hours": 0.0})
        folder["shards"] += 1
        folder["records"] += shard.records
        folder["hours"] += shard.duration_s / 3600
    write_json(
        building / PROVENANCE,
        {
            "provenance": PROVENANCE_FORMAT,
            "kind": kind,
            "run": str(directory.absolute()),
            "pipeline": run.get("name"),
            "curate": run.get("curate"),
            "fingerprint": run.get("fingerprint"),
            "layout": run.get("layout"),
            "stages": run.get("settings"),
            "inputs": run.get("inputs"),
            "records": sum(shard.records for shard in shards),
            "hours": round(sum(shard.duration_s for shard in shards) / 3600, 6),
            "folders": {name: {**each, "hours": round(each["hours"], 6)} for name, each in folders.items()},
            "files": dict(sorted(files.items())),
        },
    )


def _sync(building: Path) -> None:
    """Make a new folder durable."""
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
