"""Opens DuckDB with bounds: its memory, its threads, and the folder to which it spills what does not fit."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from curate.errors import InfrastructureError, PlanError

MEMORY_LIMIT_MB = 128
"""The memory that DuckDB uses for tables and intermediate results at most; more is spilled to disk."""

MAX_THREADS = 4
"""More threads need more memory each: DuckDB advises at least 125 MB a thread for what it cannot spill."""


def check_duckdb() -> None:
    """Check that DuckDB is installed, without importing it.

    Raises:
        PlanError: it is not; the message names the extra.
    """
    if importlib.util.find_spec("duckdb") is None:
        raise PlanError("needs DuckDB: pip install 'curate-speech[corpus]'")


def open_database(scratch: Path, *, threads: int | None = None) -> Any:
    """Return a connection to an empty database in memory that spills to a folder.

    The number of threads changes the speed and no result as long as every query that is read says its order.

    Args:
        scratch: the folder for temporary files.
        threads: of DuckDB; None: one for each CPU of this process, at most 4.

    Raises:
        InfrastructureError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise InfrastructureError("this stage needs DuckDB: pip install 'curate-speech[corpus]'") from error
    spilled = scratch / "duckdb"
    spilled.mkdir(parents=True, exist_ok=True)
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{MEMORY_LIMIT_MB}MB",
        "temp_directory": str(spilled),
        "threads": threads or min(MAX_THREADS, len(os.sched_getaffinity(0))),
        "preserve_insertion_order": False,  # every query that is read has an ORDER BY; keeping the order costs memory
        "autoinstall_known_extensions": False,  # opens no socket
        "autoload_known_extensions": False,
    }
    return duckdb.connect(":memory:", config=config)
