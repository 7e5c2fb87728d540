"""The stage that puts all records into a random order."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.corpus import Decisions, KeyGather, KeyTable
from curate.records import Record
from curate.stages.corpus.drawing import draw_number


@dataclass
class Shuffle(KeyGather):
    """Puts all records into a random order, the same for the same seed; out of core.

    A record's place follows from the seed and its id. Records that are added move no others relative to each other.

    Args:
        seed: another seed gives another order.
    """

    seed: int = 0

    def key_types(self) -> Mapping[str, str]:
        return {"place": "BIGINT"}

    def key_row(self, record: Record) -> Sequence[Any]:
        return (draw_number(self.seed, record),)

    def reads(self) -> Collection[str]:
        return ()

    def writes(self) -> Collection[str]:
        return ()

    def decide(self, keys: KeyTable) -> Decisions:
        return Decisions("SELECT position, place AS rank FROM keys", ordered=True)
