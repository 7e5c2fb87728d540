"""The lines of a file of text, each of a bounded length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from curate.errors import InfrastructureError
from curate.io.jsonl import MAX_LINE_BYTES


def bounded_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file with their ends.

    Raises:
        InfrastructureError: a line is longer than any record, so that the file is something else.
    """
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise InfrastructureError(f"cannot read {path}: line {number} is longer than {MAX_LINE_BYTES} bytes")
            yield line
