"""A source is a class with one method, when its input is files of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from curate import RecordError
from curate.io import Row
from curate.stages import ManifestSource


@dataclass
class ReadTextFiles(ManifestSource):
    """Reads lists with a file name, a tab and a transcript on every line.

    Args:
        manifest: a path or glob pattern, or several.
        filepath_key: the column that the file name becomes.
        roots: the folders that audio may lie in; by default the folder of each list.
        dataset_name: written into the column `dataset_name`, unless empty.
    """

    expects = "name, tab and text on a line"

    def read_rows(self, path: Path, after: int) -> Iterator[Row]:
        """Yield the lines behind number `after`."""
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if number <= after:
                    continue
                name, tab, text = line.rstrip("\n").partition("\t")
                row = {self.filepath_key: name, "text": text}
                yield number, row if tab else RecordError("curate-example/no_tab", f"{path}:{number} has no tab")
