"""The reader of NeMo's tarred data sets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.errors import PlanError, RecordError
from curate.io import Row, count_rows, declared_columns, read_rows
from curate.stages.sources.audio_roots import listed_paths, root_paths
from curate.stages.sources.manifest_source import RowSource, matching_files
from curate.storage import SEPARATOR, is_url

_NUMBERED = re.compile(r"(?:_OP_|\{)(\d+)\.\.(\d+)(?:_CL_|\})")
_SUB = re.compile(r"-sub\d+(?=\.[^.]*$)")
_NUMBER = re.compile(r"(\d+)(?=\.[^.]+$|$)")


@dataclass
class NemoTarredReader(RowSource):
    """Reads a NeMo tarred data set: manifests whose recordings are in numbered tars, `audio_0.tar` and so on.

    Both forms are read: `tarred_audio_manifest.json`, whose rows have a `shard_id`, and one manifest for each tar. The
    recordings stay in the tars: `audio_filepath` is `…/audio_3.tar::name.wav`. A repeated file (`name-sub2.wav`) is
    read as NeMo does, from the one that is stored.

    Args:
        manifest: a path, a pattern, or numbered names such as `manifest__OP_0..7_CL_.json`; several are read in order.
        tars: the tars, in the same ways; empty: `audio_<number>.tar` in the manifest's folder, or in the one above.
    """

    name = "read_nemo_tarred"

    expects = "NeMo's tarred manifests (audio_filepath, duration, shard_id)"

    manifest: str | Path | Sequence[str | Path]
    tars: str | Path | Sequence[str | Path] = ""

    def row_files(self) -> Sequence[Path]:
        return [path for name in expand(self.manifest) for path in matching_files(name)]

    def given(self) -> Collection[str]:
        return expand(self.manifest)

    @property
    def described_input(self) -> str:
        return str(self.manifest)

    def roots_of(self, path: Path) -> list[Path]:
        if self.roots:
            return root_paths(self.roots)
        return list(dict.fromkeys(tar.parent for tar in self._tars(path).values()))

    def check(self) -> None:
        for path in {path.parent: path for path in self.files()}.values():
            self._tars(path)
        super().check()

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        tars = self._tars(path)
        number_of_file = _number_in(path)
        for number, row in read_rows(path, after=after):
            if isinstance(row, RecordError):
                yield number, row
                continue
            shard, name = row.get("shard_id", number_of_file), row.get(self.filepath_key)
            if not isinstance(name, str):
                yield number, RecordError("missing_column", f"the row has no {self.filepath_key!r}")
            elif not isinstance(shard, int) or isinstance(shard, bool):
                yield number, RecordError("bad_value", f"shard_id = {shard!r:.40} is not the number of a tar")
            elif shard not in tars:
                known = f"{min(tars)} to {max(tars)}" if tars else "none"
                yield (
                    number,
                    RecordError("missing_file", f"no tar has the number {shard} (there are {known})"),
                )
            else:
                member = f"{tars[shard].absolute()}{SEPARATOR}{_SUB.sub('', name.removeprefix('./'))}"
                yield number, {**row, self.filepath_key: member}

    def declared_columns(self, path: Path) -> Collection[str] | None:
        return declared_columns(path)

    def count_rows(self, path: Path) -> int | None:
        return count_rows(path)

    def _tars(self, manifest: Path) -> Mapping[int, Path]:
        """Return the tars of a manifest by their numbers.

        Raises:
            PlanError: there are none, or two have one number.
        """
        if self.tars:
            files = [path for name in expand(self.tars) for path in matching_files(name)]
        else:
            folder = manifest.parent  # of buckets, each has its own
            places = [place for place in (folder, folder.absolute().parent) if any(place.glob("audio_*.tar"))]
            files = sorted(places[0].glob("audio_*.tar")) if places else []
        if not files:
            raise PlanError(f"there are no tars audio_<number>.tar near {manifest}; name them with tars: …")
        found: dict[int, Path] = {}
        for path in files:
            number = _number_in(path)
            if number is None:
                raise PlanError(f"tars: {path} has no number in its name, by which a row finds its tar")
            if number in found:
                raise PlanError(f"{found[number]} and {path} have the same number; name the tars with tars: …")
            found[number] = path
        return found


def expand(given: str | Path | Sequence[str | Path]) -> list[str]:
    """Return names with NeMo's `_OP_0..7_CL_`, or a shell's `{0..7}`, written out; zeros in front are kept."""
    found: list[str] = []
    for name in listed_paths(given):
        match = _NUMBERED.search(name)
        if match is None or (not is_url(name) and Path(name).is_file()):
            found.append(name)
            continue
        width = len(match[1]) if match[1].startswith("0") else 0
        numbers = range(int(match[1]), int(match[2]) + 1)
        found += expand([f"{name[: match.start()]}{number:0{width}d}{name[match.end() :]}" for number in numbers])
    return found


def _number_in(path: Path) -> int | None:
    match = _NUMBER.search(path.name)
    return None if match is None else int(match[1])
