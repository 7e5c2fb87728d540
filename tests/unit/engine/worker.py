"""Runs stages on records as a worker does, and says what became of each record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from curate.engine.protocol.messages import BatchTask, Filtered, PartialResult, Quarantined, Split
from curate.engine.worker.stage_group import StageGroupRunner
from curate.io.rows import encode_row
from curate.records import ID, Record
from curate.stage import ProcessingStage, WorkerContext


@attrs.frozen
class Outcome:
    parts: list[PartialResult]
    started: list[list[str]]

    @property
    def kept(self) -> list[Any]:
        return [row for part in self.parts for row in part.kept]

    @property
    def kept_ids(self) -> list[str]:
        return [row[ID] for row in self.kept]

    @property
    def filtered(self) -> dict[str, Filtered]:
        return {note.record[ID]: note for part in self.parts for note in part.filtered}

    @property
    def quarantined(self) -> dict[str, Quarantined]:
        return {note.record[ID]: note for part in self.parts for note in part.quarantined}

    @property
    def codes(self) -> dict[str, str]:
        return {identity: note.code for identity, note in self.quarantined.items()}

    @property
    def splits(self) -> list[Split]:
        return [split for part in self.parts for split in part.splits]


class Announced:
    """Remembers what was announced."""

    def __init__(self) -> None:
        self.started: list[list[str]] = []

    def begin(self, number: int, ids: list[str]) -> None:
        assert number
        self.ids = ids

    def positions(self, roots: Sequence[str]) -> Sequence[int]:
        return [self.ids.index(root) for root in roots]

    def announce(self, stage: int, positions: Sequence[int]) -> None:
        assert stage >= 0
        if positions:
            self.started.append([self.ids[position] for position in positions])

    def idle(self, stage: int) -> None:
        assert stage >= 0

    def progress(self) -> None:
        pass


def records(*columns: dict[str, Any] | int) -> list[Record]:
    """Return records `r:1`, `r:2`, …; an int stands for the column `x`."""
    rows = [{"x": each} if isinstance(each, int) else each for each in columns]
    return [{ID: f"r:{number}", **row} for number, row in enumerate(rows, start=1)]


def work_on(data: Sequence[Record], *stages: ProcessingStage, encode: bool = False) -> Outcome:
    """Let a worker run `stages` on one batch, and check that every record is acknowledged exactly once."""
    announced = Announced()
    runner = StageGroupRunner(
        stages,
        context=WorkerContext(),
        encode=encode_row if encode else None,
        blamed={"": stages[-1].name},
        reporter=announced,
    )
    runner.setup()
    ids = [record[ID] for record in data]
    results = runner.run(BatchTask(1, list(data), "audio_filepath", "task", "set"))
    parts = [result.with_roots(ids) for result in results]
    runner.teardown()
    acknowledged: list[str] = []
    for part in parts:
        acknowledged.extend(dict.fromkeys(part.roots()))
    assert sorted(acknowledged) == sorted(ids)
    return Outcome(parts, announced.started)
