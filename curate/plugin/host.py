"""The plugin host: finds plugins, loads each in isolation, and answers for them.

    host = PluginHost()
    host.stage("asr").load()            a name becomes a class
    host.rows()                         every plugin, also those that failed
    host.on_run_started(event)          calls the observers

A plugin that fails to load is one row with its error. It affects nothing else, until a name that it owns is used.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs
from loguru import logger

from curate.errors import PluginError
from curate.plugin import files, hooks
from curate.plugin.discovery import BUILTIN, Candidate, Selection, find_candidates
from curate.plugin.observers import Observers
from curate.plugin.references import (
    ENGINE_STAGES,
    AudioEngineRef,
    CommandRef,
    ExecutorRef,
    FormatRef,
    NormaliserRef,
    PanelRef,
    RecogniserRef,
    SchemeRef,
    StageRef,
    VoiceDetectorRef,
    canonical,
)
from curate.plugin.registry import Registry
from curate.plugin.status import PluginStatus

if TYPE_CHECKING:
    from curate.engine import (
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
        self._unannounced: set[str] = set()
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
        self.normalisers = Registry(NormaliserRef, self._rows)
        self.voice_detectors = Registry(VoiceDetectorRef, self._rows)
        self._audio_engines = {
            stage: Registry(AudioEngineRef, self._rows, lambda reference, stage=stage: reference.stage == stage)
            for stage in ENGINE_STAGES
        }
        self.formats = Registry(FormatRef, self._rows)
        self.schemes = Registry(SchemeRef, self._rows)
        self.panels = Registry(PanelRef, self._rows)
        self.commands = Registry(CommandRef, self._rows)
        self.error_codes: Mapping[str, str] = MappingProxyType(
            {code: meaning for row in self._rows for code, meaning in row.error_codes.items()}
        )

    # What was found.

    def rows(self) -> Sequence[PluginStatus]:
        """Return one row for each plugin, active or not: curate's own first, plugins-files last."""
        return self._rows

    def stage(self, name: str) -> StageRef:
        """Return the stage of a plain or qualified name, or raise `PluginError`."""
        return self.stages.resolve(name)

    def executor(self, name: str) -> ExecutorRef:
        """Return the executor of a plain or qualified name, or raise `PluginError`."""
        return self.executors.resolve(name)

    def recogniser(self, name: str) -> RecogniserRef:
        """Return the recogniser of a plain or qualified name, or raise `PluginError`."""
        return self.recognisers.resolve(name)

    def normaliser(self, name: str) -> NormaliserRef:
        """Return the normaliser of a plain or qualified name, or raise `PluginError`."""
        return self.normalisers.resolve(name)

    def voice_detector(self, name: str) -> VoiceDetectorRef:
        """Return the voice detector of a plain or qualified name, or raise `PluginError`."""
        return self.voice_detectors.resolve(name)

    def audio_engine(self, stage: str, name: str) -> AudioEngineRef:
        """Return the engine of a measuring stage by its plain or qualified name, or raise `PluginError`."""
        return self._audio_engines[stage].resolve(name)

    def format_of(self, path: Path | str) -> FormatRef | None:
        """Return the format whose suffix a file's name ends in, the longest suffix first; None: there is none.

        Raises:
            PluginError: two plugins announce this suffix.
        """
        name = Path(path).name
        longest = max((reference.fits(name) for reference in self.formats), default=0)
        fitting = [reference for reference in self.formats if longest and reference.fits(name) == longest]
        if len(fitting) > 1:
            raise PluginError(self.formats.clash(f"of {name}", fitting))
        return fitting[0] if fitting else None

    def command(self, name: str) -> CommandRef:
        """Return the command of a plain or qualified name, or raise `PluginError`."""
        return self.commands.resolve(name)

    # Error codes.

    def unannounced(self, code: str) -> str:
        """Return a warning about a code that an active plugin's name begins, but that the plugin does not announce.

        A misspelt code would otherwise pass for another kind of failure. "" where there is nothing to warn about.
        """
        owner = canonical(code.partition("/")[0])
        if code in self.error_codes or "/" not in code:
            return ""
        for row in self._rows:
            if row.distribution == owner and row.status == "active":
                known = ", ".join(row.error_codes) or "none"
                return f"{row.distribution} does not announce the error code {code!r} (curate_error_codes: {known})"
        return ""

    # Observers: one typed method for each hook, so that callers are checked.

    def observed_by(self, *observers: object) -> AbstractContextManager[None]:
        """Call hooks of objects of this process, too, for the length of a `with` block; methods carry `@hookimpl`.

        Raises:
            PluginError: an object's hooks are wrong, or it is registered already.
        """
        return self._observers.listening(*observers)

    def on_run_started(self, event: RunStarted) -> None:
        """Call the observers: a run begins."""
        self._observers.call("curate_on_run_started", event)

    def on_progress(self, event: RunProgress) -> None:
        """Call the observers: the run has progressed."""
        self._observers.call("curate_on_progress", event)

    def on_unit_committed(self, event: UnitCommitted) -> None:
        """Call the observers: a commit unit is on disk."""
        self._observers.call("curate_on_unit_committed", event)

    def on_record_quarantined(self, event: RecordQuarantined) -> None:
        """Call the observers: a record goes to quarantine. A code that its plugin does not announce is a warning."""
        if event.code not in self._unannounced and (warning := self.unannounced(event.code)):
            self._unannounced.add(event.code)
            logger.warning("{}", warning)
        self._observers.call("curate_on_record_quarantined", event)

    def on_run_stopped(self, event: RunStopped) -> None:
        """Call the observers: the run has stopped before its end."""
        self._observers.call("curate_on_run_stopped", event)

    def on_run_finished(self, event: RunFinished) -> None:
        """Call the observers: the run has reached its end."""
        self._observers.call("curate_on_run_finished", event)

    # Loading.

    def _admit(self, candidate: Candidate, why_off: str | None) -> PluginStatus:
        row = PluginStatus(candidate.distribution, candidate.version, candidate.entry, candidate.module)
        if why_off is not None:
            return attrs.evolve(row, status="disabled", error=why_off)
        try:
            return self._registered(row, candidate.load)
        except (Exception, SystemExit) as error:  # noqa: BLE001 (third-party code: whatever it raises is its own failure)
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
            own = tuple(stage.owned_by(row.distribution) for stage in stages)
            yield attrs.evolve(row, references=row.references + own)

    def _registered(self, row: PluginStatus, load: Callable[[], object]) -> PluginStatus:
        """Load a plugin, register its hooks and collect what it provides; a failure leaves no trace of it."""
        plugin = load()
        identity = f"plugin {row.distribution}" + (f" (entry point {row.entry})" if row.entry else "")
        hooks.register(self._manager, plugin, identity)
        try:
            owned = row.distribution != BUILTIN and not row.is_file
            return attrs.evolve(
                row,
                references=hooks.announced(self._manager, plugin, row.distribution),
                error_codes=hooks.error_codes(self._manager, plugin, row.distribution, owned=owned),
            )
        except BaseException:
            hooks.unregister(self._manager, identity)
            raise


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, PluginError) else f"{type(error).__name__}: {text}".removesuffix(": ")
