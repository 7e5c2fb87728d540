"""The reader of Mozilla Common Voice."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curate.errors import PlanError, RecordError
from curate.io import Row, count_rows, declared_columns, read_rows
from curate.io.tables import number_of
from curate.records import Record
from curate.stages.sources.folder_source import FolderSource
from curate.suggest import closest

_NAMES = {"path": "audio_filepath", "sentence": "text", "client_id": "speaker", "locale": "lang", "genders": "gender"}
_COUNTS = ("up_votes", "down_votes")


@dataclass
class CommonVoiceReader(FolderSource):
    """Reads Common Voice: the clips that a split's `.tsv` names, with all its columns.

    `client_id` becomes `speaker`, `sentence` `text`, `locale` `lang`, `genders` `gender`; votes become numbers, and the
    others keep their names. The column `split` is the name of the file. `duration` is measured when a clip is decoded.

    Args:
        folder: the folder of one language, with `clips/` and `validated.tsv`.
        split: the name of the file without `.tsv`, or several: `validated`, `train`, `dev`, `test`, `other`, ….
    """

    name = "read_common_voice"

    expects = "Common Voice clips (path, sentence, client_id)"
    audio_folder: ClassVar[str] = "clips"

    split: str | Sequence[str] = "validated"

    def row_files(self) -> Sequence[Path]:
        self.require_folder()
        splits = [self.split] if isinstance(self.split, str) else list(self.split)
        folder = Path(self.folder)
        for split in splits:
            if not (folder / f"{split}.tsv").is_file():
                below = sorted(path.parent for path in folder.glob(f"*/{split}.tsv"))
                if below:
                    raise PlanError(f"{folder} has a folder for each language; name one, such as {below[0]}")
                known = sorted(path.stem for path in folder.glob("*.tsv"))
                raise PlanError(f"{folder} has no {split}.tsv: {closest(split, known)}")
        return [folder / f"{split}.tsv" for split in dict.fromkeys(splits)]

    def given(self) -> Collection[str]:
        return [str(path) for path in self.row_files()]  # their names are fixed

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        lang = self._folder_lang(path)
        for number, row in read_rows(path, after=after):
            if not isinstance(row, RecordError) and not row.get("path"):
                row = RecordError("missing_column", "the row has no 'path'")
            yield number, row if isinstance(row, RecordError) else self._record(row, path, lang)

    def check_records(self, path: Path, records: Sequence[Record]) -> None:
        columns = declared_columns(path)
        if columns is not None and "path" not in columns:
            raise PlanError(
                f"{path} has no column 'path', so it is not Common Voice's: it has {', '.join(columns)}; read_manifest "
                "reads other tables"
            )
        super().check_records(path, records)

    def _record(self, row: Record, path: Path, lang: str | None) -> Record:
        clip = row.get("path")
        if isinstance(clip, str) and "." not in clip:  # as the first releases have it
            row["path"] = f"{clip}.mp3"
        record = {_NAMES.get(name, name): value for name, value in row.items()}
        if self.filepath_key != "audio_filepath":
            record[self.filepath_key] = record.pop("audio_filepath", None)
        for name in _COUNTS:
            if name in record:
                record[name] = number_of(record[name])
        if lang is not None:
            record["lang"] = lang
        record["split"] = path.stem
        return record

    def _folder_lang(self, path: Path) -> str | None:
        """Return the folder's name as the language, for releases that have no column `locale`."""
        return None if "locale" in (declared_columns(path) or ()) else path.parent.resolve().name

    def declared_columns(self, path: Path) -> Collection[str] | None:
        named = dict.fromkeys(declared_columns(path) or ())
        return tuple(self._record(named, path, self._folder_lang(path)))

    def count_rows(self, path: Path) -> int | None:
        return count_rows(path)

    def can_grow(self, path: Path) -> bool:
        return True
