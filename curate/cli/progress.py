"""Shows how far a run is: a line that moves on a terminal, nothing elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from curate.engine.events import RunProgress, RunStarted
from curate.plugin import hookimpl

if TYPE_CHECKING:
    from rich.console import Console


class Progress:
    """An observer that keeps one status line up to date."""

    def __init__(self, console: Console) -> None:
        self._status = console.status("starting")
        self._console = console

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    @hookimpl
    def curate_on_run_started(self, event: RunStarted) -> None:
        if event.done:
            self._console.print(f"Going on with the run in {event.run_dir}: {event.done:,} records are done")
        self._status.update(f"{event.name}: starting {', '.join(event.stages)}")

    @hookimpl
    def curate_on_progress(self, event: RunProgress) -> None:
        speed = event.audio_s / event.elapsed_s if event.elapsed_s > 0 else 0.0
        self._status.update(
            f"phase {event.phase} ({', '.join(event.stages)}): {event.records_in:,} records, "
            f"{event.audio_s / 3600:,.2f} h of audio, {speed:,.0f} times real time, "
            f"{event.filtered:,} filtered, {event.quarantined:,} quarantined"
        )
