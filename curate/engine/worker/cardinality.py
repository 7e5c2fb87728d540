"""What a stage's declarations allow it to return, how often and with which columns, and the ids of what it returns."""

from __future__ import annotations

from collections.abc import Sequence

from curate.audio_stage import AUDIO_COLUMNS
from curate.engine.worker.outcomes import OutcomeCollector
from curate.engine.worker.snapshot import are_flat, copies_of
from curate.errors import StageContractError
from curate.records import ID, Record
from curate.stage import ProcessingStage, Reject

REMEDY = {
    "maps": "return the record, or declare cardinality='filters'",
    "splits": "return its parts, or Reject(reason)",
    "contract_lost": "return every record once, or declare cardinality='filters' and reject with a reason",
    "contract_repeated": "return every record once, or declare cardinality='splits'",
    "contract_invented": "change the records that came, or copy them with {**record, …}",
}


ENGINE_COLUMNS = frozenset({ID, *AUDIO_COLUMNS})
"""The columns that the engine writes, whatever a stage declares."""


def undeclared(stage: ProcessingStage, column: str) -> StageContractError:
    """Return the error of a record with a column that a stage has neither received nor declared."""
    return StageContractError(
        "contract_undeclared",
        f"stage {stage.name!r} added the column {column!r}, which its writes() does not name; add it there",
    )


def with_id(record: Record, identity: str) -> Record:
    """Return a copy of a record under an id: a stage may return the same dict twice, or another kind of dict."""
    return {**record, ID: identity}


def number_children(
    children: Sequence[Record], parent: Record, stage: ProcessingStage, outcomes: OutcomeCollector
) -> list[Record]:
    """Return the children of a split record under their ids, in the order in which they were yielded."""
    numbered = [with_id(child, f"{parent[ID]}/{number}") for number, child in enumerate(children)]
    if len(numbered) > 1 and not are_flat(numbered):
        numbered = copies_of(numbered)  # or a list that they all got from the parent would be one and the same
    outcomes.split(parent, stage.name, numbered)
    return numbered


def reason_of(result: Reject | None, stage: ProcessingStage) -> str:
    """Return why a stage dropped a record."""
    return f"left out by {stage.name}" if result is None else result.reason


def describe_type(result: object) -> str:
    """Return the kind of a value that a stage returned, for an error."""
    return "nothing" if result is None else f"a {type(result).__name__}"
