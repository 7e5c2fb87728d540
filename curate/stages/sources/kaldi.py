"""The reader of Kaldi's data folders."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.errors import PlanError, RecordError
from curate.io import Row
from curate.io.tables import number_of
from curate.records import Record
from curate.stages.sources.folder_source import (
    FolderSource,
    KeyedValues,
    is_sorted_like,
    keyed_lines,
    keyed_values,
    read_keyed,
)

_ARCHIVE = re.compile(r"\.ark:\d+(?:\[.*\])?$")

_BY_UTTERANCE = {"text": "text", "utt2spk": "speaker", "utt2lang": "lang", "utt2dur": "duration"}
"""A file that is keyed by utterance → the column that it becomes."""


@dataclass
class KaldiReader(FolderSource):
    """Reads a Kaldi data folder: `wav.scp`, and what there is of `segments`, `text`, `utt2spk`, `spk2gender`,
    `utt2lang`, `utt2dur` and `reco2dur`.

    One record for each line of `segments`, or of `wav.scp` where there are none. The columns are `audio_filepath`,
    `utterance_id`, `recording_id`, `offset`, `duration`, `text`, `speaker`, `gender`, `lang`. A command in `wav.scp`
    (`… |`) is an error: nothing is executed. Files sorted as Kaldi wants them are read along with each other.

    Args:
        folder: the data folder.
        relative_to: the folder that relative paths in `wav.scp` start from; empty: the data folder.
    """

    name = "read_kaldi"

    expects = "Kaldi's key and value on a line"

    relative_to: str | Path = ""

    def row_files(self) -> Sequence[Path]:
        self.found_files("wav.scp")
        segments = Path(self.folder) / "segments"
        return [segments if segments.is_file() else Path(self.folder) / "wav.scp"]

    def given(self) -> Collection[str]:
        return [str(path) for path in self.row_files()]  # their names are fixed

    def inputs(self) -> Sequence[Path]:
        names = ("wav.scp", "segments", *_BY_UTTERANCE, "spk2gender", "reco2dur")
        return [path for name in names if (path := Path(self.folder) / name).is_file()]

    def check(self) -> None:
        self.row_files()
        for number, key, place in keyed_lines(Path(self.folder) / "wav.scp"):
            where = f"{Path(self.folder) / 'wav.scp'}:{number}"
            if place.endswith("|"):
                raise PlanError(
                    f"{where}: {key} is made by a command ({place:.80}), which is not executed; write its output to a "
                    "file and its path into wav.scp"
                )
            if _ARCHIVE.search(place):
                raise PlanError(
                    f"{where}: {key} lies in a Kaldi archive ({place:.80}); copy it to a file with wav-copy"
                )
        super().check()

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        folder = Path(self.folder)
        by_utterance = self._by_utterance(path)
        genders = read_keyed(folder / "spk2gender")
        lengths = read_keyed(folder / "reco2dur") if path.name == "wav.scp" else dict[str, str]()
        recordings = read_keyed(folder / "wav.scp") if path.name == "segments" else dict[str, str]()
        for number, key, value in keyed_lines(path):
            if number <= after:
                continue
            row = _segment(key, value, recordings) if recordings else {"utterance_id": key, "place": value}
            if isinstance(row, RecordError):
                yield number, row
                continue
            place = str(row.pop("place"))
            if not place:
                yield number, RecordError("bad_row", f"{key!r:.80} has no path")
                continue
            record: Record = {self.filepath_key: self._place(place), **row}
            for column, values in by_utterance.items():
                if (found := values.get(key)) is not None:
                    record.setdefault(column, number_of(found) if column == "duration" else found)
            wrong = next((name for name in ("utterance_id", *by_utterance) if not _is_text(record.get(name))), None)
            if wrong is not None:
                yield (
                    number,
                    RecordError("bad_row", f"{wrong} of {key!r:.80} is not UTF-8; convert the file with iconv"),
                )
                continue
            if key in lengths:
                record.setdefault("duration", number_of(lengths[key]))
            if record.get("speaker") in genders:
                record["gender"] = genders[record["speaker"]]
            yield number, record

    def _by_utterance(self, path: Path) -> Mapping[str, KeyedValues]:
        folder = Path(self.folder)
        files = {column: folder / name for name, column in _BY_UTTERANCE.items() if (folder / name).is_file()}
        if is_sorted_like([path]):
            return {column: keyed_values(file) for column, file in files.items()}
        return {column: read_keyed(file) for column, file in files.items()}

    def _place(self, place: str) -> str:
        folder = Path(self.relative_to) if self.relative_to else Path(self.folder)
        return place if place.startswith("/") else str(folder.absolute() / place)


def _is_text(value: object) -> bool:
    """Return whether a value has no bytes that are not UTF-8."""
    return not isinstance(value, str) or value.isascii() or not any("\udc80" <= each <= "\udcff" for each in value)


def _segment(key: str, value: str, recordings: Mapping[str, str]) -> Record | RecordError:
    """Return the columns of a line of `segments`: the recording, and where the utterance begins and ends in it."""
    cells = value.split()
    if len(cells) < 3:
        return RecordError("bad_row", "the line is not utterance, recording, start, end")
    start, end = number_of(cells[1]), number_of(cells[2])
    if isinstance(start, str) or isinstance(end, str):
        return RecordError("bad_row", f"{cells[1]:.40} and {cells[2]:.40} are not seconds")
    if cells[0] not in recordings:
        return RecordError("missing_file", f"wav.scp has no recording {cells[0]!r:.80}")
    begins, ends = float(str(start)), float(str(end))
    record: Record = {"utterance_id": key, "recording_id": cells[0], "place": recordings[cells[0]], "offset": begins}
    if ends >= 0:  # -1 is the end of the recording
        record["duration"] = round(ends - begins, 6)
    return record
