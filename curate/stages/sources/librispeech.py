"""The readers of LibriSpeech and of LJSpeech."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from loguru import logger

from curate.errors import RecordError
from curate.io import Row
from curate.io.lines import bounded_lines
from curate.records import Record
from curate.stages.sources.folder_source import FolderSource


@dataclass
class LibriSpeechReader(FolderSource):
    """Reads LibriSpeech: one record for each line of a `.trans.txt`.

    The columns are `audio_filepath`, `text`, `utterance_id`, `speaker`, `chapter`, `split` (the folder of the speaker),
    and `gender`, `speaker_name` from `SPEAKERS.TXT` where that lies in the folder or in the one above. `lang` is `en`
    unless set.

    Args:
        folder: `LibriSpeech`, or one of its splits.
        suffix: how the names of the recordings end.
    """

    name = "read_librispeech"

    expects = "an utterance and its transcript a line"

    suffix: str = ".flac"

    def check(self) -> None:
        super().check()
        chapters = {path.parent for path in self.files()}
        speakers = {chapter.parent for chapter in chapters}
        without = [
            str(folder)
            for speaker in sorted(speakers)
            for folder in sorted(speaker.iterdir())
            if folder not in chapters and folder.is_dir() and any(folder.glob(f"*{self.suffix}"))
        ]
        if without:
            logger.warning(
                "{:,} folders have recordings and no .trans.txt, so nothing is read there: {}{}",
                len(without),
                without[0],
                ", …" if len(without) > 1 else "",
            )

    def row_files(self) -> Sequence[Path]:
        return self.found_files("**/*.trans.txt")

    def inputs(self) -> Sequence[Path]:
        table = self._speaker_table()
        return [*self.files(), *([] if table is None else [table])]

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        speakers = self._speakers()
        split = path.parent.parent.parent.name
        for number, line in _lines(path, after):
            if isinstance(line, RecordError):
                yield number, line
                continue
            utterance, _, text = line.replace("\t", " ", 1).partition(" ")
            speaker, _, rest = utterance.partition("-")
            if not rest:
                yield number, RecordError("bad_row", f"{utterance!r:.80} is not speaker-chapter-utterance")
                continue
            record: Record = {
                self.filepath_key: f"{utterance}{self.suffix}",
                "text": text,
                "utterance_id": utterance,
                "speaker": speaker,
                "chapter": rest.partition("-")[0],
                "split": split,
                "lang": "en",
            }
            yield number, record | speakers.get(speaker, {}) if speakers else record

    def _speaker_table(self) -> Path | None:
        places = (Path(self.folder), Path(self.folder).absolute().parent)
        return next((place / "SPEAKERS.TXT" for place in places if (place / "SPEAKERS.TXT").is_file()), None)

    def _speakers(self) -> Mapping[str, Record]:
        table = self._speaker_table()
        if table is None:
            return {}
        found: dict[str, Record] = {}
        for line in (line.decode(errors="replace") for line in bounded_lines(table)):
            cells = [cell.strip() for cell in line.split("|", 4)]
            if len(cells) == 5 and not line.startswith(";"):
                found[cells[0]] = {"gender": cells[1].lower(), "speaker_name": cells[4]}
        return found


@dataclass
class LjSpeechReader(FolderSource):
    """Reads LJSpeech, and corpora in its form: `metadata.csv` with names and transcripts.

    The columns are `audio_filepath`, `text`, `utterance_id`, and `text_norm` where there is a third cell. A quotation
    mark is part of the transcript.

    Args:
        folder: the folder with `metadata.csv` and `wavs/`.
        suffix: how the names of the recordings end.
    """

    name = "read_ljspeech"

    expects = "name|transcript|normalised transcript on a line"
    audio_folder: ClassVar[str] = "wavs"

    suffix: str = ".wav"

    def row_files(self) -> Sequence[Path]:
        return self.found_files("metadata.csv")

    def given(self) -> Collection[str]:
        return [str(path) for path in self.row_files()]  # their names are fixed

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        for number, line in _lines(path, after):
            if isinstance(line, RecordError):
                yield number, line
                continue
            cells = line.split("|")
            name = cells[0].removeprefix(f"{self.audio_folder}/").removesuffix(self.suffix)
            if len(cells) not in (2, 3) or not name:
                problem = (
                    f"the line has {len(cells)} cells between bars, not 2 or 3" if name else "the line has no name"
                )
                yield number, RecordError("bad_row", f"{problem}; a transcript cannot have a bar")
                continue
            record: Record = {self.filepath_key: f"{name}{self.suffix}", "text": cells[1], "utterance_id": name}
            yield number, record | {"text_norm": cells[2]} if len(cells) == 3 else record

    def can_grow(self, path: Path) -> bool:
        return True


def _lines(path: Path, after: int) -> Iterator[tuple[int, str | RecordError]]:
    """Yield the lines after number `after` that are not blank; one that is not UTF-8 is an error."""
    for number, line in enumerate(bounded_lines(path), start=1):
        if number <= after or not line.strip():
            continue
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            yield number, RecordError("bad_row", f"the line is not UTF-8: {error.reason} at byte {error.start}")
