"""How a run is stopped from outside: in order, with what is finished kept, and told how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from curate.engine.events import RunStarted
from curate.errors import InfrastructureError
from curate.plugin import hookimpl


class Terminated(KeyboardInterrupt):
    """SIGTERM came. It stops a run as Ctrl-C does: what is finished is committed."""


class GoingOn:
    """An observer that knows where the run lies, for the advice how to go on with it."""

    def __init__(self) -> None:
        self._run_dir: Path | None = None

    @hookimpl
    def curate_on_run_started(self, event: RunStarted) -> None:
        self._run_dir = event.run_dir

    @contextmanager
    def advised(self) -> Generator[None]:
        """Add the advice to the errors after which the run can go on."""
        try:
            yield
        except (KeyboardInterrupt, InfrastructureError) as error:
            if self._run_dir is not None:
                error.add_note(f"The same command goes on with this run: what is finished is kept in {self._run_dir}")
            raise


@contextmanager
def orderly_termination() -> Generator[None]:
    """Turn the first SIGTERM into `Terminated`; more of them do not disturb the commit that follows."""
    if threading.current_thread() is not threading.main_thread():  # no other may set handlers
        yield
        return

    def terminate(*_: int | FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
