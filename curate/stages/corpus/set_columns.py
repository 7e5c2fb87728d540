"""The stage that sets, renames and drops columns."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.errors import PlanError, RecordError
from curate.expressions import ValueExpression
from curate.records import ID, Record
from curate.stage import RecordStage


@dataclass
class SetColumns(RecordStage):
    """Sets columns to values computed from others, then renames columns, then drops some.

    All expressions see the record as it came. The plan names columns that are overwritten.

    Args:
        columns: column → expression, such as `"round(duration * 1000)"`, `"concat(speaker, '-', book)"`,
            `"snr if snr is not None else 0"` or `"wer > 0.5"`.
        constants: column → a value that is written as it is, such as `license: CC0`.
        rename: old name → new name.
        drop: the columns that are left out.
    """

    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    constants: Mapping[str, Any] = field(default_factory=dict[str, Any])
    rename: Mapping[str, str] = field(default_factory=dict[str, str])
    drop: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, value in (("columns", self.columns), ("constants", self.constants), ("rename", self.rename)):
            if not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] (from YAML)
                raise PlanError(f"{name}={value!r:.80}: must be a mapping from the name of a column")
        if isinstance(self.drop, str):
            raise PlanError(f"drop={self.drop!r:.80}: must be a list of columns")
        self._expressions = dict(self._parsed())

    def _parsed(self) -> Iterator[tuple[str, ValueExpression]]:
        for name, text in self.columns.items():
            try:
                yield name, ValueExpression(text)
            except PlanError as error:
                raise PlanError(f"columns: {name}: {error}") from None

    def check(self) -> None:
        if not (self.columns or self.constants or self.rename or self.drop):
            raise PlanError("columns, constants, rename and drop are all empty: there is nothing to do")
        written = [*self.columns, *self.constants, *self.rename.values()]
        for name in (*written, *self.rename, *self.drop):
            if not isinstance(name, str) or not name or name == ID:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise PlanError(f"{name!r:.80} cannot be set, renamed or dropped")
        for name in written:
            if written.count(name) > 1:
                raise PlanError(f"column {name!r} is written twice by columns, constants and rename")
        for name in self.rename:
            if name in self.columns or name in self.constants or name in self.drop:
                raise PlanError(f"column {name!r} is renamed, and set or dropped as well")
        for name in self.drop:
            if name in written:
                raise PlanError(f"column {name!r} is written and dropped")

    def reads(self) -> Collection[str]:
        required = {name for expression in self._expressions.values() for name in expression.required}
        return (required | set(self.rename) | set(self.drop)) - {ID}

    def writes(self) -> Collection[str]:
        return (*self.columns, *self.constants, *self.rename.values())

    def drops(self) -> Collection[str]:
        return tuple(name for name in (*self.rename, *self.drop) if name not in self.rename.values())

    def process_record(self, record: Record) -> Record:
        values = {name: expression.value(record) for name, expression in self._expressions.items()}
        for old in self.rename:
            if old not in record:
                raise RecordError("missing_column", f"the record has no {old!r} to rename")
        renamed = {new: record[old] for old, new in self.rename.items()}
        for name in (*self.rename, *self.drop):
            record.pop(name, None)
        record |= values
        record |= copy.deepcopy(dict(self.constants))
        record |= renamed
        return record
