"""The run directory: the run that it holds, and the checks before that run is resumed."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loguru import logger

from curate._version import __version__
from curate.engine.durability.commit_file import repair_command
from curate.engine.durability.copies import COPIES, copy_of, move_aside, read_run_file, remove_commit
from curate.engine.durability.correction import corrected_stages
from curate.engine.durability.damage import find_commits
from curate.engine.durability.directory_store import DirectoryStore, read_commits
from curate.engine.durability.fork import fork_run
from curate.engine.durability.inputs import (
    MOST_IN_RUN_FILE,
    changed_input,
    check_grown,
    describe_inputs,
    store_inputs,
    stored_inputs,
)
from curate.engine.durability.listing import Listing, copy_listing, extended, keep_listing, listing_of
from curate.engine.durability.lock import DriverLock, is_lock
from curate.engine.durability.run_differences import describe_difference
from curate.engine.protocol.options import RunOptions
from curate.errors import InfrastructureError, RunDirectoryError
from curate.plan import KEPT_BY_THE_RUN, Plan
from curate.stage import Source, Writer
from curate.storage import TEMPORARY, is_url, sync_directory, write_json

_FORMAT = 4
"""The version of the run directory's files; a directory of another version is refused."""


class RunDirectory:
    """A directory that holds one run: `run.json`, unit files, commits, and the files that writers publish.

    It is locked from its opening to its closing.
    """

    def __init__(self, path: Path, plan: Plan, lock: DriverLock, described: Mapping[str, Any]) -> None:
        self.path = path
        known = fingerprints_of(described)
        self.store = DirectoryStore(path, gathers_of(plan), lock.check, plan.fingerprint, known)

    @classmethod
    @contextmanager
    def held(
        cls, path: Path, plan: Plan, options: RunOptions, *, on_beat: Callable[[], None] | None = None
    ) -> Generator[RunDirectory]:
        """Open a run directory to begin or to resume the plan's run, and hold its lock meanwhile.

        Args:
            path: the directory; with `options.fork`, the one that is forked.
            plan: the plan to run in it.
            options: the options of this attempt.
            on_beat: called now and then while it is held.

        Raises:
            RunDirectoryError: it holds another run, naming the first difference, or something else, or another driver
                is at work in it.
            InfrastructureError: it cannot be written.
        """
        held = ExitStack()
        source = plan.stages[0].stage
        lists = isinstance(source, Source) and source.lists
        try:
            if options.fork is not None:
                listing = _listing(path, plan, options, held, of_new_run=False) if lists else None
                path = _forked(path, options.fork, _describe(plan, options, listing))
            _check_outputs(path, plan)
            if path.exists() and not is_run(path) and _holds_other_things(path):
                raise RunDirectoryError(
                    f"{path} is not empty and holds no run; choose an empty or a new directory with --run-dir"
                )
            path.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context(DriverLock(path, on_beat))
            listing = _listing(path, plan, options, held) if lists else None
            described = _settle(path, plan, _describe(plan, options, listing), options, listing)
            directory = cls(path, plan, lock, described)
        except OSError as error:
            held.close()
            raise InfrastructureError(
                f"cannot run in {path}: {error.filename or path}: {error.strerror or error}"
            ) from error
        except BaseException:
            held.close()
            raise
        with held:
            yield directory


def gathers_of(plan: Plan) -> list[int]:
    """Return the phases that begin with a gather."""
    return [phase.number for phase in plan.phases if phase.gather is not None]


def fingerprints_of(described: Mapping[str, Any]) -> frozenset[str]:
    """Return the fingerprints that the commits of a run may carry: its own, those of the runs that it forked, and those
    before a stage was corrected.
    """
    corrected = (each["fingerprint"] for each in described.get("corrected", ()))
    return frozenset({described["fingerprint"], *described.get("forked_from", {}).get("fingerprints", ()), *corrected})


def read_run(path: Path) -> dict[str, Any]:
    """Return the content of `run.json`.

    Of a run whose `run.json` is missing or cannot be read, it is the content of the copy.

    Raises:
        RunDirectoryError: there is none, or it is not a run's, or of another format.
    """
    described, problem = read_run_file(path / "run.json")
    if described is None:
        described, _ = read_run_file(copy_of(path, "run.json"))
        if described is not None:
            logger.warning("{} {}; its copy is read instead; {} restores it", path / "run.json", problem, _repair(path))
    if described is None and has_commits(path):
        raise RunDirectoryError(f"{path / 'run.json'} {problem}, and so is its copy; {_REBUILT}")
    if described is None and not (path / "run.json").exists():
        raise RunDirectoryError(
            f"{path} holds no run: there is no run.json in it; name the folder that a run was given with --run-dir, "
            "runs/<name> by default"
        )
    if described is None:
        raise RunDirectoryError(f"{path / 'run.json'} is not a run's; choose another directory with --run-dir")
    _check_format(path, described)
    return described


_REBUILT = "the command that began the run describes it again from its commits, if the pipeline is the same"


def is_run(path: Path) -> bool:
    """Return whether a directory holds a run, even if its `run.json` is lost."""
    return (path / "run.json").exists() or copy_of(path, "run.json").exists() or has_commits(path)


def has_commits(path: Path) -> bool:
    """Return whether a directory holds commits, or what is left of them."""
    return any(any((path / folder).glob("p*-*.json")) for folder in ("commits", COPIES))


def _repair(path: Path) -> str:
    return f"`{repair_command(path)}`"


def _settle(
    path: Path, plan: Plan, described: Mapping[str, Any], options: RunOptions, listing: Listing | None
) -> Mapping[str, Any]:
    """Compare the run in a directory with the one to start, or describe the new run in `run.json`.

    Returns:
        The content of `run.json`.
    """
    begun = any((path / name).exists() for name in ("run.json", COPIES, "commits"))
    before = _read_or_recover(path, described) if begun else None
    if before is None:
        write_run(path, described)
        return described
    kept = {name: before[name] for name in ("forked_from", "corrected") if name in before}
    if not _has_begun(path):  # no result of the settings of then is in there
        described = {**described, **kept}
        write_run(path, described)
        return described
    source = plan.stages[0].stage
    can_grow = source.can_grow if options.grown and isinstance(source, Source) else None
    corrected = None if options.retry is None else corrected_stages(path, before, described, fingerprints_of(before))
    if corrected is not None:
        correction = {"stages": corrected, "fingerprint": before["fingerprint"], "at": _now()}
        before = {**before, "fingerprint": described["fingerprint"]}
        kept["corrected"] = [*kept.get("corrected", ()), correction]
    if corrected:
        logger.warning(
            "the code or settings of {} have changed; only failed records have met it, so the retry uses what it is "
            "now, and {} records the change",
            ", ".join(map(repr, corrected)),
            path / "run.json",
        )
    _compare(path, before, described, can_grow)
    is_same = before["inputs"] == described["inputs"] and before.get("listing") == described.get("listing")
    if corrected is None and is_same and options.origin in (None, before.get("origin")):
        return before
    is_longer = listing is not None and bool(listing.more)
    if options.grown and (is_longer or changed_input(before["inputs"], described["inputs"])):
        _reopen(path, described)
    if listing is not None and listing.more and isinstance(source, Source):
        source.use_listing(keep_listing(path, listing))
    known = {was["path"]: was for was in before["inputs"]}
    inputs = [
        # keeps a checksum from an earlier attempt
        {**was, **now} if (was := known.get(now["path"])) is not None and was["size"] == now["size"] else now
        for now in described["inputs"]
    ]
    described = {**described, **kept, "inputs": inputs, "origin": described["origin"] or before.get("origin")}
    write_run(path, described)
    return described


def write_run(path: Path, described: Mapping[str, Any]) -> None:
    """Write `run.json` and its copy.

    Raises:
        InfrastructureError: one of them cannot be written.
    """
    (path / COPIES).mkdir(exist_ok=True)
    is_short = len(described["inputs"]) <= MOST_IN_RUN_FILE
    for folder in (path, path / COPIES):
        write_json(folder / "run.json", described if is_short else store_inputs(described, folder), checksum=True)
    if "listing" in described:
        copy_listing(path)


def _read_or_recover(path: Path, now: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the content of `run.json`; None: no run has begun.

    A lost or damaged file is written again from its copy, or from the plan if the commits have its fingerprint: nothing
    that decides about results is in there but what the fingerprint covers, and the state of the inputs.

    Raises:
        RunDirectoryError: it is not a run's, or the plan is another one than the commits are of.
    """
    file = path / "run.json"
    before, problem = read_run_file(file)
    if before is not None and before["format"] != _FORMAT:
        return before  # to be refused, whatever else is wrong with it
    if not problem:
        return before if before is None else stored_inputs(before, path)
    copy, lost = read_run_file(copy_of(path, "run.json"))
    if copy is not None and not lost:
        copy = stored_inputs(copy, path)
        _warn_and_move(path, problem, "written again from its copy")
        write_run(path, copy)
        return copy
    if not has_commits(path):
        if file.exists():
            raise RunDirectoryError(f"{file} is not a run's; choose another directory with --run-dir")
        return None
    found = find_commits(path)
    readable = [commit for commits in found.commits.values() for commit in commits]
    newest = max(readable, key=lambda commit: commit.number, default=None)
    others = {commit.fingerprint for commit in readable} - {now["fingerprint"]}
    if newest is None or newest.fingerprint != now["fingerprint"]:
        fingerprint = "unknown" if newest is None else newest.fingerprint
        raise RunDirectoryError(
            f"{file} {problem}, and so is its copy; the fingerprint of the newest commit is {fingerprint}, and that of "
            f"this pipeline is {now['fingerprint']}: run the pipeline that began the run, or use a new --run-dir"
        )
    _warn_and_move(path, problem, "described again; whether the inputs have changed since then is not known")
    forked = {"forked_from": {"run": "", "phases": 0, "fingerprints": sorted(others)}} if others else {}
    described = {**now, **forked}
    write_run(path, described)
    return described


def _warn_and_move(path: Path, problem: str, recovery: str) -> None:
    logger.warning("{} {}; it is {}", path / "run.json", problem, recovery)
    move_aside(path, "run.json")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _reopen(path: Path, described: Mapping[str, Any]) -> None:
    """Reopen a run whose input has grown: no phase is complete, and phases behind a gather have to start again."""
    commits = path / "commits"
    for completion in commits.glob("complete-*.json"):
        completion.unlink()
    sync_directory(commits)
    first = min(described["gathers"], default=None)
    for phase, found in read_commits(path).items() if first is not None else ():
        for commit in found:
            if first is not None and phase >= first:
                remove_commit(path, commit.unit)
    sync_directory(commits)


def _forked(old: Path, new: Path, described: Mapping[str, Any]) -> Path:
    """Return the run directory of a fork, and make it unless an earlier attempt has."""
    if is_run(new):
        return new
    if new.exists() and _holds_other_things(new):
        raise RunDirectoryError(f"--fork {new}: it is not empty and holds no run; choose an empty or a new directory")
    before = stored_inputs(read_run(old), old)
    changed = changed_input(before["inputs"], described["inputs"])
    if changed:
        raise RunDirectoryError(f"--fork: {changed} since the run in {old} began, so none of its records can be used")
    fork_run(old, before, new, described, write_run)
    return new


def _holds_other_things(path: Path) -> bool:
    """Return whether there is more than the leftovers of a crash at the very beginning."""
    return not path.is_dir() or any(
        TEMPORARY not in entry.name and not is_lock(entry.name) and not (entry.name == COPIES and _is_empty(entry))
        for entry in path.iterdir()
    )


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and all(TEMPORARY in entry.name for entry in folder.iterdir())


def _has_begun(path: Path) -> bool:
    """Return whether anything is committed or published."""
    commits = path / "commits"
    return (path / "summary.json").exists() or (commits.is_dir() and any(commits.glob("*.json")))


def _listing(
    path: Path, plan: Plan, options: RunOptions, held: ExitStack, *, of_new_run: bool = True
) -> Listing | None:
    """Let the source read the files that were there when the run in a directory began; None: its settings name all.

    Args:
        path: the run directory.
        plan: the plan.
        options: the options of this attempt.
        held: closed at the end of the attempt: the stage is the caller's, and may be used again.
        of_new_run: whether the files that are there now are listed where no run has begun.
    """
    source = plan.stages[0].stage
    names = source.listing() if isinstance(source, Source) else None
    if names is None or not isinstance(source, Source):
        return None
    listing: Listing | None = None
    if _has_begun(path):
        described, problem = read_run_file(path / "run.json")
        if described is None or problem:
            described, _ = read_run_file(copy_of(path, "run.json"))
        listing = listing_of(path, described)
    if listing is not None:
        listing = extended(listing, source, grown=options.grown)
    elif of_new_run:
        listing = keep_listing(path, names)
    if listing is not None:
        held.callback(source.use_listing, None)
        source.use_listing(listing)
    return listing


def _describe(plan: Plan, options: RunOptions, listing: Listing | None) -> dict[str, Any]:
    source = plan.stages[0].stage
    inputs = source.inputs() if isinstance(source, Source) else ()
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
        "inputs": describe_inputs(inputs, checksums=options.checksums, listed=listing is not None),
        **({} if listing is None else {"listing": listing.described}),
        "origin": options.origin,
    }


def _check_format(directory: Path, before: Mapping[str, Any]) -> None:
    if before["format"] != _FORMAT:
        raise RunDirectoryError(
            f"{directory} was written by curate {before.get('curate')} in format {before['format']}, but curate "
            f"{__version__} reads and writes format {_FORMAT}; use a new --run-dir"
        )


def _compare(
    directory: Path,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    can_grow: Callable[[Path], bool] | None,
) -> None:
    """Refuse a directory whose run has other results than the plan would have."""
    remedy = "use a new --run-dir, or change it back to resume this run"
    _check_format(directory, before)
    if before["fingerprint"] != now["fingerprint"]:
        raise RunDirectoryError(
            f"{directory} holds a run with other settings: {describe_difference(before, now)}; {remedy}, or use "
            "--fork NEW_DIR for a new run that takes over the phases before the change; for the expression of a "
            f"filter, that is curate refilter {directory} 'EXPRESSION'"
        )
    changed = changed_input(before["inputs"], now["inputs"])
    if changed and can_grow is not None:
        check_grown(before["inputs"], now["inputs"], can_grow)
    elif changed:
        raise RunDirectoryError(
            f"{directory}: {changed} since the run began; {remedy}, or use curate run with --grown if it only has more "
            "lines at its end"
        )


def _check_outputs(directory: Path, plan: Plan) -> None:
    """Refuse to publish over an input, over another writer's file, or over the run's own files.

    The plan compares the paths as they are written; here they are resolved, and links are followed.
    """
    own = {os.path.realpath(directory / name) for name in KEPT_BY_THE_RUN}
    owners: dict[str, str] = {}
    for planned in plan.stages:
        if isinstance(planned.stage, Source):
            owners |= {str(path.resolve()): planned.name for path in planned.stage.inputs()}
        for output in planned.stage.outputs() if isinstance(planned.stage, Writer) else ():
            place = output if is_url(output) else os.path.realpath(directory / output)
            if place in own or any(place.startswith(kept + os.sep) for kept in own):
                raise RunDirectoryError(
                    f"stage {planned.name!r} writes {output}, where the run keeps its own files; give it another path"
                )
            if place in owners:
                raise RunDirectoryError(
                    f"stages {owners[place]!r} and {planned.name!r} both have {place}; give the second another path"
                )
            owners[place] = planned.name
        if isinstance(planned.stage, Writer):
            planned.stage.check_place(directory)
