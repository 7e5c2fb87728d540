"""Reads a run directory: the one way for everything but the driver to look at a run.

    run = RunReader("runs/today")
    run.status                          # RunStatus.FINISHED
    for note in run.failed():           # the lines of quarantine/
        print(note["_id"], note["code"], note["message"])

Nothing is written and nothing is repaired, so a run may be at work in the directory meanwhile.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import attrs

from curate.engine.accounting.counts import RecordCounts
from curate.engine.accounting.reasons import failure_kinds
from curate.engine.durability.commit import Commit
from curate.engine.durability.commit_file import UnitReader, read_notes
from curate.engine.durability.directory_store import current_commits
from curate.engine.durability.lock import Holder, holder_of
from curate.engine.durability.progress_file import STATE
from curate.engine.durability.redo_order import read_orders
from curate.engine.durability.run_differences import RunDifference, run_differences
from curate.engine.durability.run_directory import fingerprints_of, read_run
from curate.engine.durability.stage_outcomes import StageOutcome, stage_outcomes
from curate.engine.protocol.events import EVENTS_FILE
from curate.engine.protocol.options import Retry
from curate.engine.protocol.run_status import RunStatus
from curate.errors import InfrastructureError
from curate.monitoring import Rate
from curate.records import Record
from curate.storage import read_json


@attrs.frozen
class LiveProgress:
    """The progress of the phase that a driver is working on, as it has reported it last.

    Args:
        expected: the number of records that the phase will work on; None: not known yet.
        rate: the work of this attempt.
        age_s: the time since the report, in seconds.
    """

    executor: str
    phase: int
    records_in: int
    kept: int
    filtered: int
    quarantined: int
    expected: int | None
    rate: Rate
    age_s: float


class RunReader:
    """A run directory, to be read.

    The commits and the summary are read once, when they are first asked for; make a new reader to see later ones. The
    status, the driver and the progress are read each time.

    Args:
        run_dir: the run directory.

    Raises:
        RunDirectoryError: there is no run in it, or one of another format.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self.description: Mapping[str, Any] = read_run(self.run_dir)
        """The content of `run.json`: the plan and the inputs, as they were when the run began."""

    # The plan, and where its settings are from.

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.description["name"])

    @property
    def layout(self) -> Sequence[Sequence[str]]:
        """The names of the stages, phase by phase."""
        return cast("Sequence[Sequence[str]]", self.description["layout"])

    def phase_of(self, stage: str) -> int:
        """Return the number of the phase that a stage is in; a fork that changes the stage takes over those before."""
        return next(number for number, stages in enumerate(self.layout) if stage in stages)

    @property
    def settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Stage → its settings, those that were left at their defaults included."""
        return cast("Mapping[str, Mapping[str, Any]]", self.description["settings"])

    @property
    def origin(self) -> Mapping[str, Any]:
        """Where the settings are from: pipeline file, folder, `--set` options, executor; empty for runs from Python."""
        return cast("Mapping[str, Any]", self.description.get("origin") or {})

    def differences(self, other: RunReader) -> Iterator[RunDifference]:
        """Yield the settings and inputs in which another run differs."""
        return run_differences(self.description, other.description)

    # The state.

    @property
    def driver(self) -> Holder | None:
        """The process that holds the directory or held it last; None: none ever has."""
        return holder_of(self.run_dir)

    @property
    def status(self) -> RunStatus:
        """The state of the run."""
        driver, state = self.driver, self._state
        ended = _ended(state)
        if driver is not None and not driver.released and not driver.damaged:
            if state.get("written", 0.0) < driver.since:
                ended = None  # an earlier attempt has written it
            if ended is None:
                return RunStatus.RUNNING if driver.alive else RunStatus.CRASHED
            if driver.alive and driver.pid != os.getpid():  # it is about to leave; an observer of its own sees the end
                return RunStatus.RUNNING
        if ended is RunStatus.INTERRUPTED or ended is RunStatus.FAILED:
            return ended
        is_whole = self.summary is not None and all(map(self.is_complete, range(len(self.layout))))
        return RunStatus.FINISHED if is_whole else RunStatus.UNFINISHED

    @property
    def error(self) -> str:
        """The error that has stopped the last attempt, on one line; "" unless it has failed or was interrupted."""
        return str(self._state.get("error", "")) if self.status in (RunStatus.FAILED, RunStatus.INTERRUPTED) else ""

    @property
    def _state(self) -> Mapping[str, Any]:
        return read_json(self.run_dir / STATE)

    def is_complete(self, phase: int) -> bool:
        """Return whether a phase has worked on all of its input, and no damaged unit of it is processed again."""
        if not (self.run_dir / f"commits/complete-{phase}.json").exists():
            return False
        return all(order.phase != phase for order in read_orders(self.run_dir).values())

    def progress(self) -> LiveProgress | None:
        """Return the progress of the phase at work; None if no driver is at work, or it has not reported yet."""
        state = self._state
        if "since" not in state or self.status != RunStatus.RUNNING:
            return None
        now, since = (Rate(each["elapsed_s"], each["records_in"], each["audio_s"]) for each in (state, state["since"]))
        return LiveProgress(
            **{name: state[name] for name in ("executor", "phase", "records_in", "kept", "filtered", "quarantined")},
            expected=state["expected"],
            rate=now - since,
            age_s=max(0.0, time.time() - state["written"]),
        )

    # The results.

    @cached_property
    def summary(self) -> Mapping[str, Any] | None:
        """The content of `summary.json`; None: the run has not reached its end, or the file is damaged."""
        return read_json(self.run_dir / "summary.json") or None

    @cached_property
    def commits(self) -> Mapping[int, Sequence[Commit]]:
        """Phase → the commits that count.

        Raises:
            InfrastructureError: a commit is damaged or of another run, naming it.
        """
        return current_commits(self.run_dir, self.description["gathers"], fingerprints_of(self.description))

    def counts(self, phase: int) -> RecordCounts:
        """Return the counts of a phase, so far."""
        total = RecordCounts()
        for commit in self.commits.get(phase, ()):
            total.add(commit.books)
        return total

    def stages(self, phase: int) -> list[StageOutcome]:
        """Return the outcome of the records at each stage of a phase, so far."""
        return stage_outcomes(self.layout[phase], self.commits.get(phase, ()))

    def committed_at(self) -> float | None:
        """Return when the last commit was made, in seconds since 1970; None: there is none."""
        found: list[float] = []
        for path in (self.run_dir / "commits").glob("p*.json"):
            with suppress(FileNotFoundError):  # a run at work has superseded it
                found.append(path.stat().st_mtime)
        return max(found, default=None)

    def records(self, *, damaged: list[str] | None = None) -> Iterator[Record]:
        """Yield the kept records of the last phase, with their `_id`, in the order of the input.

        Args:
            damaged: receives a message about every unit file that cannot be read, and the others are read; then the
                records come unit by unit. None: the first such file is an error.

        Raises:
            InfrastructureError: a unit file is damaged or missing.
        """
        commits = tuple(self.commits.get(len(self.layout) - 1, ()))
        if damaged is None:
            return iter(UnitReader(self.run_dir, commits))
        return _each_unit(commits, lambda commit: UnitReader(self.run_dir, (commit,)), damaged)

    def filtered(self, *, damaged: list[str] | None = None) -> Iterator[Record]:
        """Yield the notes about filtered records, phase by phase: the lines of `filtered/` that count.

        A note has `_id`, `stage`, `reason`, `position` (of its root in the phase's input) and the `record`.

        Args:
            damaged: as for `records`.

        Raises:
            InfrastructureError: a unit file is damaged or missing.
        """
        return self._notes("filtered", damaged)

    def failed(self, choice: Retry | None = None, *, damaged: list[str] | None = None) -> Iterator[Record]:
        """Yield the notes about failed records, phase by phase: the lines of `quarantine/` that count.

        A note has `_id`, `stage`, `code`, `message`, `attempts`, `position`, `traceback` and the `record`.

        Args:
            choice: chooses by code and stage; None: all of them.
            damaged: as for `records`.

        Raises:
            InfrastructureError: a unit file is damaged or missing.
        """
        return (note for note in self._notes("quarantine", damaged) if choice is None or choice.chooses(note))

    def failure_kinds(self, choice: Retry | None = None) -> list[dict[str, Any]]:
        """Return the kinds of failure, the most frequent first: `stage`, `code`, `records`, and the last `example`."""
        return failure_kinds(self.failed(choice))

    def failure_counts(self) -> list[tuple[str, str, int]]:
        """Return stage, code and number of failed records, the most frequent first; from the commits alone."""
        counted: dict[tuple[str, str], int] = {}
        for commits in self.commits.values():
            for commit in commits:
                for stage, codes in commit.stage_codes.items():
                    for code, (records, _) in codes.items():
                        counted[stage, code] = counted.get((stage, code), 0) + records
        return [(*kind, records) for kind, records in sorted(counted.items(), key=lambda item: (-item[1], item[0]))]

    def _notes(self, kind: Literal["filtered", "quarantine"], damaged: list[str] | None) -> Iterator[Record]:
        commits = [commit for commits in self.commits.values() for commit in commits]
        if damaged is None:
            return (note for _, note in read_notes(self.run_dir, kind, commits))
        return _each_unit(
            commits, lambda commit: (note for _, note in read_notes(self.run_dir, kind, (commit,))), damaged
        )

    # The metrics.

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Yield the events of all attempts in order; a line that a crash has torn off is passed over."""
        path = self.run_dir / EVENTS_FILE
        if not path.exists():
            return
        with path.open("rb") as file:
            for line in file:
                try:
                    event: Any = json.loads(line)
                except ValueError:
                    continue
                if isinstance(event, dict):
                    yield cast("Mapping[str, Any]", event)

    def attempts(self) -> list[Mapping[str, Any]]:
        """Return the `run_started` events, one for each attempt."""
        return [event for event in self.events() if event.get("event") == "run_started"]


def _ended(state: Mapping[str, Any]) -> RunStatus | None:
    """Return how the attempt that wrote a state has ended; None: it has not, or nothing is known."""
    value = state.get("status")
    return RunStatus(value) if value in (RunStatus.FINISHED, RunStatus.INTERRUPTED, RunStatus.FAILED) else None


def _each_unit(
    commits: Iterable[Commit], read: Callable[[Commit], Iterable[Record]], damaged: list[str]
) -> Iterator[Record]:
    for commit in commits:
        try:
            yield from read(commit)
        except (InfrastructureError, ValueError) as error:
            damaged.append(f"{commit.unit}: {error}")
