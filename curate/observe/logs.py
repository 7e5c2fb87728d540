"""Logs the events of a run: a line for each one that a person may want to find later."""

from __future__ import annotations

from loguru import logger

from curate.engine import RecordQuarantined, RunFinished, RunStarted, RunStopped, UnitCommitted
from curate.plugin import hookimpl


class RunLog:
    """An observer that logs the events of the run at INFO, and each commit and each failed record at DEBUG.

    The fields are bound to the message, for `--log-format json`.
    """

    @hookimpl
    def curate_on_run_started(self, event: RunStarted) -> None:
        logger.bind(run=event.name, executor=event.executor, done=event.done).info(
            "run {} starts on {}; {} records are finished already", event.name, event.executor, event.done
        )

    @hookimpl
    def curate_on_unit_committed(self, event: UnitCommitted) -> None:
        logger.bind(unit=event.unit, phase=event.phase, records_in=event.records_in).debug(
            "commit {}: {} in, {} kept, {} filtered, {} quarantined",
            event.unit,
            event.records_in,
            event.kept,
            event.filtered,
            event.quarantined,
        )

    @hookimpl
    def curate_on_record_quarantined(self, event: RecordQuarantined) -> None:
        logger.bind(id=event.id, stage=event.stage, code=event.code).debug(
            "{} failed at {} with {}: {}", event.id, event.stage, event.code, event.message
        )

    @hookimpl
    def curate_on_run_stopped(self, event: RunStopped) -> None:
        logger.bind(interrupted=event.interrupted).info("run stopped: {}", event.error)

    @hookimpl
    def curate_on_run_finished(self, event: RunFinished) -> None:
        counts = {name: event.summary[name] for name in ("records_in", "kept", "filtered", "quarantined")}
        logger.bind(**counts).info(
            "run finished: {records_in} in, {kept} kept, {filtered} filtered, {quarantined} quarantined",
            **counts,
        )
