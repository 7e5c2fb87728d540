"""The stage that scores how good speech sounds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.errors import PlanError
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.resolution import PluginLookup
from curate.signal import QualityMeter, spread_windows
from curate.stages.measure.engine import engine_fingerprint, make_engine, resolve_engine

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

_LEAST_S = 1.0
_SHARED_S = 600.0


@dataclass
class SpeechQuality(AudioStage):
    """Scores how good the speech of a recording sounds, by a model that predicts the ratings of listeners.

    With `dnsmos`, writes `dnsmos_ovrl`, `dnsmos_sig` (the voice), `dnsmos_bak` (the background) and `dnsmos_p808`, 1 to
    5, the means over windows of 9 s. Null under 1 s and for digital silence. Good recordings score 2.7 to 3.5, so
    filter by a quantile of the corpus and not by an absolute score.

    Args:
        filepath_key: the column that holds the path of the audio.
        engine: the model: `dnsmos` (plugin `curate-dnsmos`), or one of another plugin.
        options: settings of the engine.
        hop_s: the time between two windows.
        max_windows: the largest number of windows; those of a longer recording are spread evenly over it.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    engine: str = "dnsmos"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    hop_s: float = 1.0
    max_windows: int = 30

    def resolve(self, host: PluginLookup) -> Self:
        return resolve_engine(self, "speech_quality", self.engine, {"dnsmos": "curate-dnsmos"}, host)

    def check(self) -> None:
        if not self.hop_s > 0 or self.max_windows < 1:
            raise PlanError("speech_quality: hop_s must be above 0, and max_windows at least 1", self.name)
        self._made().check()

    def fingerprint(self) -> Mapping[str, Any]:
        return engine_fingerprint(self, self._made())

    def writes(self) -> tuple[str, ...]:
        return tuple(self._made().columns)

    def setup(self) -> None:
        self._meter = self._made()
        self._meter.setup()

    def process_audio(self, record: Record, audio: Audio) -> Record:
        scores = [self._meter.scores(window) for window in self._windows(audio)]
        for place, column in enumerate(self._meter.columns):
            found = [float(each[place]) for each in scores]
            mean = math.fsum(found) / len(found) if found else math.nan
            record[column] = round(mean, 3) if math.isfinite(mean) else None
        return record

    def _made(self) -> QualityMeter:
        return make_engine(self, self.options)

    def _windows(self, audio: Audio) -> Iterator[Samples]:
        """Yield windows with sound in them, of the engine's length and within full scale."""
        import numpy as np

        if audio.duration_s < _LEAST_S:
            return
        rate_hz = self._meter.rate_hz
        size = round(self._meter.window_s * rate_hz)
        whole = audio.samples(rate_hz) if audio.duration_s <= _SHARED_S else None
        for start_s, end_s in spread_windows(audio.duration_s, self._meter.window_s, self.hop_s, self.max_windows):
            if whole is None:
                window = audio.cut(start_s, min(end_s, audio.duration_s)).samples(rate_hz)
            else:
                window = whole[round(start_s * rate_hz) : round(end_s * rate_hz)]
            peak = float(np.abs(window).max(initial=0.0))
            if peak > 0:
                # What is shorter than a window is repeated, as the model was trained.
                yield np.resize(window, size) / np.float32(max(1.0, peak))
