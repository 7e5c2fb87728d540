"""Places in the code where a test may let the process die, or fail, exactly there.

    commit.after_rename:kill        the first time this place is reached
    commit.after_data:kill@3        the third time
    publish.during:enospc           as if the disk were full

A test's own entry point calls `arm` with such a specification, which it gets from `CURATE_FAILPOINT`. Nothing in the
package reads that variable, so that no environment can end a user's run.

Several are separated by commas. The actions are `kill` (SIGKILL to this process), `kill_child` (SIGKILL to one of its
child processes, a worker), `term` (SIGTERM), `enospc`, `eacces` and `erofs` (what the operating system would say).
Where nothing is armed, a place costs the call of a function that looks into an empty dict.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from curate.errors import UsageError

VARIABLE = "CURATE_FAILPOINT"
"""Where the entry points of tests look for what to arm."""

FAILPOINTS: Mapping[str, str] = MappingProxyType(
    {
        "commit.before_write": "a commit unit is full, and none of it is on disk",
        "commit.after_temporary": "a unit file is on disk under its temporary name",
        "commit.after_data": "the unit files have their names, and the commit is not written",
        "commit.after_temporary_commit": "the commit is on disk under its temporary name",
        "commit.after_rename": "the commit has its name: the unit counts",
        "audio.after_temporary": "a worker has written new audio, under its temporary name",
        "audio.after_rename": "new audio has its name, and is not yet durable",
        "audio.before_sync": "records with new audio are finished, and neither durable nor acknowledged",
        "audio.after_sync": "new audio is durable, and its records are not acknowledged",
        "shard.before_sync": "a worker has written a shard, under temporary names, and it is not yet durable",
        "shard.after_rename": "a file of a shard has its name; its description is not written",
        "shard.after_description": "a shard is whole and durable, and no commit names it",
        "phase.before_complete": "all of a phase is committed, and its completion is not noted",
        "publish.before_write": "a writer is about to write a file",
        "publish.during": "a writer has written half of a file",
        "publish.after_temporary": "a file to publish is complete, under its temporary name",
        "publish.after_rename": "a file is published; others may follow",
        "set.before_rename": "a data set is complete, and not in its place",
        "set.after_rename": "a data set is in its place",
        "object.after_upload": "a file of several is behind its URL; others may be, too",
        "summary.before_write": "all files are published, and summary.json is not written",
    }
)
"""Every place that has a name, and what holds there."""


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_child() -> None:
    children = [
        int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()
    ]
    if children:
        os.kill(min(children), signal.SIGKILL)


def _term() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _refuse(number: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


_ACTIONS: Mapping[str, Callable[[], None]] = {
    "kill": _kill,
    "kill_child": _kill_child,
    "term": _term,
    "enospc": _refuse(errno.ENOSPC),
    "eacces": _refuse(errno.EACCES),
    "erofs": _refuse(errno.EROFS),
}

_armed: dict[str, tuple[Callable[[], None], int]] = {}
"""Place → what to do, and how many more times the place is passed until then."""


def failpoint(name: str) -> None:
    """Mark a place; what is armed for it happens here."""
    if _armed:
        _reach(name)


def _reach(name: str) -> None:
    action, left = _armed.get(name, (None, 0))
    if action is None:
        return
    if left > 1:
        _armed[name] = action, left - 1
        return
    del _armed[name]
    action()


def arm(text: str) -> None:
    """Set what is to happen where; an empty text disarms every place.

    Raises:
        UsageError: there is no such place or action.
    """
    armed: dict[str, tuple[Callable[[], None], int]] = {}
    for entry in filter(None, text.split(",")):
        name, _, what = entry.partition(":")
        action, _, count = what.partition("@")
        if name not in FAILPOINTS:
            raise UsageError(f"{VARIABLE}: unknown place {name!r}; the places are {', '.join(FAILPOINTS)}")
        if action not in _ACTIONS or not (count or "1").isdecimal():
            raise UsageError(f"{VARIABLE}: unknown action {what!r}; write one of {', '.join(_ACTIONS)}, or kill@3")
        armed[name] = _ACTIONS[action], int(count or 1)
    _armed.clear()
    _armed.update(armed)
