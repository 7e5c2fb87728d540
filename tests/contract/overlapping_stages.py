"""Two stages that can only finish when both work at the same time; importable, so that workers can have them."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from curate import RecordStage
from curate.records import Record

WORK_S = 0.02
"""What a record takes: a worker sends the results of batches that take less together, and those of others at once."""


def _work() -> None:
    end_s = time.perf_counter() + WORK_S
    while time.perf_counter() < end_s:
        pass


@dataclass
class Meets(RecordStage):
    """Waits at each record until the other stage works on the record before or behind it, at the two ends of a pipe."""

    folder: str
    is_first: bool

    def writes(self) -> tuple[str, ...]:
        return ()

    def process_record(self, record: Record) -> Record:
        _work()
        number = record["number"] if self.is_first else record["number"] + 1
        pipe = Path(self.folder) / str(number)
        if pipe.exists():  # the first stage's first record and the second stage's last one have no counterpart
            os.close(os.open(pipe, os.O_WRONLY if self.is_first else os.O_RDONLY))  # opens when both ends are there
        return record
