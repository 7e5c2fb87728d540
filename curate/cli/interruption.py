"""Stops a run from outside: in order, keeping the finished records, with a hint how to resume.

    Ctrl-C          what is in flight has `FINISH_S` to be finished and committed, then the run ends (exit code 130)
    Ctrl-C again    only what is finished is committed
    SIGTERM         the same, immediately: a node is about to go away (exit code 143)
    any further     leaves on the spot; what is committed is safe whatever happens

After SIGTERM the process is gone in `GRACE_S` seconds, even when a stage does not let go.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from curate.engine import Interrupted, RunStarted, StopRequest
from curate.errors import EXIT_INTERRUPTED, EXIT_TERMINATED, InfrastructureError
from curate.plugin import hookimpl

GRACE_S = 25.0
"""Kubernetes and Slurm kill 30 seconds after SIGTERM, unless they are configured otherwise."""


FINISH_S = 3.0
"""After Ctrl-C, micro-batches and records in work may be finished until then; a window of thousands is not."""

STOPPING = "finishing the records in flight; Ctrl-C again: keep the finished ones and stop now"


class Terminated(Interrupted):
    """SIGTERM was received. It stops a run as a second Ctrl-C does: finished records are committed."""


class ResumeHint:
    """An observer that knows the run directory, for the hint how to resume the run."""

    def __init__(self) -> None:
        self._run_dir: Path | None = None

    @hookimpl
    def curate_on_run_started(self, event: RunStarted) -> None:
        self._run_dir = event.run_dir

    @contextmanager
    def advised(self) -> Generator[None]:
        """Add the hint to errors after which the run can be resumed."""
        try:
            yield
        except (KeyboardInterrupt, InfrastructureError) as error:
            if self._run_dir is not None:
                error.add_note(f"Run the same command again to resume: finished records are kept in {self._run_dir}")
            raise


class _Signals:
    """The signals received so far. Their handlers run in the main thread, which may be busy; the watch has its own.

    Args:
        stop: asks the run to finish what is in flight.
        shown: whether a live display says that the run is stopping; it must not be written into.
    """

    def __init__(self, stop: StopRequest, *, shown: bool) -> None:
        self._stop = stop
        self._shown = shown
        self._overdue = False
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._interrupts = 0
        self._watch = threading.Thread(target=self._watched, name="curate signals", daemon=True)

    def handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGTERM:
            raise Terminated("terminated")
        self._interrupts += 1
        if self._interrupts > 1:
            raise Interrupted
        self._stop()
        if not self._shown:
            _say(STOPPING)

    @contextmanager
    def received(self) -> Generator[None]:
        before = {number: signal.signal(number, self.handle) for number in (signal.SIGINT, signal.SIGTERM)}
        woken = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._watch.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._write.close()  # ends the watch
            self._watch.join()
            self._read.close()

    def _watched(self) -> None:
        """End the process when one signal too many comes, or when the grace period is over."""
        interrupts, terminated, own = 0, False, 0
        while True:
            waits_s = GRACE_S if terminated else FINISH_S if interrupts == 1 and not self._overdue else None
            ready, _, _ = select.select([self._read], [], [], waits_s)
            numbers = self._read.recv(16) if ready else b""
            if ready and not numbers:
                return
            if not ready and not terminated:  # the main thread gets the second Ctrl-C, which the user did not send
                self._overdue = True
                own += 1  # it is not counted, and comes behind whatever the user has sent by then
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                continue
            if not ready:
                _say(f"a stage has not returned for {GRACE_S:.0f} s; committed records are kept")
                os._exit(EXIT_TERMINATED)
            for number in numbers:
                if own and number == signal.SIGINT:
                    own -= 1
                    continue
                if number in (signal.SIGINT, signal.SIGTERM) and (terminated or interrupts > 1):
                    os._exit(EXIT_TERMINATED if terminated else EXIT_INTERRUPTED)
                interrupts += number == signal.SIGINT
                terminated |= number == signal.SIGTERM


@contextmanager
def orderly_stop(stop: StopRequest, *, shown: bool = False) -> Generator[None]:
    """Let signals stop a run in order; outside the main thread, which alone may set handlers, it does nothing.

    Args:
        stop: asks the run to finish what is in flight.
        shown: whether a live display says that the run is stopping.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _Signals(stop, shown=shown).received():
        yield


def _say(text: str) -> None:
    try:
        terminal = sys.stderr.fileno()  # not always 2, see `decoder_notes`
    except (AttributeError, OSError, ValueError):
        terminal = 2
    os.write(terminal, f"\n{text}\n".encode())  # a handler may interrupt a print
