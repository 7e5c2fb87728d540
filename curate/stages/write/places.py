"""Checks where a writer may publish."""

from __future__ import annotations

import os
from pathlib import Path

from curate.errors import PlanError


def check_writable(given: str | Path, path: Path) -> None:
    """Check that a file or folder can be made at an absolute path; one inside the run directory can.

    Args:
        given: the path as the user wrote it, for the message.
        path: the same, normalised.

    Raises:
        PlanError: the nearest folder that exists cannot be written to.
    """
    if path.is_absolute():
        above = next(folder for folder in path.parents if folder.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise PlanError(f"path={str(given)!r}: cannot write to {above}")
