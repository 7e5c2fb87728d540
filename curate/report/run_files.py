"""A run directory as those see it who only look: nothing is written, nothing repaired, and a live run not disturbed."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import attrs

from curate.engine.run_directory import read_run
from curate.observe import EVENTS_FILE
from curate.records import Record

Fate = Literal["kept", "filtered", "quarantined"]

_FOLDERS: Mapping[Fate, str] = {"kept": "data", "filtered": "filtered", "quarantined": "quarantine"}

_BOOKS = ("records_in", "children", "kept", "filtered", "quarantined", "split")
_BOOKS_MS = ("in_ms", "children_ms", "kept_ms", "filtered_ms", "quarantined_ms", "split_ms")


@attrs.frozen
class State:
    """How far a run has come.

    Args:
        name: `done`, `running`, `interrupted`, `failed`, or `unfinished`: killed, or running elsewhere.
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
        commits: what the commits say, in the order of their numbers, without their ranges.
        events: the lines of the metrics, in order.
        problems: what could not be read, in words.
    """

    directory: Path
    run: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    commits: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    problems: list[str] = attrs.field(factory=list[str])

    @classmethod
    def open(cls, directory: Path) -> RunFiles:
        """Read what a run directory says about itself; the records are read later, one after the other.

        Raises:
            RunDirectoryError: there is no run, or one of another version.
        """
        run = read_run(directory)
        problems: list[str] = []
        commits: list[Mapping[str, Any]] = []
        for path in sorted((directory / "commits").glob("p*-*.json")):
            commit = _read_json(path, problems)
            if commit is not None and "phase" in commit and "books" in commit:
                commits.append({name: value for name, value in commit.items() if name != "ranges"})
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
        if self.summary is not None and self.summary.get("status") == "done":
            return State("done", "The run is done, and its books balance.")
        if self.summary is not None:
            return State("failed", f"The run has ended: {self.summary.get('status')}. {again}")
        last: Mapping[str, Any] = self.events[-1] if self.events else {}
        if last.get("event") == "run_stopped":
            if last.get("interrupted"):
                return State("interrupted", f"The run was interrupted. What was finished is below. {again}")
            return State("failed", f"The run stopped: {last.get('error')}. What was finished is below. {again}")
        machine: Mapping[str, Any] = self.lives[-1].get("machine", {}) if self.lives else {}
        if machine.get("host") == platform.node() and _is_alive(machine.get("pid")):
            return State("running", "The run is still going. This is what was finished when the report was written.")
        return State(
            "unfinished",
            "The run has not reached its end: it was killed, or is going on another machine. "
            f"What was finished is below. {again}",
        )

    @property
    def lives(self) -> list[Mapping[str, Any]]:
        """The `run_started` events, one for each life of the run."""
        return [event for event in self.events if event.get("event") == "run_started"]

    def books(self, phase: int) -> dict[str, int]:
        """Return the counts of a phase, so far."""
        total: dict[str, int] = dict.fromkeys((*_BOOKS, *_BOOKS_MS), 0)
        for commit in self.commits:
            if commit["phase"] == phase:
                for name in total:
                    total[name] += commit["books"].get(name, 0)
        return total

    def records(self, fate: Fate) -> Iterator[Record]:
        """Yield records with their `_id`; of those left out, notes that have the record under `record`.

        Kept are those of the last phase, in the order in which they were committed. A shard that cannot be read is
        noted among the problems.
        """
        last = len(self.layout) - 1
        for commit in self.commits:
            if fate == "kept" and commit["phase"] != last:
                continue
            shard = commit.get("files", {}).get(_FOLDERS[fate])
            if shard is not None:
                yield from self._rows(self.directory / str(shard["path"]))

    def _rows(self, path: Path) -> Iterator[Record]:
        try:
            with path.open("rb") as file:
                for line in file:
                    yield cast("Record", json.loads(line))
        except (OSError, ValueError) as error:
            self.problems.append(f"{path.relative_to(self.directory)} cannot be read to its end: {error}")


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


def _is_alive(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's process, which is alive
        return True
    return True
