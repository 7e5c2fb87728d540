"""Shows the progress of a run on standard error: a live display on a terminal, lines elsewhere.

It is made from events that do not depend on the executor, so it looks the same wherever the workers are.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from curate.cli.interruption import STOPPING
from curate.durations import duration_text
from curate.engine import RunFinished, RunProgress, RunStarted, RunStopped, StopRequest
from curate.monitoring import Rate
from curate.plugin import hookimpl
from curate.plural import counted

if TYPE_CHECKING:
    from rich.console import Console

LINE_SECONDS = 30.0
"""The interval between two lines about the same phase, where there is no terminal."""

HEARTBEAT_SECONDS = 60.0
"""After this time without a line, there is one all the same, so that a batch that runs for long is not taken for a
hang."""

_BAR_WIDTH = 24

Say: TypeAlias = "Callable[[str, Mapping[str, Any]], None]"
"""Prints a line: as a string, or the fields that it was made of."""


class _PhaseClock:
    """The rate of a phase in this attempt: what earlier attempts have finished took no time of it."""

    def __init__(self) -> None:
        self._first: RunProgress | None = None

    def begins(self, event: RunProgress) -> bool:
        """Record an event; return whether it is the first of its phase."""
        if self._first is not None and self._first.phase == event.phase:
            return False
        self._first = event
        return True

    def rate(self, event: RunProgress) -> Rate:
        """Return the rate since the phase's first event, or since its workers were set up."""
        return Rate() if self._first is None else _reached(event) - _reached(self._first)

    def stage_rates(self, event: RunProgress) -> list[float]:
        """Return the records per second of each stage."""
        before = () if self._first is None else self._first.came
        rate = self.rate(event)
        return [rate.per_s(came - earlier) for came, earlier in zip(event.came, before, strict=False)]

    def left_s(self, event: RunProgress) -> float | None:
        """Return the estimated time until the phase ends; None: the total or the speed is not known."""
        return self.rate(event).left_s(event.total, event.records_in)


def _reached(event: RunProgress) -> Rate:
    return Rate(event.elapsed_s - (event.ready_s or 0.0), event.records_in, event.audio_s)


def _setting_up(event: RunProgress, models: Collection[str]) -> str:
    """Return that the workers of the phase are set up, and which of its stages load a model; empty afterwards."""
    if event.ended or event.ready_s is not None or not event.workers:
        return ""
    return _loading(event, models) or "setting up workers"


def _loading(event: RunProgress, models: Collection[str]) -> str:
    """Return for which stages of a phase models are loaded; empty where it has none."""
    names = [stage for stage in event.stages if stage in models]
    return f"loading the model{'s' if len(names) > 1 else ''} of {', '.join(names)}" if names else ""


class LiveProgress:
    """An observer that draws the progress several times a second, from the last event.

    Args:
        console: the terminal.
        stop: the request to stop the run.
        models: the stages that load a model, which is shown until the first worker of their phase is set up.
    """

    def __init__(self, console: Console, stop: StopRequest | None = None, models: Collection[str] = ()) -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        self._console = console
        self._stop = stop
        self._models = models
        self._spinner = Spinner("dots")
        self._phase = _PhaseClock()
        self._event: RunProgress | None = None
        self._live = Live(console=console, get_renderable=self._drawn, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._is_stopping():  # the display is erased, and the answer to Ctrl-C stays
            self._console.print(STOPPING, soft_wrap=True)

    def _is_stopping(self) -> bool:
        return self._stop is not None and self._stop.asked

    @hookimpl
    def curate_on_run_started(self, event: RunStarted) -> None:
        if event.done:
            self._console.print(_resumed(event), soft_wrap=True)

    @hookimpl
    def curate_on_progress(self, event: RunProgress) -> None:
        self._phase.begins(event)
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
        stopping = [Text(STOPPING)] if self._is_stopping() else []
        if event is None:
            self._spinner.update(text=Text("starting"))
            return Group(*stopping, self._spinner)
        doing = _setting_up(event, self._models) or _worked(event, self._phase)
        self._spinner.update(text=Text(f"phase {event.phase}: {doing}"))
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(overflow="ellipsis", no_wrap=True)
        table.add_column(no_wrap=True, width=_BAR_WIDTH)
        for _ in ("came", "rate"):
            table.add_column(justify="right", no_wrap=True)
        total = None if event.total is None else max(event.total, *event.came, 1)
        for stage, came, rate in zip(event.stages, event.came, self._phase.stage_rates(event), strict=False):
            bar = ProgressBar(total=total, completed=came, width=_BAR_WIDTH, pulse=total is None)
            table.add_row(f"  {stage}", bar, f"{came:,}", f"{rate:,.1f} records/s")
        return Group(*stopping, self._spinner, Text(f"  {_around(event, self._phase)}"), table)


class LineProgress:
    """An observer that prints a line when a phase begins and ends, and now and then in between.

    Between its `__enter__` and `__exit__`, a thread prints a heartbeat where no event comes for long: the driver waits
    for a batch then, or (with the executor `local`) works on it.

    Args:
        say: prints a line.
        clock: seconds that never go back.
        heartbeat_s: the time without a line after which there is a heartbeat.
        models: the stages that load a model, which the line at the beginning of their phase says.
    """

    def __init__(
        self,
        say: Say,
        clock: Callable[[], float] = time.monotonic,
        heartbeat_s: float = HEARTBEAT_SECONDS,
        models: Collection[str] = (),
    ) -> None:
        self._say = say
        self._models = models
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._phase = _PhaseClock()
        self._printed = clock()
        self._event: RunProgress | None = None
        self._changed = self._began = self._printed
        self._printing = threading.Lock()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beating, name="curate heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._heart.join()

    def _beating(self) -> None:
        while not self._ended.wait(self._heartbeat_s / 4):
            self.beat()

    def beat(self) -> None:
        """Print a heartbeat, if there was no line for long and a phase is at work."""
        now, event = self._clock(), self._event
        if event is None or event.ended or now - self._printed < self._heartbeat_s:
            return
        is_narrow = 0 < 2 * len(event.at_work) <= len(event.stages)
        where = f" at {', '.join(event.at_work)}" if is_narrow else ""
        name = f"phase {event.phase} ({', '.join(event.stages)})"
        at_work = f"at work{where} for {duration_text(round(now - self._began))}"
        if doing := _setting_up(event, self._models):
            line = f"{name}: {at_work}; {doing}"
        else:
            known = event.total is not None
            done = f"{event.records_in:,} of {counted(event.total or 0)}" if known else counted(event.records_in)
            line = f"{name}: {at_work}; {done} done, no new result for {duration_text(round(now - self._changed))}"
        self._print(line, {**self._fields("heartbeat", event), "at_work_s": round(now - self._began, 1)})

    @hookimpl
    def curate_on_run_started(self, event: RunStarted) -> None:
        if event.done:
            self._print(_resumed(event), {"event": "run_resumed", "done": event.done})

    @hookimpl
    def curate_on_progress(self, event: RunProgress) -> None:
        before, self._event, now = self._event, event, self._clock()
        has_results = before is None or (before.phase, before.came) != (event.phase, event.came)
        if has_results:
            self._changed = now
        if self._phase.begins(event):
            self._began = now
            loading = _loading(event, self._models)
            line = f"phase {event.phase} begins: {', '.join(event.stages)}{'; ' if loading else ''}{loading}"
            self._print(line, self._fields("phase_began", event))
        elif event.ended:
            line = f"phase {event.phase} has ended: {_worked(event, self._phase)}, {_left_out(event)}"
            self._print(line, self._fields("phase_ended", event))
        elif has_results and now - self._printed >= LINE_SECONDS:
            rates = zip(event.stages, self._phase.stage_rates(event), strict=False)
            stages = ", ".join(f"{stage} {rate:,.1f}" for stage, rate in rates)
            so_far = f"phase {event.phase}: {_worked(event, self._phase)}, {_around(event, self._phase)}"
            self._print(f"{so_far}; records/s: {stages}", self._fields("progress", event))

    @hookimpl
    def curate_on_run_stopped(self, event: RunStopped) -> None:
        self._print(f"the run stopped: {event.error}", {"event": "run_stopped", "error": event.error})

    @hookimpl
    def curate_on_run_finished(self, event: RunFinished) -> None:
        names = ("status", "records_in", "kept", "filtered", "quarantined", "wall_s", "rtfx")
        self._print(_over(event), {"event": "run_finished", **{name: event.summary.get(name) for name in names}})

    def _fields(self, what: str, event: RunProgress) -> dict[str, Any]:
        left_s = self._phase.left_s(event)
        return {
            "event": what,
            "phase": event.phase,
            "records_in": event.records_in,
            "kept": event.kept,
            "filtered": event.filtered,
            "quarantined": event.quarantined,
            "audio_hours": round(event.audio_s / 3600, 6),
            "rtfx": round(self._phase.rate(event).rtfx, 3),
            "total": event.total,
            "left_s": None if left_s is None else round(left_s, 1),
            "workers": list(event.workers),
            "came": dict(zip(event.stages, event.came, strict=False)),
            "at_work": list(event.at_work),
        }

    def _print(self, line: str, fields: Mapping[str, Any]) -> None:
        with self._printing:
            self._printed = self._clock()
            self._say(line, fields)


def progress_on(
    console: Console, *, as_json: bool = False, stop: StopRequest | None = None, models: Collection[str] = ()
) -> LiveProgress | LineProgress:
    """Return the live display on a terminal, lines elsewhere; with `as_json`, lines of JSON.

    Args:
        stop: the request to stop the run, which the live display shows.
        models: the stages that load a model.
    """

    def say(line: str, fields: Mapping[str, Any]) -> None:
        if as_json:
            entry = {"time": round(time.time(), 3), "level": "INFO", "message": line, **fields}
            console.file.write(json.dumps(entry) + "\n")
        else:
            console.print(line, soft_wrap=True)

    if console.is_terminal and not as_json:
        return LiveProgress(console, stop, models)
    return LineProgress(say, models=models)


def _resumed(event: RunStarted) -> str:
    verb = "is" if event.done == 1 else "are"
    return f"resuming the run in {event.run_dir}: {counted(event.done)} {verb} finished"


def _over(event: RunFinished) -> str:
    summary = event.summary
    return (
        f"the run is {summary.get('status', 'over')}, after {summary.get('wall_s', 0.0):,.1f} s: "
        f"{counted(summary.get('records_in', 0))} in, {summary.get('kept', 0):,} kept, "
        f"{summary.get('filtered', 0):,} filtered, {summary.get('quarantined', 0):,} quarantined"
    )


def _worked(event: RunProgress, phase: _PhaseClock) -> str:
    hours = event.audio_s / 3600
    known = event.total is not None and not event.ended
    records = f"{event.records_in:,} of {counted(event.total or 0)}" if known else counted(event.records_in)
    return f"{records}, {hours:,.2f} h of audio, {phase.rate(event).rtfx:,.1f} times real time"


def _around(event: RunProgress, phase: _PhaseClock) -> str:
    """Return the losses, the number of workers, and the estimated time left."""
    parts = [_left_out(event)]
    if any(event.workers):
        alive = sum(event.workers)
        parts.append(counted(alive, "worker"))
    left_s = phase.left_s(event)
    if left_s is not None:
        parts.append(f"about {duration_text(round(left_s))} left")
    return ", ".join(parts)


def _left_out(event: RunProgress) -> str:
    return f"{event.filtered:,} filtered, {event.quarantined:,} quarantined"
