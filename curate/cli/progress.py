"""Shows how far a run is, on standard error: a display that moves on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from curate.engine.events import RunFinished, RunProgress, RunStarted
from curate.plugin import hookimpl

if TYPE_CHECKING:
    from rich.console import Console

LINE_SECONDS = 30.0
"""Where there is no terminal, lines about the same phase are so far apart."""


class _Speed:
    """How fast a phase goes in this life of the run: what earlier lives have done took no time of it."""

    def __init__(self) -> None:
        self.first: RunProgress | None = None

    def note(self, event: RunProgress) -> bool:
        """Take an event in; return whether it is the first of its phase."""
        if self.first is not None and self.first.phase == event.phase:
            return False
        self.first = event
        return True

    def rtfx(self, event: RunProgress) -> float:
        """Return seconds of audio for each second."""
        return 0.0 if self.first is None else self._rate(event, event.audio_s - self.first.audio_s)

    def rates(self, event: RunProgress) -> list[float]:
        """Return, for each stage, records for each second."""
        before = self.first.came if self.first is not None else ()
        return [self._rate(event, came - earlier) for came, earlier in zip(event.came, before, strict=False)]

    def _rate(self, event: RunProgress, amount: float) -> float:
        elapsed_s = event.elapsed_s - (0.0 if self.first is None else self.first.elapsed_s)
        return amount / elapsed_s if elapsed_s > 0 else 0.0


class LiveProgress:
    """An observer that draws where the run is, several times a second; what it is told it merely notes."""

    def __init__(self, console: Console) -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        self._console = console
        self._spinner = Spinner("dots")
        self._speed = _Speed()
        self._event: RunProgress | None = None
        self._live = Live(console=console, get_renderable=self._drawn, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @hookimpl
    def curate_on_run_started(self, event: RunStarted) -> None:
        if event.done:
            self._console.print(_going_on(event), soft_wrap=True)

    @hookimpl
    def curate_on_progress(self, event: RunProgress) -> None:
        self._speed.note(event)
        self._event = event

    def _drawn(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        event = self._event
        if event is None:
            self._spinner.update(text=Text("starting"))
            return self._spinner
        self._spinner.update(text=Text(f"phase {event.phase}: {_heard(event, self._speed)}"))
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(overflow="ellipsis", no_wrap=True)
        for _ in ("came", "rate"):
            table.add_column(justify="right", no_wrap=True)
        for stage, came, rate in zip(event.stages, event.came, self._speed.rates(event), strict=False):
            table.add_row(f"  {stage}", f"{came:,}", f"{rate:,.1f} records/s")
        return Group(self._spinner, Text(f"  {_left_out(event)}"), table)


class LineProgress:
    """An observer that prints a line when a phase begins and ends, and now and then between.

    Args:
        console: where to print.
        clock: seconds that never go back.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._speed = _Speed()
        self._printed = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @hookimpl
    def curate_on_run_started(self, event: RunStarted) -> None:
        if event.done:
            self._print(_going_on(event))

    @hookimpl
    def curate_on_progress(self, event: RunProgress) -> None:
        if self._speed.note(event):
            self._print(f"phase {event.phase} begins: {', '.join(event.stages)}")
        elif event.ended:
            self._print(f"phase {event.phase} has ended: {_heard(event, self._speed)}, {_left_out(event)}")
        elif self._clock() - self._printed >= LINE_SECONDS:
            rates = zip(event.stages, self._speed.rates(event), strict=False)
            stages = ", ".join(f"{stage} {rate:,.1f}" for stage, rate in rates)
            so_far = f"phase {event.phase}: {_heard(event, self._speed)}, {_left_out(event)}"
            self._print(f"{so_far}; records/s: {stages}")

    @hookimpl
    def curate_on_run_finished(self, event: RunFinished) -> None:
        wall_s = event.summary.get("wall_s", 0.0)
        self._print(f"the run is {event.summary.get('status', 'over')}, after {wall_s:,.1f} s")

    def _print(self, line: str) -> None:
        self._printed = self._clock()
        self._console.print(line, soft_wrap=True)


def progress_on(console: Console) -> LiveProgress | LineProgress:
    """Return what suits the console."""
    return LiveProgress(console) if console.is_terminal else LineProgress(console)


def _going_on(event: RunStarted) -> str:
    return f"going on with the run in {event.run_dir}: {event.done:,} records are done"


def _heard(event: RunProgress, speed: _Speed) -> str:
    hours = event.audio_s / 3600
    return f"{event.records_in:,} records, {hours:,.2f} h of audio, {speed.rtfx(event):,.1f} times real time"


def _left_out(event: RunProgress) -> str:
    return f"{event.filtered:,} filtered, {event.quarantined:,} quarantined"
