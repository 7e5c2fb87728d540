"""The stage that cuts off the silence around speech, and shortens long pauses inside it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.errors import PlanError, RecordError
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.signal import Segment
from curate.stage import Reject
from curate.stages.measure.snr import segments_of


@dataclass
class TrimSilence(AudioStage):
    """Trims a recording to its speech, from the segments in `speech`.

    Without `max_pause_s`, only `offset` and `duration` change. With it, longer pauses between segments are shortened to
    it, half of it on either side; such a record gets new audio, at the recording's own rate. `trimmed_s` is how much
    was cut, and `speech` has times from the new start. A recording without speech is filtered.

    Args:
        filepath_key: the column that holds the path of the audio.
        speech_key: the column with the segments.
        lead_s: the most silence that is kept before the first segment.
        trail_s: the most silence that is kept behind the last one.
        max_pause_s: the longest pause that is kept; null: pauses stay.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    speech_key: str = "speech"
    lead_s: float = 0.1
    trail_s: float = 0.1
    max_pause_s: float | None = None

    cardinality = "filters"

    def check(self) -> None:
        for name in ("lead_s", "trail_s", "max_pause_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise PlanError(f"trim_silence: {name}={value!r}: must be a number of seconds, 0 or more", self.name)

    def reads(self) -> tuple[str, ...]:
        return (self.filepath_key, self.speech_key)

    def writes(self) -> tuple[str, ...]:
        return ("offset", "duration", "trimmed_s", self.speech_key)

    def drops(self) -> frozenset[str]:
        return frozenset({"words"})

    def process_audio(self, record: Record, audio: Audio) -> Record | Reject:
        segments = segments_of(record, self.speech_key)
        if segments is None:
            raise RecordError("missing_column", f"the record has no {self.speech_key!r}; use voice_activity before")
        duration_s = round(audio.duration_s, 6)
        segments = [(start, min(end, duration_s)) for start, end in segments if start < duration_s]
        if not segments:
            return Reject("no speech")
        kept = self._kept(segments, duration_s)
        if len(kept) == 1:
            ((start_s, end_s),) = kept
            record["offset"] = round(float(record.get("offset") or 0.0) + start_s, 6)
            record["duration"] = round(end_s - start_s, 6)
        else:
            record = self._joined(record, audio, kept)
        record["trimmed_s"] = round(duration_s - record["duration"], 3)
        record[self.speech_key] = [list(_moved(segment, kept)) for segment in segments]
        record.pop("words", None)
        return record

    def _kept(self, segments: list[Segment], duration_s: float) -> list[Segment]:
        """Return the spans of the recording that stay."""
        first, last = segments[0][0], segments[-1][1]
        starts = [round(max(0.0, first - self.lead_s), 3)]
        ends: list[float] = []
        if self.max_pause_s is not None:
            half_s = self.max_pause_s / 2
            for (_, end_s), (start_s, _) in pairwise(segments):
                if start_s - end_s > self.max_pause_s:
                    ends.append(round(end_s + half_s, 3))
                    starts.append(round(start_s - half_s, 3))
        ends.append(min(duration_s, round(last + self.trail_s, 3)))
        return list(zip(starts, ends, strict=True))

    def _joined(self, record: Record, audio: Audio, kept: list[Segment]) -> Record:
        import numpy as np

        parts = [audio.cut(start_s, end_s).native() for start_s, end_s in kept]
        return self.context.new_audio(record, np.concatenate(parts), audio.rate_hz)


def _moved(segment: Segment, kept: list[Segment]) -> Segment:
    """Return a segment with times on the new audio."""
    before_s = 0.0
    for start_s, end_s in kept:
        if segment[0] < end_s:
            return round(before_s + segment[0] - start_s, 3) + 0.0, round(before_s + segment[1] - start_s, 3)
        before_s += end_s - start_s
    raise AssertionError("every segment lies in a span that stays")
