"""The command that runs the pipeline of a run with another filter expression, and the run that a button starts."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

from curate.cli.refilter import free_directory
from curate.engine import RunReader
from curate.expressions import Expression
from curate_explorer.selection import SelectionError

_TAIL_CHARACTERS: Final = 4_000


class Refilter:
    """Forks a run with another expression of one of its filters.

    Args:
        run: the run; None: a manifest is explored, and there is nothing to fork.
        filters: the names of its filters.
    """

    def __init__(self, run: RunReader | None, filters: Sequence[str]) -> None:
        self._run = run
        self._filters = tuple(filters)
        self._process: subprocess.Popen[str] | None = None
        self._target = ""
        self._output: list[str] = []
        self._reader: threading.Thread | None = None

    def command(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Return the command to paste, `command`; None where there is none."""
        found = self._arguments(wanted)
        return {"command": None if found is None else shlex.join(["curate", *found])}

    def _arguments(self, wanted: Mapping[str, Any]) -> list[str] | None:
        run, name = self._run, str(wanted.get("filter") or "")
        if run is None or name not in self._filters or not run.origin.get("file"):
            return None
        expression = str(wanted.get("expression") or "")
        run_dir = run.run_dir.absolute()
        # `--` is for an expression that begins with a minus sign.
        return ["refilter", "--fork", str(free_directory(run_dir)), "--stage", name, "--", str(run_dir), expression]

    def start(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Start the fork.

        Raises:
            SelectionError: there is nothing to fork, or a fork is still at work.
            PlanError: the expression is not valid.
        """
        Expression(str(wanted.get("expression") or ""))
        arguments = self._arguments(wanted)
        if self._run is None or arguments is None:
            raise SelectionError("this run is not from a pipeline file; run it again in Python with fork=…")
        if self._process is not None and self._process.poll() is None:
            raise SelectionError("a fork is still at work")
        self._target, self._output = arguments[arguments.index("--fork") + 1], []
        process = subprocess.Popen(
            [sys.executable, "-m", "curate.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._process = process
        self._reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._reader.start()
        return self.state()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._output = [*self._output, line][-200:]
        process.wait()

    def state(self) -> dict[str, Any]:
        """Return how the fork stands: `running`, its exit code (`status`), the end of its output, its run directory."""
        process = self._process
        running = process is not None and self._reader is not None and self._reader.is_alive()
        return {
            "running": running,
            "status": None if process is None or running else process.returncode,
            "output": "".join(self._output)[-_TAIL_CHARACTERS:],
            "run_dir": self._target,
        }

    def close(self) -> None:
        """Stop a fork that is still at work; the same command resumes it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
