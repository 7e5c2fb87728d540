"""A writer is a class with two methods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from curate import Writer
from curate.io import replacing
from curate.records import RecordReader


@dataclass
class WriteText(Writer):
    """Writes the texts of the records, one a line, for a language model for example.

    Args:
        path: where to; a relative path lies in the run directory.
        text_key: the column with the text.
    """

    path: str
    text_key: str = "text"

    def reads(self) -> tuple[str, ...]:
        """Return the column that is written."""
        return (self.text_key,)

    def outputs(self) -> tuple[str, ...]:
        """Return the one path."""
        return (self.path,)

    def write(self, records: RecordReader, directory: Path) -> list[Path]:
        """Write the file, which appears whole or not at all."""
        path = directory / self.path
        with replacing(path) as file:
            for record in records:
                file.write(f"{record[self.text_key]}\n".encode())
        return [path]
