"""The history of measurements: one JSON line each, and which of them may be compared."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
from loguru import logger

from curate.fingerprint import describe_value
from curate.machine import Machine
from curate.records import ID, Record
from curate.stage import ProcessingStage

_T = TypeVar("_T")


def basis_of(stage: ProcessingStage, records: Sequence[Record], executor: str, machine: Machine) -> str:
    """Return what two measurements must share to be compared: records, stage with its model, executor, machine.

    Settings that change no result are left out: they are what is measured.
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


def append(history: Path, described: Mapping[str, Any]) -> None:
    """Append one measurement, on a line of its own; the file and its folder are made if need be."""
    history.parent.mkdir(parents=True, exist_ok=True)
    is_cut_off = history.exists() and not history.read_bytes().endswith(b"\n")
    with history.open("a", encoding="utf-8") as file:
        file.write(("\n" if is_cut_off else "") + json.dumps(described) + "\n")


def last_alike(history: Path, basis: str, read: Callable[[Mapping[str, Any]], _T]) -> _T | None:
    """Return the last measurement on this basis, None if there is none.

    A line that cannot be read, such as one that was cut off or is another version's, is reported and left out.
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
            logger.warning("{}:{} is no measurement and is left out: {}", history, number, error)
    return found
