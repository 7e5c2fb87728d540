"""What happens in a run, said to the log: a line for each event that a person may want to find later."""

from __future__ import annotations

from loguru import logger

from curate.engine.protocol.events import RecordQuarantined, RunFinished, RunStarted, RunStopped, UnitCommitted
from curate.plugin import hookimpl


class RunLog:
    """An observer that logs: at INFO what happens to the run, at DEBUG each unit and each record that failed.

    The fields stand beside the message as well, for `--log-format json`.
    """

    @hookimpl
    def curate_on_run_started(self, event: RunStarted) -> None:
        logger.bind(run=event.name, executor=event.executor, done=event.done).info(
            "run {} begins on {}, {} records are done", event.name, event.executor, event.done
        )

    @hookimpl
    def curate_on_unit_committed(self, event: UnitCommitted) -> None:
        logger.bind(unit=event.unit, phase=event.phase, records_in=event.records_in).debug(
            "unit {} is committed: {} in = {} kept + {} filtered + {} quarantined, beside what was split",
            event.unit,
            event.records_in,
            event.kept,
            event.filtered,
            event.quarantined,
        )

    @hookimpl
    def curate_on_record_quarantined(self, event: RecordQuarantined) -> None:
        logger.bind(id=event.id, stage=event.stage, code=event.code).debug(
            "{} goes to quarantine at {} as {}: {}", event.id, event.stage, event.code, event.message
        )

    @hookimpl
    def curate_on_run_stopped(self, event: RunStopped) -> None:
        logger.bind(interrupted=event.interrupted).info("the run has stopped: {}", event.error)

    @hookimpl
    def curate_on_run_finished(self, event: RunFinished) -> None:
        counts = {name: event.summary[name] for name in ("records_in", "kept", "filtered", "quarantined")}
        logger.bind(**counts).info(
            "the run is over: {records_in} in, {kept} kept, {filtered} filtered, {quarantined} quarantined", **counts
        )
