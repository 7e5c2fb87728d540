"""A stage from a function: the shortest way to add a custom step."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Any, get_args, get_origin

from curate.errors import PlanError
from curate.records import AudioBatch, Record
from curate.resources import Resources
from curate.stage import Cardinality, ProcessingStage, RecordStage, Reject


@dataclasses.dataclass
class _FunctionStage(ProcessingStage):
    function: Callable[..., Any]
    cardinality: Cardinality = "maps"  # pyright: ignore[reportIncompatibleVariableOverride] (a setting here)
    columns_read: tuple[str, ...] = ()
    columns_written: tuple[str, ...] | None = None

    def __call__(self, item: Any) -> Any:
        """Call the function as it was written, as a unit test does."""
        return self.function(item)

    def reads(self) -> Collection[str]:
        return self.columns_read

    def writes(self) -> Collection[str] | None:
        return self.columns_written


@dataclasses.dataclass
class BatchFunctionStage(_FunctionStage):
    """A function from a batch to a batch, or to a list of batches."""

    def process(self, batch: AudioBatch) -> AudioBatch | list[AudioBatch]:
        return self.function(batch)


@dataclasses.dataclass
class RecordFunctionStage(_FunctionStage, RecordStage):
    """A function from a record to a record; if it filters, it may also answer True, False or None."""

    def __post_init__(self) -> None:
        if self.cardinality != "filters":  # nothing to interpret, so save every record a call
            self.process_record = self.function

    def process_record(self, record: Record) -> Record | Reject | Iterable[Record] | None:
        result = self.function(record)
        if self.cardinality == "filters" and _is_truth(result):
            return record if result else None
        return result


def _is_truth(value: object) -> bool:
    """Return whether a value is True or False, NumPy's as well (`np.float64(1) > 0` is one), without importing it."""
    return isinstance(value, bool) or (type(value).__module__, type(value).__name__[:4]) == ("numpy", "bool")


def processing_stage(
    *,
    name: str,
    cardinality: Cardinality = "maps",
    reads: Collection[str] = (),
    writes: Collection[str] | None = None,
    resources: Resources | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], BatchFunctionStage | RecordFunctionStage]:
    """Turn a function into a stage.

    The annotation of the function's parameter selects its input: `AudioBatch` (a batch; it returns a batch or a list
    of batches) or `dict` (a record; it returns the record).

    Args:
        name: the stage's name in plans, reports and `--set`.
        cardinality: `"maps"`, `"filters"` or `"splits"`; never guessed from the function.
        reads: the columns that a record must have.
        writes: the columns that the function adds; None: it does not say.
        resources: what one worker needs.
        batch_size: the number of records that the function works on at the same time, for its own use.
        options: any other run-time option of `.with_()`.

    Raises:
        PlanError: the function's parameter does not say whether it takes a batch or a record.
    """
    if cardinality not in get_args(Cardinality):
        raise PlanError(
            f"@processing_stage(name={name!r}): cardinality={cardinality!r} is not one of {get_args(Cardinality)}"
        )
    for parameter, columns in (("reads", reads), ("writes", writes)):
        if isinstance(columns, str):
            raise PlanError(f"@processing_stage(name={name!r}): {parameter}={columns!r} must be a list: [{columns!r}]")
    given = {"resources": resources, "batch_size": batch_size}
    changes = {"name": name, **{key: value for key, value in given.items() if value is not None}, **options}

    def decorate(function: Callable[..., Any]) -> BatchFunctionStage | RecordFunctionStage:
        kind = BatchFunctionStage if _takes_batch(function, name) else RecordFunctionStage
        return kind(function, cardinality, tuple(reads), None if writes is None else tuple(writes)).with_(**changes)

    return decorate


def _takes_batch(function: Callable[..., Any], name: str) -> bool:
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError:  # an annotation that is imported for type checkers only
        signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    place = f"@processing_stage(name={name!r}): {getattr(function, '__qualname__', repr(function))}"
    if len(parameters) != 1:
        raise PlanError(f"{place} must take one parameter, a batch (AudioBatch) or a record (dict)")
    annotation = parameters[0].annotation
    if isinstance(annotation, str):
        kinds = {"AudioBatch": AudioBatch, "dict": dict, "Record": dict, "list[AudioBatch]": list[AudioBatch]}
        annotation = kinds.get(annotation, kinds.get(annotation.partition("[")[0], annotation))
    if annotation is AudioBatch:
        return True
    if annotation is dict or get_origin(annotation) is dict:
        return False
    if annotation == list[AudioBatch]:
        raise PlanError(
            f"{place} takes a list of batches, but a stage sees one batch at a time. The engine puts the batches "
            "together by itself: leave this stage out, or write a Gather if it needs to see every record"
        )
    found = "it has no annotation" if annotation is inspect.Parameter.empty else f"not {annotation!r}"
    raise PlanError(f"{place}: annotate the parameter with AudioBatch (a batch) or dict (a record); {found}")
