"""The stages that may be corrected within a run: those that no record has passed.

A stage that fails on every record it is given is often one with a mistake in it. Once that is corrected, its
fingerprint differs, but no result of the run depends on what the stage was before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from curate.engine.durability.directory_store import current_commits
from curate.engine.durability.stage_outcomes import stage_outcomes
from curate.errors import RunDirectoryError

_FILE_MODULE = re.compile(r"curate_plugins_file_\w+_[0-9a-f]{12}")
"""The module of a plugins-file, whose name ends in a checksum of the whole file."""


def corrected_stages(
    path: Path, before: Mapping[str, Any], now: Mapping[str, Any], fingerprints: Collection[str]
) -> list[str] | None:
    """Return the stages that have changed since the run began, if only failed records have met them.

    None: nothing has changed, or something else than a stage has. Empty: a plugins-file has moved.

    Args:
        path: the run directory.
        before: the content of its `run.json`.
        now: the same of the plan to run.
        fingerprints: those that the commits may carry.

    Raises:
        RunDirectoryError: records have passed one of them; it is named, with their number.
    """
    settings, layout = before["settings"], before["layout"]
    if (
        before["fingerprint"] == now["fingerprint"]
        or list(settings) != list(now["settings"])
        or layout != now["layout"]
    ):
        return None
    changed = [name for name in settings if _comparable(settings[name]) != _comparable(now["settings"][name])]
    beginnings = [layout[0][0], *(layout[phase][0] for phase in before["gathers"])]
    if set(changed) & {*before["writers"], *beginnings}:
        return None
    commits = current_commits(path, before["gathers"], fingerprints)
    outcomes = chain.from_iterable(stage_outcomes(names, commits.get(phase, ())) for phase, names in enumerate(layout))
    for outcome in outcomes:
        flow = outcome.flow
        passed = flow.records_in - flow.quarantined
        if flow.name in changed and passed:
            raise RunDirectoryError(
                f"{path}: stage {flow.name!r} has changed since the run began, and {passed:,} of its "
                f"{flow.records_in:,} records have passed it as it was, so a retry would mix two versions; change it "
                "back, or use curate run with --fork NEW_DIR for a new run that takes over the phases before it"
            )
    return changed


def _comparable(settings: Mapping[str, Any]) -> str:
    """Return settings as a string in which a plugins-file has the same name whatever else in it has changed."""
    return _FILE_MODULE.sub("", json.dumps(settings, sort_keys=True))
