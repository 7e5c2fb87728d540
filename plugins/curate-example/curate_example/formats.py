"""A format is a reader and a writer in one value; `read_manifest` and `merge` know it by its suffix."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from curate import RecordError
from curate.io import ManifestFormat, Row
from curate.records import ID, RecordReader

_NUMBERS = ("duration", "offset")


def columns(path: Path) -> Collection[str]:
    """Return the heading, which is the first line."""
    with path.open(encoding="utf-8") as file:
        return file.readline().rstrip("\n").split("\t")


def read_rows(path: Path, after: int) -> Iterator[Row]:
    """Yield the rows behind number `after`; lengths of time become numbers, and everything else stays a string."""
    names = columns(path)
    with path.open(encoding="utf-8") as file:
        next(file, None)
        for number, line in enumerate(file, start=1):
            cells = line.rstrip("\n").split("\t")
            if number > after and len(cells) != len(names):
                yield number, RecordError("curate-example/cells", f"{path}, row {number}: {len(cells)} cells")
            elif number > after:
                row = dict(zip(names, cells, strict=True))
                yield number, {name: float(cell) if name in _NUMBERS else cell for name, cell in row.items()}


def write(records: RecordReader, file: BinaryIO) -> None:
    """Write a heading of all columns, and a row for each record."""
    names = list(dict.fromkeys(name for record in records for name in record if name != ID))
    file.write(("\t".join(names) + "\n").encode())
    for record in records:
        cells = (" ".join(str(record.get(name, "")).split()) for name in names)
        file.write(("\t".join(cells) + "\n").encode())


TSV = ManifestFormat("tab", (".tab",), read_rows, columns=columns, write=write, can_grow=True)
"""Tab-separated values."""
