"""The run directory: whose run it holds, and what has to be the same for that run to go on."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from curate import __version__
from curate.engine.durability.directory_store import DirectoryStore, read_commits
from curate.engine.durability.fork import fork_run
from curate.engine.durability.inputs import changed_input, check_grown, describe_inputs
from curate.engine.durability.lock import DriverLock, is_lock
from curate.engine.protocol.options import RunOptions
from curate.errors import InfrastructureError, RunDirectoryError
from curate.io.atomic import TEMPORARY, sync_directory, write_json
from curate.plan import KEPT_BY_THE_RUN, Plan
from curate.stage import Source, Writer

_FORMAT = 3


class RunDirectory:
    """A directory that holds one run: `run.json`, shards, commits, and the files that writers publish.

    It is held from its opening to its closing, against any other driver.
    """

    def __init__(self, path: Path, plan: Plan, lock: DriverLock) -> None:
        self.path = path
        self.store = DirectoryStore(path, gathers_of(plan), lock.check)

    @classmethod
    @contextmanager
    def held(
        cls, path: Path, plan: Plan, options: RunOptions, *, on_beat: Callable[[], None] | None = None
    ) -> Generator[RunDirectory]:
        """Open a run directory to begin the plan's run, or to go on with it, and hold it meanwhile.

        Args:
            path: the directory; with `options.fork`, the one that is forked.
            plan: what is to be run in it.
            options: what else is known about the run.
            on_beat: called now and then while it is held.

        Raises:
            RunDirectoryError: it holds something else, naming the first thing that differs, or another driver is at
                work in it.
            InfrastructureError: it cannot be written.
        """
        try:
            described = _describe(plan, options)
            if options.fork is not None:
                path = _forked(path, options.fork, described)
            _check_outputs(path, plan)
            if path.exists() and not (path / "run.json").exists() and _holds_other_things(path):
                raise RunDirectoryError(
                    f"{path} holds other things and no run; choose an empty or a new directory with --run-dir"
                )
            path.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                lock = stack.enter_context(DriverLock(path, on_beat))
                _settle(path, described, options)
                directory = cls(path, plan, lock)
                held = stack.pop_all()
        except OSError as error:
            raise InfrastructureError(
                f"cannot run in {path}: {error.filename or path}: {error.strerror or error}"
            ) from error
        with held:
            yield directory


def gathers_of(plan: Plan) -> list[int]:
    """Return the phases that begin with a gather."""
    return [phase.number for phase in plan.phases if phase.gather is not None]


def read_run(path: Path) -> dict[str, Any]:
    """Return what `run.json` says.

    Raises:
        RunDirectoryError: there is none, or it is not a run's, or another version's.
    """
    if not (path / "run.json").exists():
        raise RunDirectoryError(
            f"{path} holds no run: there is no run.json in it; name the folder that a run was given with --run-dir, "
            "runs/<name> by default"
        )
    described = _read(path / "run.json")
    _check_format(path, described)
    return described


def _settle(path: Path, described: Mapping[str, Any], options: RunOptions) -> None:
    """Compare the run in a directory with what is to be run, or write down what will be."""
    file = path / "run.json"
    before = _read(file) if file.exists() else None
    if before is None:
        write_json(file, described)
        return
    kept = {name: before[name] for name in ("forked_from",) if name in before}
    if not _has_begun(path):  # nothing of what the settings were is in there
        write_json(file, {**described, **kept})
        return
    _compare(path, before, described, grown=options.grown)
    if before["inputs"] == described["inputs"] and options.origin in (None, before.get("origin")):
        return
    if options.grown and changed_input(before["inputs"], described["inputs"]):
        _reopen(path, described)
    inputs = [
        {**was, **now} if was["size"] == now["size"] else now  # keeps a checksum that was taken once
        for was, now in zip(before["inputs"], described["inputs"], strict=True)
    ]
    write_json(file, {**described, **kept, "inputs": inputs, "origin": described["origin"] or before.get("origin")})


def _reopen(path: Path, described: Mapping[str, Any]) -> None:
    """Let a run go on whose input has grown: no phase is complete, and what saw everything has not seen enough."""
    commits = path / "commits"
    for completion in commits.glob("complete-*.json"):
        completion.unlink()
    sync_directory(commits)
    first = min(described["gathers"], default=None)
    for phase, found in read_commits(path).items() if first is not None else ():
        for commit in found:
            if first is not None and phase >= first:
                (commits / f"{commit.unit}.json").unlink()
    sync_directory(commits)


def _forked(old: Path, new: Path, described: Mapping[str, Any]) -> Path:
    """Return the run directory of a fork, which is made unless an earlier life has."""
    if (new / "run.json").exists():
        return new
    if new.exists() and _holds_other_things(new):
        raise RunDirectoryError(f"--fork {new}: it holds other things and no run; choose an empty or a new directory")
    before = read_run(old)
    changed = changed_input(before["inputs"], described["inputs"])
    if changed:
        raise RunDirectoryError(f"--fork: {changed} since the run in {old} began, so none of its records can be used")
    fork_run(old, before, new, described)
    return new


def _holds_other_things(path: Path) -> bool:
    """Return whether there is more than what a crash at the very beginning leaves."""
    return not path.is_dir() or any(TEMPORARY not in entry.name and not is_lock(entry.name) for entry in path.iterdir())


def _has_begun(path: Path) -> bool:
    """Return whether something is committed, or published."""
    commits = path / "commits"
    return (path / "summary.json").exists() or (commits.is_dir() and any(commits.glob("*.json")))


def _describe(plan: Plan, options: RunOptions) -> dict[str, Any]:
    source = plan.stages[0].stage
    return {
        "format": _FORMAT,
        "curate": __version__,
        "name": plan.name,
        "fingerprint": plan.fingerprint,
        "layout": plan.layout,
        "gathers": gathers_of(plan),
        "writers": [planned.name for planned in plan.stages if planned.kind == "writer"],
        "settings": plan.settings,
        "audio_roots": None if plan.audio_roots is None else list(plan.audio_roots),
        "inputs": describe_inputs(source.inputs() if isinstance(source, Source) else (), checksums=options.checksums),
        "origin": options.origin,
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        described: Any = json.loads(path.read_bytes())
    except ValueError:
        described = None
    if not isinstance(described, dict) or "format" not in described:
        raise RunDirectoryError(f"{path} is not a run's; choose another directory with --run-dir")
    return cast("dict[str, Any]", described)


def _check_format(directory: Path, before: Mapping[str, Any]) -> None:
    if before["format"] != _FORMAT:
        raise RunDirectoryError(
            f"{directory} was written by curate {before.get('curate')} in format {before['format']}, "
            f"and this is curate {__version__} with format {_FORMAT}; use a new --run-dir"
        )


def _compare(directory: Path, before: Mapping[str, Any], now: Mapping[str, Any], *, grown: bool) -> None:
    """Refuse a directory whose run would give other results than the plan."""
    remedy = "use a new --run-dir, or change it back to go on with this run"
    _check_format(directory, before)
    if before["fingerprint"] != now["fingerprint"]:
        raise RunDirectoryError(
            f"{directory} holds a run with other settings: {_difference(before, now)}; {remedy}, or use --fork NEW_DIR "
            "for a new run that takes over the phases before the change"
        )
    changed = changed_input(before["inputs"], now["inputs"])
    if changed and grown:
        check_grown(before["inputs"], now["inputs"])
    elif changed:
        raise RunDirectoryError(
            f"{directory}: {changed} since the run began; {remedy}, or use curate run with --grown if it only has more "
            "lines at its end"
        )


def _check_outputs(directory: Path, plan: Plan) -> None:
    """Refuse to publish over what is read, over what another writer publishes, and over the run's own files.

    The plan compares the paths as they are written; here it is known where they lie, and links are followed.
    """
    own = {os.path.realpath(directory / name) for name in KEPT_BY_THE_RUN}
    owners: dict[str, str] = {}
    for planned in plan.stages:
        if isinstance(planned.stage, Source):
            owners |= {os.path.realpath(path): planned.name for path in planned.stage.inputs()}
        for output in planned.stage.outputs() if isinstance(planned.stage, Writer) else ():
            place = os.path.realpath(directory / output)
            if place in own or any(place.startswith(kept + os.sep) for kept in own):
                raise RunDirectoryError(
                    f"stage {planned.name!r} writes {output}, where the run keeps its own files; give it another path"
                )
            if place in owners:
                raise RunDirectoryError(
                    f"stages {owners[place]!r} and {planned.name!r} both have {place}; give the second another path"
                )
            owners[place] = planned.name


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
