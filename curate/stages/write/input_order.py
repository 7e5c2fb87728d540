"""Puts the records behind a sharded writer back into the order of the input."""

from __future__ import annotations

import heapq
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

from curate.io.rows import decode_row, encode_row
from curate.records import Record
from curate.stage import Gather, Reject
from curate.stages.write.assignment import POSITION

_HELD_BYTES = 4 * 2**20
"""The most bytes of rows that are in memory at a time, of all folders together, and """
_LEAST_BYTES, _MOST_BYTES = 1024, 64 * 1024
"""the least and the most that are read of one folder; a row that is longer is read as a whole."""


@dataclass
class RestoreOrder(Gather):
    """Puts the records behind a sharded writer back into the order of the input.

    They come folder after folder, and within a folder in the order of the input. So the rows are written to a file in
    the order in which they come, and its parts with rising positions are merged.
    """

    name = "restore"
    only_orders = True

    def reads(self) -> Collection[str]:
        return (POSITION,)

    def writes(self) -> Collection[str]:
        return ()

    def drops(self) -> Collection[str]:
        return (POSITION,)

    def gather(self, records: Iterator[Record]) -> Iterator[Record | Reject]:
        import tempfile

        with tempfile.TemporaryDirectory(prefix="curate-") as scratch:
            yield from self.gather_again(records, Path(scratch))

    def gather_again(self, records: Iterable[Record], scratch: Path) -> Iterator[Record | Reject]:
        borders: list[int] = []
        end, before = 0, -1
        with (scratch / "rows.jsonl").open("w+b") as file:
            for record in records:
                if not borders or record[POSITION] < before:
                    borders.append(end)
                before = record[POSITION]
                end += file.write(encode_row(record))
            file.flush()
            most = min(_MOST_BYTES, max(_LEAST_BYTES, _HELD_BYTES // max(1, len(borders))))
            parts = (_rows(file.fileno(), start, stop, most) for start, stop in pairwise((*borders, end)))
            for record in heapq.merge(*parts, key=itemgetter(POSITION)):
                del record[POSITION]
                yield record


def _rows(descriptor: int, start: int, stop: int, most: int) -> Iterator[Record]:
    """Yield the rows of a part of a file, of which about `most` bytes are in memory."""
    torn = b""
    while start < stop:
        content = os.pread(descriptor, min(most, stop - start), start)
        start += len(content)
        *lines, torn = (torn + content).split(b"\n")
        most *= 1 if lines else 2  # the row is longer than what was read
        yield from map(decode_row, lines)
