"""The history of measurements, a file of JSON lines, with the basis on which two of them may be compared."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import attrs
from loguru import logger

from curate.fingerprint import describe_value
from curate.machine import Machine
from curate.records import ID, Record
from curate.stage import ProcessingStage

_T = TypeVar("_T")


class _Report(attrs.AttrsInstance, Protocol):
    @property
    def basis(self) -> str: ...

    def to_dict(self) -> dict[str, Any]: ...


_R = TypeVar("_R", bound=_Report)


def basis_of(stage: ProcessingStage, records: Sequence[Record], executor: str, machine: Machine) -> str:
    """Return a checksum that two comparable measurements share: of records, stage with its model, executor, machine.

    Settings that do not change the results are not part of it, because they are varied by the measurement.
    """
    settings = {name: value for name, value in stage.settings().items() if name not in stage.tuning}
    alike = [
        type(stage).__qualname__,
        {name: describe_value(value) for name, value in {**settings, **stage.fingerprint()}.items()},
        [{name: value for name, value in record.items() if name != ID} for record in records],
        executor,
        attrs.asdict(machine),
        platform.node(),
    ]
    return hashlib.sha256(json.dumps(alike, sort_keys=True, default=str).encode()).hexdigest()[:16]


def remember(report: _R, history: Path | None, read: Callable[[Mapping[str, Any]], _R]) -> _R:
    """Append a report to the history, and return it with the previous report on its basis; as it is without a history.

    Args:
        report: has `basis`, `before` and `to_dict`.
        read: returns a report from the data of `to_dict`.
    """
    if history is None:
        return report
    before = last_alike(history, report.basis, read)
    append(history, report.to_dict())
    return attrs.evolve(report, before=before)


def append(history: Path, described: Mapping[str, Any]) -> None:
    """Append one measurement as a line; the file and its folder are created if necessary."""
    history.parent.mkdir(parents=True, exist_ok=True)
    is_cut_off = history.exists() and not history.read_bytes().endswith(b"\n")
    with history.open("a", encoding="utf-8") as file:
        file.write(("\n" if is_cut_off else "") + json.dumps(described) + "\n")


def last_alike(history: Path, basis: str, read: Callable[[Mapping[str, Any]], _T]) -> _T | None:
    """Return the last measurement on this basis, None if there is none.

    A line that cannot be parsed, for example a truncated one or one of another version, is logged and skipped.
    """
    if not history.exists():
        return None
    found: _T | None = None
    for number, line in enumerate(history.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            described = json.loads(line)
            if described["basis"] == basis:
                found = read(described)
        except (ValueError, TypeError, KeyError) as error:
            logger.warning("{}:{} is not a valid measurement and is skipped: {}", history, number, error)
    return found
