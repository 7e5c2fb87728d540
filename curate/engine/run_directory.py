"""The run directory: whose run it holds, and what has to be the same for that run to go on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from curate import __version__
from curate.engine.shards import ShardStore
from curate.errors import InfrastructureError, RunDirectoryError
from curate.io.atomic import TEMPORARY, write_json
from curate.plan import Plan
from curate.stage import Source

_FORMAT = 2


class RunDirectory:
    """A directory that holds one run: `run.json`, shards, commits, and the files that writers publish."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = ShardStore(path)

    @classmethod
    def open(cls, path: Path, plan: Plan) -> RunDirectory:
        """Open a run directory to begin the plan's run, or to go on with it.

        Raises:
            RunDirectoryError: it holds something else; the message names the first thing that differs.
            InfrastructureError: it cannot be written.
        """
        settled = path / "run.json"
        try:
            described = _describe(plan)
            before = _read(settled) if settled.exists() else None
            if before is not None and _has_begun(path):
                _compare(path, before, described)
            elif before is not None:  # nothing of what the settings were is in there
                write_json(settled, described)
            elif path.exists() and _holds_other_things(path):
                raise RunDirectoryError(
                    f"{path} holds other things and no run; choose an empty or a new directory with --run-dir"
                )
            else:
                path.mkdir(parents=True, exist_ok=True)
                write_json(settled, described)
            return cls(path)
        except OSError as error:
            raise InfrastructureError(
                f"cannot run in {path}: {error.filename or path}: {error.strerror or error}"
            ) from error


def _holds_other_things(path: Path) -> bool:
    """Return whether there is more than what a crash at the very beginning leaves."""
    return not path.is_dir() or any(TEMPORARY not in entry.name for entry in path.iterdir())


def _has_begun(path: Path) -> bool:
    """Return whether something is committed, or published."""
    commits = path / "commits"
    return (path / "summary.json").exists() or (commits.is_dir() and any(commits.glob("*.json")))


def _describe(plan: Plan) -> dict[str, Any]:
    source = plan.stages[0].stage
    inputs: list[dict[str, Any]] = []
    for path in source.inputs() if isinstance(source, Source) else ():
        status = path.stat()
        inputs.append({"path": str(path.resolve()), "size": status.st_size, "mtime_ns": status.st_mtime_ns})
    return {
        "format": _FORMAT,
        "curate": __version__,
        "name": plan.name,
        "fingerprint": plan.fingerprint,
        "layout": plan.layout,
        "settings": plan.settings,
        "audio_roots": None if plan.audio_roots is None else list(plan.audio_roots),
        "inputs": inputs,
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        described: Any = json.loads(path.read_bytes())
    except ValueError:
        described = None
    if not isinstance(described, dict) or "format" not in described:
        raise RunDirectoryError(f"{path} is not a run's; choose another directory with --run-dir")
    return cast("dict[str, Any]", described)


def _compare(directory: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a directory whose run would give other results than the plan."""
    remedy = "use a new --run-dir, or change it back to go on with this run"
    if before["format"] != now["format"]:
        raise RunDirectoryError(
            f"{directory} was written by curate {before.get('curate')} in format {before['format']}, "
            f"and this is curate {__version__} with format {_FORMAT}; use a new --run-dir"
        )
    if before["fingerprint"] != now["fingerprint"]:
        raise RunDirectoryError(f"{directory} holds a run with other settings: {_difference(before, now)}; {remedy}")
    old_inputs = {entry["path"]: entry for entry in cast("list[dict[str, Any]]", before["inputs"])}
    new_inputs = {entry["path"]: entry for entry in cast("list[dict[str, Any]]", now["inputs"])}
    for name in (*old_inputs, *new_inputs):
        if old_inputs.get(name) != new_inputs.get(name):
            what = "is new" if name not in old_inputs else "is gone" if name not in new_inputs else "has changed"
            raise RunDirectoryError(f"{directory}: the input {name} {what} since the run began; {remedy}")


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name the first stage and setting in which two runs differ."""
    old, new = before["settings"], now["settings"]
    if list(old) != list(new):
        return f"its stages were {', '.join(old)}, and now they are {', '.join(new)}"
    for stage in new:  # in the order of the pipeline
        for name in {**old[stage], **new[stage]}:
            was, is_now = old[stage].get(name), new[stage].get(name)
            if was != is_now:
                return f"stage {stage!r} {_change(name, was, is_now)}"
    return f"its phases were {_shown(before['layout'])}, and now they are {_shown(now['layout'])} (see `checkpoint`)"


_CODE = re.compile(r"(?P<name>[^:]*:[^:]+):[0-9a-f]{16}")


def _change(name: str, was: Any, is_now: Any) -> str:
    """Say how a setting has changed; of a description, where it has, and of code only that it has."""
    if isinstance(was, dict) and isinstance(is_now, dict):
        old, new = cast("dict[str, Any]", was), cast("dict[str, Any]", is_now)
        if old.keys() == new.keys():
            return next(_change(key, old[key], new[key]) for key in old if old[key] != new[key])
        if "function" in old and "function" in new and old["function"] != new["function"]:
            return _change(name, old["function"], new["function"])
    if isinstance(was, list) and isinstance(is_now, list):
        pairs = list(zip(cast("list[Any]", was), cast("list[Any]", is_now), strict=False))
        if len(was) == len(is_now) and any(isinstance(item, dict) or _CODE.fullmatch(str(item)) for item, _ in pairs):  # pyright: ignore[reportUnknownArgumentType]
            return next(_change(name, item, now) for item, now in pairs if item != now)
    old_code, new_code = _CODE.fullmatch(str(was)), _CODE.fullmatch(str(is_now))  # pyright: ignore[reportUnknownArgumentType]
    if old_code and new_code and old_code["name"] == new_code["name"]:
        return f"is not what it was: the code of {old_code['name'].partition(':')[2]} has changed"
    return f"had {name} = {was!r}, and now it is {is_now!r}"


def _shown(layout: Sequence[Sequence[str]]) -> str:
    return " | ".join(", ".join(phase) for phase in layout)


def read_run(directory: Path) -> dict[str, Any]:
    """Return what `run.json` of a run directory says, for those who only look at it.

    Raises:
        RunDirectoryError: there is no run, or one of another version.
    """
    settled = directory / "run.json"
    try:
        described = _read(settled)
    except OSError as error:
        raise RunDirectoryError(
            f"{directory} is no run directory ({settled.name}: {error.strerror}); name the folder that a run was "
            "given with --run-dir, runs/<name> by default"
        ) from error
    if described["format"] != _FORMAT:
        raise RunDirectoryError(
            f"{directory} was written by curate {described.get('curate')} in format {described['format']}, and this is "
            f"curate {__version__} with format {_FORMAT}; look at it with that version"
        )
    return described
