"""Publishes a data set of shards as a folder: its files are linked, and what describes all of them is written last."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, cast

import attrs

from curate.errors import InfrastructureError
from curate.io.provenance import PROVENANCE
from curate.stage import SHARD_MEMBERS, ShardFile, ShardPublisher
from curate.stages.write.folders import FolderWriter
from curate.stages.write.tallies import SetTally
from curate.storage import describe_file, write_json


@attrs.frozen
class Shard:
    """A shard of a data set that is being published.

    Args:
        folder: its folder in the data set; empty: the data set's own.
        number: its number in this folder, from 0.
        files: its files by their suffix; they must not be changed, but may be linked.
        members: the folder with its files of single records, if its format has them.
        records: how many it has.
        duration_s: of all its records.
    """

    folder: str
    number: int
    files: Mapping[str, Path]
    members: Path
    records: int
    duration_s: float


@attrs.frozen
class DataSet:
    """A data set that is being published, before the files that describe all of it are written.

    Args:
        shards: in order; those of one folder follow one another.
        folder: where the set is being built, with the files of all shards.
        tally: the hours by values of columns, and the durations of all records.
        provenance: where the set comes from, and what is in it, without the checksums of its files.
    """

    shards: Sequence[Shard]
    folder: Path
    tally: SetTally
    provenance: Mapping[str, Any]

    def by_folder(self) -> list[tuple[str, list[Shard]]]:
        """Return each folder with its shards."""
        return [(name, list(group)) for name, group in groupby(self.shards, key=lambda shard: shard.folder)]


@dataclass
class PublishShards(FolderWriter, ShardPublisher):
    """Publishes shards as a folder; the base of the publishers of each format.

    A format defines `names(shard, count)`, and `write_index(published)` for the files that describe all shards.

    Args:
        path: the folder; a relative path lies inside the run directory.
    """

    name = "publish"
    kind: ClassVar[str] = "shards"

    def names(self, shard: Shard, count: int) -> Mapping[str, str]:
        """Return the names of a shard's files, by suffix, inside the data set; what has no name is not published.

        Args:
            shard: the shard.
            count: how many shards its folder has.
        """
        raise NotImplementedError(f"{type(self).__name__} must define names(shard, count)")

    def member_folder(self, shard: Shard, count: int) -> str | None:
        """Return the folder of a shard's files of single records, inside the data set; None: it has none."""
        return None

    def write_index(self, published: DataSet) -> None:
        """Write the files that describe the data set."""

    def checksum_lists(self, published: DataSet) -> Sequence[str]:
        """Return the names of files with the checksums of others, as `sha256sum` writes them.

        A set with a file for each record has them there, because `provenance.json` is read as a whole.
        """
        return ()

    def publish(self, shards: Sequence[ShardFile], directory: Path) -> list[Path]:
        tally = SetTally()
        grouped = list(_grouped(shards, tally))
        with self.building(directory) as building:
            files = self._link(grouped, building, {str(file.path): file for file in shards})
            provenance = {**self.provenance(directory), **_contents(grouped, tally)}
            published = DataSet(grouped, building, tally, provenance)
            self.write_index(published)
            self._describe(published, files)
        return [self.place(directory)]

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
                _link(source, target)
                files[name] = {"size": known[str(source)].size, "sha256": known[str(source)].sha256}
            members = self.member_folder(shard, counts[shard.folder])
            if members is not None:
                target = folder / members
                target.mkdir(parents=True)
                for path in sorted(shard.members.iterdir()):
                    _link(path, target / path.name)
        return files

    def _describe(self, published: DataSet, files: dict[str, Mapping[str, Any]]) -> None:
        """Write `provenance.json`, with the checksums of all files that no list has."""
        building = published.folder
        lists = list(self.checksum_lists(published))
        members = {
            building / folder
            for _, shards in published.by_folder()
            for shard in shards
            if (folder := self.member_folder(shard, len(shards))) is not None
        }
        for place, folders, names in os.walk(building):
            folders[:] = sorted(each for each in folders if Path(place, each) not in members)
            for each in sorted(names):
                name = Path(place, each).relative_to(building).as_posix()
                if name not in files:
                    files[name] = describe_file(Path(place, each))
        listed = {"checksums": lists} if lists else {}
        write_json(building / PROVENANCE, {**published.provenance, **listed, "files": dict(sorted(files.items()))})


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError as error:
        raise InfrastructureError(
            f"{source} is missing from the run directory: `curate repair` finds what is lost, and a new run writes it"
        ) from error
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _grouped(files: Sequence[ShardFile], tally: SetTally) -> Iterable[Shard]:
    """Yield shards from their files, which are in order, and count what is in them."""
    number, folder = 0, None
    for _, of_shard in groupby(files, key=lambda file: (file.position, file.path.name.partition(".")[0])):
        found = list(of_shard)
        by_suffix = {"." + file.path.name.partition(".")[2]: file.path for file in found}
        label = found[0].folder.partition("/")[2]
        number, folder = (number + 1 if label == folder else 0), label
        path = by_suffix.pop(".json")
        description = cast("dict[str, Any]", json.loads(path.read_bytes()))
        tally.add(description)
        total_s = sum(description["durations"].values())
        yield Shard(label, number, by_suffix, path.with_suffix(SHARD_MEMBERS), int(description["records"]), total_s)


def _contents(shards: Sequence[Shard], tally: SetTally) -> dict[str, Any]:
    """Return how much is in a set, and in each of its folders."""
    folders: dict[str, dict[str, Any]] = {}
    for shard in shards:
        folder = folders.setdefault(shard.folder, {"shards": 0, "records": 0, "audio_s": 0.0})
        folder["shards"] += 1
        folder["records"] += shard.records
        folder["audio_s"] += shard.duration_s
    for folder in folders.values():
        folder["audio_s"] = round(folder["audio_s"], 3)
        folder["hours"] = round(folder["audio_s"] / 3600, 6)
    audio_s = round(sum(shard.duration_s for shard in shards), 3)
    return {
        "records": sum(shard.records for shard in shards),
        "audio_s": audio_s,
        "hours": round(audio_s / 3600, 6),
        "hours_by": tally.hours(),
        "folders": folders,
    }
