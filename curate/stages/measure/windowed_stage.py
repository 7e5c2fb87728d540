"""The base of the stages that run an engine on windows of speech: for languages and for speakers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from curate.errors import PlanError
from curate.models import AudioModel, AudioModelStage, EngineModel, Row, WindowedModel, Windows
from curate.models.model import describe_misfit
from curate.resolution import PluginLookup
from curate.stages.measure.engine import engine_fingerprint, make_engine, resolve_engine


@dataclass
class WindowedStage(AudioModelStage):
    """The settings that the stages for languages and speakers have in common, with the engine and its windows."""

    engine: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    window_s: float = 10.0
    max_windows: int = 6
    least_s: float = 0.5

    kind: ClassVar[str] = ""
    """The stage for which plugins announce engines."""

    gives: ClassVar[str] = ""
    """The column that an engine's rows have."""

    plugins: ClassVar[Mapping[str, str]] = {}
    """Names of engines → the distribution to install."""

    parts: ClassVar[int] = 1
    """The number of parts of equal length into which a recording is divided."""

    def resolve(self, host: PluginLookup) -> Self:
        if not self.engine:
            known = ", ".join(f"{name} ({distribution})" for name, distribution in self.plugins.items())
            raise PlanError(f"stage {self.name!r}: name the engine, such as {known}", self.name)
        return resolve_engine(self, self.kind, self.engine, self.plugins, host)

    def columns(self) -> Sequence[str]:
        """Return the columns that the stage writes."""
        raise NotImplementedError

    def summarise(self, parts: Sequence[Sequence[Row]]) -> Row:
        """Return the row of a recording from those of the windows of each of its parts."""
        raise NotImplementedError

    def check(self) -> None:
        super().check()
        self._engine().check()

    def fingerprint(self) -> Mapping[str, Any]:
        return engine_fingerprint(self, self._engine())

    def make_model(self) -> AudioModel:
        try:
            windows = Windows(self.window_s, self.max_windows, self.least_s)
        except (TypeError, ValueError) as error:
            raise PlanError(f"stage {self.name!r}: {error}", self.name) from error
        return WindowedModel(self._engine(), windows, self.columns(), self.summarise, self.parts)

    def _engine(self) -> EngineModel:
        engine = make_engine(self, self.options)
        if misfit := describe_misfit(engine):
            raise PlanError(f"stage {self.name!r}: {misfit}", self.name)
        if self.gives not in engine.writes:
            raise PlanError(f"stage {self.name!r}: engine {self.engine!r} gives no {self.gives}", self.name)
        return engine
