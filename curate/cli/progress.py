"""Shows how far a run is, on standard error: a display that moves on a terminal, lines elsewhere.

All of it comes from the events that every executor causes, so it looks the same wherever a run lives.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from curate.engine.protocol.events import RunFinished, RunProgress, RunStarted, RunStopped
from curate.plugin import hookimpl

if TYPE_CHECKING:
    from rich.console import Console

LINE_SECONDS = 30.0
"""Where there is no terminal, lines about the same phase are so far apart."""

_BAR_WIDTH = 24

Say: TypeAlias = "Callable[[str, Mapping[str, Any]], None]"
"""Prints a line: as a text, or the fields that it was made of."""


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

    def left_s(self, event: RunProgress) -> float | None:
        """Return about how long the phase will go on; None if nobody knows."""
        if event.total is None or self.first is None:
            return None
        rate = self._rate(event, event.records_in - self.first.records_in)
        return max(event.total - event.records_in, 0) / rate if rate > 0 else None

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

    @hookimpl
    def curate_on_run_finished(self, event: RunFinished) -> None:
        self._console.print(_over(event), soft_wrap=True)

    def _drawn(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        event = self._event
        if event is None:
            self._spinner.update(text=Text("starting"))
            return self._spinner
        self._spinner.update(text=Text(f"phase {event.phase}: {_heard(event, self._speed)}"))
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(overflow="ellipsis", no_wrap=True)
        table.add_column(no_wrap=True, width=_BAR_WIDTH)
        for _ in ("came", "rate"):
            table.add_column(justify="right", no_wrap=True)
        total = None if event.total is None else max(event.total, *event.came, 1)
        for stage, came, rate in zip(event.stages, event.came, self._speed.rates(event), strict=False):
            bar = ProgressBar(total=total, completed=came, width=_BAR_WIDTH, pulse=total is None)
            table.add_row(f"  {stage}", bar, f"{came:,}", f"{rate:,.1f} records/s")
        return Group(self._spinner, Text(f"  {_around(event, self._speed)}"), table)


class LineProgress:
    """An observer that prints a line when a phase begins and ends, and now and then between.

    Args:
        say: prints a line.
        clock: seconds that never go back.
    """

    def __init__(self, say: Say, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
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
            self._print(_going_on(event), {"event": "run_resumed", "done": event.done})

    @hookimpl
    def curate_on_progress(self, event: RunProgress) -> None:
        if self._speed.note(event):
            self._print(f"phase {event.phase} begins: {', '.join(event.stages)}", self._fields("phase_began", event))
        elif event.ended:
            told = f"phase {event.phase} has ended: {_heard(event, self._speed)}, {_left_out(event)}"
            self._print(told, self._fields("phase_ended", event))
        elif self._clock() - self._printed >= LINE_SECONDS:
            rates = zip(event.stages, self._speed.rates(event), strict=False)
            stages = ", ".join(f"{stage} {rate:,.1f}" for stage, rate in rates)
            so_far = f"phase {event.phase}: {_heard(event, self._speed)}, {_around(event, self._speed)}"
            self._print(f"{so_far}; records/s: {stages}", self._fields("progress", event))

    @hookimpl
    def curate_on_run_stopped(self, event: RunStopped) -> None:
        self._print(f"the run has stopped: {event.error}", {"event": "run_stopped", "error": event.error})

    @hookimpl
    def curate_on_run_finished(self, event: RunFinished) -> None:
        names = ("status", "records_in", "kept", "filtered", "quarantined", "wall_s", "rtfx")
        self._print(_over(event), {"event": "run_finished", **{name: event.summary.get(name) for name in names}})

    def _fields(self, what: str, event: RunProgress) -> dict[str, Any]:
        left_s = self._speed.left_s(event)
        return {
            "event": what,
            "phase": event.phase,
            "records_in": event.records_in,
            "kept": event.kept,
            "filtered": event.filtered,
            "quarantined": event.quarantined,
            "audio_hours": round(event.audio_s / 3600, 6),
            "rtfx": round(self._speed.rtfx(event), 3),
            "total": event.total,
            "left_s": None if left_s is None else round(left_s, 1),
            "workers": list(event.workers),
            "came": dict(zip(event.stages, event.came, strict=False)),
        }

    def _print(self, line: str, fields: Mapping[str, Any]) -> None:
        self._printed = self._clock()
        self._say(line, fields)


def progress_on(console: Console, *, as_json: bool = False) -> LiveProgress | LineProgress:
    """Return what suits the console; with `as_json`, lines of JSON, whatever it is."""

    def say(line: str, fields: Mapping[str, Any]) -> None:
        if as_json:
            told = {"time": round(time.time(), 3), "level": "INFO", "message": line, **fields}
            console.file.write(json.dumps(told) + "\n")
        else:
            console.print(line, soft_wrap=True)

    return LiveProgress(console) if console.is_terminal and not as_json else LineProgress(say)


def _going_on(event: RunStarted) -> str:
    return f"going on with the run in {event.run_dir}: {event.done:,} records are done"


def _over(event: RunFinished) -> str:
    summary = event.summary
    return (
        f"the run is {summary.get('status', 'over')}, after {summary.get('wall_s', 0.0):,.1f} s: "
        f"{summary.get('records_in', 0):,} records in, {summary.get('kept', 0):,} kept, "
        f"{summary.get('filtered', 0):,} filtered, {summary.get('quarantined', 0):,} quarantined"
    )


def _heard(event: RunProgress, speed: _Speed) -> str:
    hours = event.audio_s / 3600
    of_all = "" if event.total is None or event.ended else f" of {event.total:,}"
    return f"{event.records_in:,}{of_all} records, {hours:,.2f} h of audio, {speed.rtfx(event):,.1f} times real time"


def _around(event: RunProgress, speed: _Speed) -> str:
    """Return what is said beside how much was heard: losses, workers, and how long it will take."""
    told = [_left_out(event)]
    if event.workers:
        alive = sum(event.workers)
        told.append(f"{alive} worker{'s' if alive != 1 else ''}")
    left_s = speed.left_s(event)
    if left_s is not None:
        told.append(f"about {_long(left_s)} left")
    return ", ".join(told)


def _left_out(event: RunProgress) -> str:
    return f"{event.filtered:,} filtered, {event.quarantined:,} quarantined"


def _long(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"
