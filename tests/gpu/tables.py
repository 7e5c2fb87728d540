"""Prints what was measured as tables, and keeps it as JSON where `$OUT` names a folder."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]


class Tables:
    """The tables of one session.

    The file is written anew with each table, so that a session that is cut short leaves what it has.

    Args:
        machine: what they were measured on, see `describe_machine`.
        path: the JSON file; None: print only.
    """

    def __init__(self, machine: Mapping[str, Any], path: Path | None = None) -> None:
        self.machine = dict(machine)
        self.path = path
        self.tables: dict[str, list[Row]] = {}
        self.goals: list[Row] = []
        print("\n\n" + "\n".join(f"{name}: {value}" for name, value in self.machine.items()))

    def add(self, title: str, rows: Sequence[Row]) -> None:
        """Print and keep a table; all rows have the same columns."""
        self.tables[title] = [dict(row) for row in rows]
        lines = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, ["-" * width for width in widths])
        print(f"\n\n{title}")
        for line in lines:
            first, *others = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join([first.strip().ljust(widths[0]), *others]))
        self._write()

    def goal(self, what: str, value: float, *, least: float | None = None, most: float | None = None) -> None:
        """Print and keep whether a goal was met."""
        is_met = (least is None or value >= least) and (most is None or value <= most)
        wanted = f">= {least:g}" if least is not None else f"<= {most:g}"
        self.goals.append({"what": what, "value": value, "goal": wanted, "met": is_met})
        print(f"goal: {what}: {value:.3g}, wanted {wanted}: {'met' if is_met else 'NOT MET'}")
        self._write()

    def _write(self) -> None:
        if self.path is not None:
            everything = {"machine": self.machine, "goals": self.goals, "tables": self.tables}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(everything, indent=1), encoding="utf-8")


def out_file(name: str) -> Path | None:
    """Return the file of that name in the folder that the environment variable `OUT` names, None without one."""
    folder = os.environ.get("OUT")
    return Path(folder) / name if folder else None


def describe_machine(device: str) -> Row:
    """Return what figures depend on: the card, the versions, and torch's settings for fp32."""
    import torch

    machine: Row = {
        "device": device,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "nemo": _version("nemo_toolkit"),
        "curate": _version("curate-speech"),
    }
    if torch.device(device).type == "cuda":
        card = torch.cuda.get_device_properties(device)
        machine |= {
            "card": card.name,
            "card_memory_gb": round(card.total_memory / 1e9, 1),
            "multiprocessors": card.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "tf32": f"matmul {torch.backends.cuda.matmul.allow_tf32}, cudnn {torch.backends.cudnn.allow_tf32}",
        }
    return machine


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
