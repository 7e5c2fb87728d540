"""What a command uses, with all its descendants: wall time, CPU time, peak memory; and its end by SIGKILL.

The calling process becomes the reaper of orphaned descendants, so that daemons which a command starts (Ray's, for
instance) are seen, counted and ended too. CPU time is the kernel's own sum, collected when each process is reaped, so
that processes too short for a sample count as well. A process whose parent ignores its end, as Ray's raylet may, is in
no such sum; so the sum of all last samples counts where it is larger. Memory is the sum of the proportional set sizes
of the whole tree, sampled: `ru_maxrss` is inherited over `exec`, and the sum of resident set sizes counts shared pages
repeatedly.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.1
"""Time between two samples of the memory of the tree."""

GRACE_S = 15.0
"""How long descendants may run on after the command itself has ended; Ray's daemons take some seconds."""

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Usage:
    """What a command used. `cpu_s` covers every descendant; `returncode` is negative after a signal."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    returncode: int
    killed: bool
    processes: int


def run(
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str],
    timeout_s: float = 600,
    kill_when: Callable[[], bool] = lambda: False,
) -> Usage:
    """Run a command and measure it; with `kill_when`, SIGKILL all its processes when that becomes true.

    Args:
        command: the command; it gets a session of its own.
        log: the file for its output and errors.
        env: its whole environment.
        timeout_s: SIGKILL it after this time, as a hang.
        kill_when: called at every sample.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    began = time.monotonic()
    with log.open("ab") as output:
        root = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True
        )
    wall_s, cpu_s, peak_kb, returncode, killed = 0.0, 0.0, 0, 0, False
    sampled_s: dict[int, float] = {}
    ended: float | None = None  # when the command itself ended
    try:
        while True:
            try:
                while (found := os.wait4(-1, os.WNOHANG))[0]:
                    pid, status, used = found
                    cpu_s += used.ru_utime + used.ru_stime
                    if pid == root.pid:
                        ended = time.monotonic()
                        wall_s = ended - began
                        returncode = root.returncode = os.waitstatus_to_exitcode(status)
            except ChildProcessError:
                break
            times_s = descendants()
            tree = set(times_s)
            sampled_s |= times_s
            peak_kb = max(peak_kb, sum(map(proportional_kb, tree)))
            now = time.monotonic()
            if killed or now - began > timeout_s or (ended is not None and now - ended > GRACE_S):
                kill(tree)
            elif kill_when():
                killed = True
                kill(tree)
            time.sleep(SAMPLE_S)
    except BaseException:  # an interrupt leaves nothing running
        kill(set(descendants()))
        raise
    return Usage(wall_s, max(cpu_s, sum(sampled_s.values())), peak_kb / 1024, returncode, killed, len(sampled_s))


def descendants() -> dict[int, float]:
    """The processes below this one, and the CPU seconds that each has used by itself."""
    parents: dict[int, int] = {}
    times_s: dict[int, float] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = Path(entry.path, "stat").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            fields = stat.rpartition(")")[2].split()  # from the third on
            parents[int(entry.name)] = int(fields[1])
            times_s[int(entry.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    tree: set[int] = set()
    level = {os.getpid()}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        tree |= level
    return {pid: times_s[pid] for pid in tree}


def proportional_kb(pid: int) -> int:
    """The proportional set size of a process, 0 when it has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return int(rollup.partition("\nPss:")[2].split()[0]) if "\nPss:" in rollup else 0


def kill(pids: set[int]) -> None:
    """SIGKILL processes, as a power cut does; those that have ended meanwhile are left out."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
