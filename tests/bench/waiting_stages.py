"""A stage that waits as long as its record says, as one does that asks a card or a network."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from curate.records import Record
from curate.stage import RecordStage

MEAN_S = {"first": 0.004, "second": 0.008, "third": 0.003}


def service_times(name: str, distribution: str, count: int) -> list[float]:
    """Return so many service times in seconds, the same ones for the same name."""
    dice, mean = random.Random(name), MEAN_S[name]
    if distribution == "constant":
        return [mean] * count
    drawn = [dice.lognormvariate(0.0, 0.75) for _ in range(count)]
    return [mean * each * count / sum(drawn) for each in drawn]


@dataclass
class Waits(RecordStage):
    """Waits.

    Args:
        column: where the record says for how many seconds.
    """

    column: str

    def writes(self) -> tuple[str, ...]:
        return ()

    def process_record(self, record: Record) -> Record:
        time.sleep(record[self.column])
        return record
