"""A run directory as those see it who only look: nothing is written, nothing repaired, and a live run not disturbed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import attrs

from curate.engine.accounting.counts import RecordCounts
from curate.engine.durability.commit import Commit
from curate.engine.durability.directory_store import current_commits
from curate.engine.durability.lock import holder_of
from curate.engine.durability.run_directory import read_run
from curate.engine.durability.unit_files import UnitReader, read_notes
from curate.errors import InfrastructureError
from curate.observe import EVENTS_FILE
from curate.records import Record

Fate = Literal["kept", "filtered", "quarantined"]

_FOLDERS: Mapping[Fate, str] = {"filtered": "filtered", "quarantined": "quarantine"}


@attrs.frozen
class State:
    """How far a run has come.

    Args:
        name: `done`, `running`, `interrupted`, `failed`, or `unfinished`: killed.
        sentence: the same for a person, with what to do.
    """

    name: Literal["done", "running", "interrupted", "failed", "unfinished"]
    sentence: str


@attrs.define
class RunFiles:
    """What lies in a run directory.

    Args:
        run: what `run.json` says.
        summary: what `summary.json` says; None: the run has not reached its end.
        commits: phase → the commits that count, without what a retry has replaced.
        events: the lines of the metrics, in order.
        problems: what could not be read, in words.
    """

    directory: Path
    run: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    commits: Mapping[int, Sequence[Commit]]
    events: Sequence[Mapping[str, Any]]
    problems: list[str] = attrs.field(factory=list[str])

    @classmethod
    def open(cls, directory: Path) -> RunFiles:
        """Read what a run directory says about itself; the records are read later, one after the other.

        Raises:
            RunDirectoryError: there is no run, or one of another version.
            InfrastructureError: a commit is damaged, naming it.
        """
        run = read_run(directory)
        problems: list[str] = []
        commits = current_commits(directory, run["gathers"])
        settled = directory / "summary.json"
        summary = _read_json(settled, problems) if settled.exists() else None
        return cls(directory, run, summary, commits, list(_events(directory / EVENTS_FILE)), problems)

    @property
    def layout(self) -> Sequence[Sequence[str]]:
        """The stages of each phase."""
        return cast("Sequence[Sequence[str]]", self.run["layout"])

    @property
    def settings(self) -> Mapping[str, Mapping[str, Any]]:
        """Stage → its settings."""
        return cast("Mapping[str, Mapping[str, Any]]", self.run["settings"])

    @property
    def state(self) -> State:
        """How far the run has come, as far as its files tell."""
        again = "The same command goes on with it."
        holder = holder_of(self.directory)
        if holder is not None and holder.alive and holder.pid != os.getpid():
            told = "This is what was finished when the report was written."
            return State("running", f"The run is still going ({holder.described()}). {told}")
        last: Mapping[str, Any] = self.events[-1] if self.events else {}
        if last.get("event") == "run_stopped":
            if last.get("interrupted"):
                return State("interrupted", f"The run was interrupted. What was finished is below. {again}")
            return State("failed", f"The run stopped: {last.get('error')}. What was finished is below. {again}")
        if self.summary is not None and last.get("event") in (None, "run_finished"):
            return State("done", "The run is done, and its books balance.")
        return State(
            "unfinished",
            "The run has not reached its end, and nobody is at work on it: it was killed. "
            f"What was finished is below. {again}",
        )

    @property
    def lives(self) -> list[Mapping[str, Any]]:
        """The `run_started` events, one for each life of the run."""
        return [event for event in self.events if event.get("event") == "run_started"]

    def books(self, phase: int) -> RecordCounts:
        """Return the counts of a phase, so far."""
        total = RecordCounts()
        for commit in self.commits.get(phase, ()):
            total.add(commit.books)
        return total

    def records(self, fate: Fate) -> Iterator[Record]:
        """Yield records with their `_id`; of those left out, notes that have the record under `record`.

        Kept are those of the last phase, unit after unit. A shard that cannot be read is noted among the problems.
        """
        last = len(self.layout) - 1
        for phase, commits in self.commits.items():
            for commit in commits if phase == last or fate != "kept" else ():
                try:
                    if fate == "kept":
                        yield from UnitReader(self.directory, (commit,))
                    else:
                        yield from (note for _, note in read_notes(self.directory, _FOLDERS[fate], (commit,)))
                except (InfrastructureError, ValueError) as error:
                    self.problems.append(f"{commit.unit}: {error}")


def _events(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the lines of the metrics; one that a crash has torn off is passed over."""
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


def _read_json(path: Path, problems: list[str]) -> Mapping[str, Any] | None:
    try:
        value: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        problems.append(f"{path.parent.name}/{path.name} cannot be read: {error}")
        return None
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else None
