"""The plugin host: finds plugins, loads each in isolation, and answers for them.

    host = PluginHost()
    host.stage("asr").load()            a name becomes a class
    host.rows()                         what was found, and what failed
    host.on_run_started(event)          tells the observers

A plugin that fails to load is one row with its error; nothing else notices, until somebody asks for what it owns.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import attrs
from loguru import logger

from curate.errors import PluginError
from curate.plugin import files, hooks
from curate.plugin.discovery import Candidate, Selection, find_candidates
from curate.plugin.observers import Observers
from curate.plugin.references import CommandRef, ExecutorRef, RecogniserRef, StageRef
from curate.plugin.registry import Registry
from curate.plugin.status import PluginStatus

if TYPE_CHECKING:
    from curate.engine.protocol.events import (
        RecordQuarantined,
        RunFinished,
        RunProgress,
        RunStarted,
        RunStopped,
        UnitCommitted,
    )


class PluginHost:
    """Everything that plugins provide, curate's own included.

    Args:
        disabled: distributions whose plugins must not be imported (`--no-plugin`).
        plugin_files: Python files that are plugins without packaging (`--plugins-file`).
        environment: where `CURATE_PLUGINS` is looked up; `os.environ` by default.

    Raises:
        PluginError: a name in `disabled` that no plugin has, or a plugins-file that is broken.
    """

    def __init__(
        self,
        *,
        disabled: Iterable[str] = (),
        plugin_files: Iterable[Path | str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._manager = hooks.new_manager()
        self._observers = Observers(self._manager)
        self._file_modules: list[ModuleType] = []
        selection = Selection.of(disabled, os.environ if environment is None else environment)
        candidates = find_candidates()
        selection.check(candidates)
        rows = [self._admit(candidate, selection.why_off(candidate.distribution)) for candidate in candidates]
        rows += [self._admit(candidate, None) for candidate in selection.absent(candidates)]
        rows += self._admit_files([Path(file) for file in plugin_files])
        self._rows = tuple(rows)
        self.stages = Registry(StageRef, self._rows)
        self.executors = Registry(ExecutorRef, self._rows)
        self.recognisers = Registry(RecogniserRef, self._rows)
        self.commands = Registry(CommandRef, self._rows)

    # What was found.

    def rows(self) -> Sequence[PluginStatus]:
        """Return one row for each plugin, whatever became of it: curate's own first, plugins-files last."""
        return self._rows

    def file_modules(self) -> Sequence[ModuleType]:
        """Return the modules of the plugins-files; no worker can import them, so they must be pickled by value."""
        return tuple(self._file_modules)

    def stage(self, name: str) -> StageRef:
        """Return the stage of a plain or qualified name, or raise `PluginError`."""
        return self.stages.resolve(name)

    def executor(self, name: str) -> ExecutorRef:
        """Return the executor of a plain or qualified name, or raise `PluginError`."""
        return self.executors.resolve(name)

    def recogniser(self, name: str) -> RecogniserRef:
        """Return the recogniser of a plain or qualified name, or raise `PluginError`."""
        return self.recognisers.resolve(name)

    def command(self, name: str) -> CommandRef:
        """Return the command of a plain or qualified name, or raise `PluginError`."""
        return self.commands.resolve(name)

    # Observers: one typed method for each hook, so that callers are checked.

    def register_observer(self, observer: object) -> None:
        """Let an object of this process listen to all runs from now on; its methods carry `@hookimpl`.

        Raises:
            PluginError: its hooks are wrong, or it is listening already.
        """
        self._observers.add(observer)

    def observed_by(self, *observers: object) -> AbstractContextManager[None]:
        """Let objects of this process listen for the length of a `with` block."""
        return self._observers.listening(*observers)

    def on_run_started(self, event: RunStarted) -> None:
        """Tell the observers that a run begins."""
        self._observers.tell("curate_on_run_started", event)

    def on_progress(self, event: RunProgress) -> None:
        """Tell the observers how far the run has come."""
        self._observers.tell("curate_on_progress", event)

    def on_unit_committed(self, event: UnitCommitted) -> None:
        """Tell the observers that a commit unit is on disk."""
        self._observers.tell("curate_on_unit_committed", event)

    def on_record_quarantined(self, event: RecordQuarantined) -> None:
        """Tell the observers that a record goes to quarantine."""
        self._observers.tell("curate_on_record_quarantined", event)

    def on_run_stopped(self, event: RunStopped) -> None:
        """Tell the observers that the run has stopped before its end."""
        self._observers.tell("curate_on_run_stopped", event)

    def on_run_finished(self, event: RunFinished) -> None:
        """Tell the observers that the run is over."""
        self._observers.tell("curate_on_run_finished", event)

    # Loading.

    def _admit(self, candidate: Candidate, why_off: str | None) -> PluginStatus:
        row = PluginStatus(candidate.distribution, candidate.version, candidate.entry, candidate.module)
        if why_off is not None:
            return attrs.evolve(row, status="disabled", error=why_off)
        try:
            return self._registered(row, candidate.load)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (a stranger's code: whatever it raises is its own failure)
            logger.warning("the plugin {} failed to load: {}", row.distribution, _one_line(error))
            text = "".join(traceback.format_exception(error))
            return attrs.evolve(row, status="failed", error=_one_line(error), traceback=text)

    def _admit_files(self, paths: Iterable[Path]) -> Iterable[PluginStatus]:
        for path in {path.resolve(): path for path in paths}.values():
            module = files.import_file(path)
            row = PluginStatus(str(path), None, "", module.__name__)
            try:
                row = self._registered(row, lambda module=module: module)
                stages = files.top_level_stages(module, row.references)
            except (Exception, SystemExit) as error:
                raise files.broken(path, error) from error
            self._file_modules.append(module)
            own = tuple(stage.owned_by(row.distribution) for stage in stages)
            yield attrs.evolve(row, references=row.references + own)

    def _registered(self, row: PluginStatus, load: Callable[[], object]) -> PluginStatus:
        """Load a plugin, register its hooks and ask what it provides; a failure leaves no trace of it."""
        plugin = load()
        identity = f"plugin {row.distribution}" + (f" (entry point {row.entry})" if row.entry else "")
        hooks.register(self._manager, plugin, identity)
        try:
            return attrs.evolve(row, references=hooks.announced(self._manager, plugin, row.distribution))
        except BaseException:
            hooks.unregister(self._manager, identity)
            raise


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}".removesuffix(": ")
