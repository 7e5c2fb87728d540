"""The stage that publishes the segments of each recording as a file of subtitles, of words, or of speaker turns."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

from loguru import logger

from curate.errors import PlanError
from curate.io.provenance import CHECKSUMS, PROVENANCE
from curate.io.rows import decode_row, encode_row, encode_text
from curate.records import DEFAULT_FILEPATH_KEY, ID, Record, RecordReader
from curate.stages.write.folders import FolderWriter
from curate.stages.write.segment_formats import FORMS, NEEDED, SUFFIXES, Segment, segments_of
from curate.storage import describe_file, write_json

_PARTS = 64
"""The number of parts in which records are grouped by recording; one of them is in memory at a time."""

_USED = ("offset", "duration", "text", "speaker", "channel", "words", "segments")


@dataclass
class SubtitlesWriter(FolderWriter):
    """Publishes one file for each recording with the segments that the records are: `interview.srt` and the like.

    A file has the name of its recording, so that `read_segments` finds it; recordings of equal names in different
    folders have a digest of their path appended. A record with the column `segments` stands for each of these. Times
    are in milliseconds from the beginning of the recording, and segments are in the order of their starts.

    Args:
        path: the folder; a relative path lies inside the run directory.
        form: `srt`, `vtt`, `stm`, `textgrid` (of `text` and `speaker`), `ctm` (of `words`), or `rttm` (of `speaker`).
        filepath_key: the column with the path of the audio.
    """

    form: Literal["srt", "vtt", "ctm", "stm", "rttm", "textgrid"] = "srt"
    filepath_key: str = DEFAULT_FILEPATH_KEY

    name = "write_subtitles"
    kind: ClassVar[str] = "subtitles"

    def check(self) -> None:
        super().check()
        if self.form not in FORMS:
            raise PlanError(f"form={self.form!r} is none of {', '.join(FORMS)}")

    def reads(self) -> Collection[str]:
        return (self.filepath_key, "duration", *NEEDED[self.form])

    def write(self, records: RecordReader, directory: Path) -> list[Path]:
        with self.building(directory) as building:
            scratch = building / "scratch"
            scratch.mkdir()
            counts = {"records": 0, "recordings": 0, "segments": 0}
            with (building / CHECKSUMS).open("wb") as checksums:
                for part in self._parts(records, scratch, counts):
                    for name, segments in _named(part):
                        self._write_file(building / name, segments, checksums)
                        counts["recordings"] += 1
                        counts["segments"] += len(segments)
            scratch.rmdir()
            described = {**self.provenance(directory), **counts, "checksums": [CHECKSUMS]}
            write_json(building / PROVENANCE, {**described, "files": {CHECKSUMS: describe_file(building / CHECKSUMS)}})
        if self.form in ("ctm", "rttm") and counts["records"] and not counts["segments"]:
            logger.warning("{} found nothing to write in {:,} records", self.name, counts["records"])
        return [self.place(directory)]

    def _write_file(self, path: Path, segments: list[Segment], checksums: BinaryIO) -> None:
        path = path.with_name(path.name + SUFFIXES[self.form])
        recording = path.name.removesuffix(SUFFIXES[self.form])
        content = encode_text(FORMS[self.form](recording, sorted(segments, key=lambda segment: segment.start_ms)))
        path.write_bytes(content)
        checksums.write(encode_text(f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"))

    def _parts(self, records: Iterable[Record], scratch: Path, counts: dict[str, int]) -> Iterator[list[Record]]:
        """Yield the records in parts, each with all those whose recordings have the same name."""
        paths = [scratch / f"part-{number}.jsonl" for number in range(_PARTS)]
        files = [path.open("wb") for path in paths]
        try:
            for record in records:
                place = str(record.get(self.filepath_key))
                digest = hashlib.sha256(recording_name(place).casefold().encode(errors="surrogatepass")).digest()
                row = {name: record[name] for name in _USED if record.get(name) is not None}
                files[digest[0] % _PARTS].write(encode_row({ID: record[ID], "place": place, **row}))
                counts["records"] += 1
        finally:
            for file in files:
                file.close()
        for path in paths:
            with path.open("rb") as file:
                yield [decode_row(line) for line in file]
            path.unlink()


def recording_name(place: str) -> str:
    """Return the name of a recording without its suffix, and without white space, which separates columns."""
    name = Path(place.rpartition("::")[2] or "none").stem
    return "_".join(name.split()) or "none"


def _named(records: Iterable[Record]) -> Iterator[tuple[str, list[Segment]]]:
    """Yield the recordings of a part by their names, each with its segments."""
    places: dict[str, list[Segment]] = {}
    for record in records:
        places.setdefault(record["place"], []).extend(segments_of(record))
    owners: dict[str, set[str]] = {}
    for place in places:
        owners.setdefault(recording_name(place).casefold(), set()).add(place)
    for place, segments in sorted(places.items()):
        name = recording_name(place)
        if len(owners[name.casefold()]) > 1:
            name = f"{name}-{hashlib.sha256(place.encode(errors='surrogatepass')).hexdigest()[:8]}"
        yield name, segments
