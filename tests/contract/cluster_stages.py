"""A stage that says where it works; importable, for workers elsewhere."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from curate.records import Record
from curate.stage import RecordStage


@dataclass
class TellsNode(RecordStage):
    """Writes the id of Ray's node into a column.

    Args:
        column: where to write it.
        seconds: how long a record takes.
        sign: a file that is made with the first record on a node, whose id is its suffix.
    """

    column: str
    seconds: float = 0.0
    sign: str = ""

    def writes(self) -> tuple[str, ...]:
        return (self.column,)

    def process_record(self, record: Record) -> Record:
        node = os.environ.get("CURATE_RAY_NODE_ID", "")
        if self.sign:
            Path(f"{self.sign}-{node}").touch()
        time.sleep(self.seconds)
        return {**record, self.column: node}
