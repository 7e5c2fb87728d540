"""Forks a run: the new one takes over the phases that a change of the pipeline has not touched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from loguru import logger

from curate.engine.durability.commit import positions_of
from curate.engine.durability.commit_resolution import CurrentCommits
from curate.engine.durability.copies import COPIES, copy_of
from curate.engine.durability.damage import damaged_files, damaged_run
from curate.engine.durability.directory_store import AUDIO_FOLDER, SHARD_FOLDER, UNIT_FOLDERS, resolved_commits
from curate.engine.durability.listing import LISTING
from curate.engine.durability.redo_order import read_orders
from curate.storage import TEMPORARY, sync_directory, temporary_path

_WriteRun: TypeAlias = "Callable[[Path, Mapping[str, Any]], None]"


def fork_run(
    old: Path,
    before: Mapping[str, Any],
    new: Path,
    now: Mapping[str, Any],
    write_run: _WriteRun,
) -> int:
    """Make a run directory from the phases of another that are complete and the same, and return how many there are.

    The unit files, which are never changed, are linked where the file system allows it, and copied elsewhere. The new
    directory appears whole or not at all.

    Args:
        old: the run directory that is forked.
        before: its `run.json`.
        new: the new run directory, which does not exist or is empty.
        now: the content of its future `run.json`.
        write_run: writes `run.json` to a directory.
    """
    valid = resolved_commits(old, before["gathers"])
    phases = sum(1 for _ in _reusable(old, before, now, valid))
    reused = (commit for phase in range(phases) for commit in valid.commits.get(phase, ()))
    damage = list(damaged_files(old, reused, {}, thorough=False))
    if damage:
        raise damaged_run(old, damage)
    building = temporary_path(new)
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        for folder in (*UNIT_FOLDERS, "commits", COPIES):
            (building / folder).mkdir(parents=True)
        for phase in range(phases):
            for commit in valid.commits.get(phase, ()):
                for file in commit.needed_files():
                    (building / file.path).parent.mkdir(parents=True, exist_ok=True)
                    _link(old / file.path, building / file.path)
                name = f"commits/{commit.unit}.json"
                _link(old / name, building / name)
                copy_of(building, f"{commit.unit}.json").write_bytes((old / name).read_bytes())
            _link(old / f"commits/complete-{phase}.json", building / f"commits/complete-{phase}.json")
        _link_shards(old, building)
        if (old / LISTING).is_file():
            _link(old / LISTING, building / LISTING)
        for folder in (*UNIT_FOLDERS, "commits", *_audio_folders(building)):
            sync_directory(building / folder)
        fingerprints = [before["fingerprint"], *before.get("forked_from", {}).get("fingerprints", ())]
        fingerprints += [each["fingerprint"] for each in before.get("corrected", ())]
        forked_from = {"run": str(old.resolve()), "phases": phases, "fingerprints": fingerprints}
        write_run(building, {**now, "forked_from": forked_from})
        building.rename(new)
        sync_directory(new.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    logger.info("{} takes over {} of {} phases from {}", new, phases, len(now["layout"]), old)
    return phases


def _reusable(old: Path, before: Mapping[str, Any], now: Mapping[str, Any], valid: CurrentCommits) -> Iterator[int]:
    """Yield the phases, from the first on, that are complete and the same."""
    ordered = {order.phase for order in read_orders(old).values()}
    for phase, (was, is_now) in enumerate(zip(before["layout"], now["layout"], strict=False)):
        if phase in ordered:  # damaged units of it have to be processed again
            return
        described = [
            json.dumps([(name, run["settings"][name]) for name in names if name not in run["writers"]], sort_keys=True)
            for run, names in ((before, was), (now, is_now))
        ]
        complete = (old / f"commits/complete-{phase}.json").exists()
        if described[0] != described[1] or (phase in before["gathers"]) != (phase in now["gathers"]) or not complete:
            return
        if not valid.places.get(phase, valid.places[0]).holds_exactly(positions_of(valid.commits.get(phase, ()))):
            return
        yield phase


def _link_shards(old: Path, building: Path) -> None:
    """Take over all shards: a phase that has changed may still have some that have not, and finds them by name."""
    for path in sorted((old / SHARD_FOLDER).rglob("*")):
        target = building / path.relative_to(old)
        if path.is_file() and TEMPORARY not in str(path.relative_to(old)):
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(path, target)


def _audio_folders(directory: Path) -> list[Path]:
    audio = directory / AUDIO_FOLDER
    return [*audio.glob("*/"), audio] if audio.exists() else []


def _link(source: Path, target: Path) -> None:
    if target.exists():  # new audio that two outcomes of one record have both written, or a shard of a phase taken over
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
