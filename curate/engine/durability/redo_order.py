"""Orders to process a damaged unit again, which `curate repair` leaves for the next run as `commits/redo-<unit>.json`.

An order is removed after the unit is whole again, so a crash in between leaves it to the next attempt.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import attrs

from curate.engine.durability.commit import UnitFile
from curate.engine.durability.commit_file import seal, unseal
from curate.storage import sync_directory, write_atomically

_PREFIX = "redo-"
ROWS_BEFORE = "rows before"
"""Among the kinds of an order: the rows of the phase before have changed, and the unit may have to change with them."""


@attrs.frozen
class RedoOrder:
    """The order to process a unit's records again.

    Args:
        unit: the unit.
        phase: its phase.
        kinds: the kinds of its files that are lost, or `ROWS_BEFORE`.
        whole: whether all of its records are processed again; otherwise those whose outcome is lost.
        positions: the positions of the records whose new audio is lost.
        rows: the damaged data file, relative to the run directory, for comparison; "" if there is none.
        after: if the commit itself is lost, the largest number of a commit then.
    """

    unit: str
    phase: int
    kinds: frozenset[str]
    whole: bool = False
    positions: frozenset[int] = frozenset()
    rows: str = ""
    after: int | None = None

    def redoes(self, file: UnitFile) -> bool:
        """Return whether a file of the unit is made again."""
        return file.kind in self.kinds and (file.kind != "audio" or file.position in self.positions)

    def merged(self, other: RedoOrder | None) -> RedoOrder:
        """Return an order for what both order."""
        if other is None:
            return self
        return attrs.evolve(
            self,
            kinds=self.kinds | other.kinds,
            whole=self.whole or other.whole,
            positions=self.positions | other.positions,
            rows=self.rows or other.rows,
            after=other.after if self.after is None else self.after,
        )


def write_order(directory: Path, order: RedoOrder) -> None:
    """Write an order to a run directory."""
    described: dict[str, Any] = attrs.asdict(order) | {
        "kinds": sorted(order.kinds),
        "positions": sorted(order.positions),
    }
    write_atomically(_path(directory, order.unit), seal(described))


def remove_orders(directory: Path, units: Collection[str]) -> None:
    """Remove the orders for units."""
    for unit in units:
        _path(directory, unit).unlink(missing_ok=True)
    if units:
        sync_directory(directory / "commits")


def read_orders(directory: Path) -> dict[str, RedoOrder]:
    """Return the orders of a run directory, by unit; one that is damaged orders all of its unit."""
    return {order.unit: order for order in map(_read, sorted((directory / "commits").glob(f"{_PREFIX}p*-*.json")))}


def _read(path: Path) -> RedoOrder:
    unit = path.stem.removeprefix(_PREFIX)
    try:
        described = unseal(path.read_bytes())
        kinds, positions = (frozenset(described.pop(name)) for name in ("kinds", "positions"))
        return RedoOrder(**described, kinds=kinds, positions=positions)
    except (ValueError, TypeError, KeyError, OSError):
        phase = unit[1:].partition("-")[0]
        kinds = frozenset({"data", "filtered", "quarantine"})
        return RedoOrder(unit, int(phase) if phase.isdecimal() else 0, kinds, whole=True)


def _path(directory: Path, unit: str) -> Path:
    return directory / "commits" / f"{_PREFIX}{unit}.json"
