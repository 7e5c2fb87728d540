"""The reader of recordings with files of segments next to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.errors import PlanError, RecordError
from curate.io import Row
from curate.records import Record
from curate.stages.sources.audio_roots import root_paths
from curate.stages.sources.folder_source import FolderSource
from curate.stages.sources.known_names import AUDIO_SUFFIXES
from curate.stages.sources.segment_files import SEGMENT_READERS
from curate.storage import is_url


@dataclass
class SegmentsReader(FolderSource):
    """Reads the segments that SRT, WebVTT, TextGrid, CTM, STM or RTTM files name, as parts of their recordings.

    A record has `audio_filepath`, `offset`, `duration`, and what the file knows: `text`, `speaker`, `channel`, `tier`,
    `labels`, `words` (CTM; times from the record's beginning). A recording has the name of its file of segments, or the
    one that a line of CTM, STM or RTTM gives. Words of CTM are joined up to a pause of half a second.

    Args:
        folder: the folder of the files of segments; folders in it are read as well.
        audio: the folder of the recordings; empty: the one of each file of segments.
        forms: the suffixes to read, in lower case, where a folder has several for a recording; empty: all.
    """

    name = "read_segments"

    expects = "segments"

    audio: str | Path = ""
    forms: Sequence[str] = ()

    def row_files(self) -> Sequence[Path]:
        self.require_folder()
        if is_url(self.audio):
            raise PlanError(f"audio: {self.audio} is a URL, and read_segments reads local folders")
        suffixes = [f".{form.removeprefix('.').lower()}" for form in self.forms] or list(SEGMENT_READERS)
        unknown = [suffix for suffix in suffixes if suffix not in SEGMENT_READERS]
        if unknown:
            raise PlanError(f"forms: {unknown[0]} is none of {', '.join(SEGMENT_READERS)}")
        files = [path for path in sorted(Path(self.folder).rglob("*")) if path.suffix.lower() in suffixes]
        files = [path for path in files if path.is_file()]
        if not files:
            raise PlanError(f"{self.folder} has no files of segments (looked for {', '.join(suffixes)})")
        return files

    def roots_of(self, path: Path) -> list[Path]:
        return root_paths(self.roots) if self.roots else [Path(self.audio or self.folder)]

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        folder = Path(self.audio) if self.audio else path.parent
        recordings = _recordings_in(folder)
        for number, turn in SEGMENT_READERS[path.suffix.lower()](path):
            if number > after:
                yield number, turn if isinstance(turn, RecordError) else self._record(turn, path, folder, recordings)

    def _record(self, turn: Record, path: Path, folder: Path, recordings: Mapping[str, str]) -> Record | RecordError:
        name = str(turn.pop("recording", path.stem))
        if name not in recordings:
            return RecordError("missing_file", f"{folder} has no recording {name!r:.80}")
        return {self.filepath_key: str(folder.absolute() / recordings[name]), **turn}


def _recordings_in(folder: Path) -> dict[str, str]:
    """Return the recordings of a folder by their names without suffix."""
    found = (path for path in sorted(folder.iterdir()) if path.suffix.lower() in AUDIO_SUFFIXES)
    return {path.stem: path.name for path in found}
