"""The stage that cuts recordings into utterances, or packs their speech into windows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import attrs

from curate.audio import Audio
from curate.audio_stage import AudioStage
from curate.errors import PlanError, RecordError
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.signal import Segment
from curate.signal.pauses import find_cuts, step_powers
from curate.stage import Reject
from curate.stages.measure.blocks import BLOCK_S
from curate.stages.measure.snr import segments_of
from curate.stages.segment.children import PARENT_SPAN, child_of, inherited, numbered

_RATE_HZ = 16_000
_MODES = ("utterances", "pack")


@attrs.frozen
class _Piece:
    """A stretch of speech, and whether it was cut where there is no pause: at its start or at its end."""

    start_s: float
    end_s: float
    cut_in_speech: bool = False


@dataclass
class SplitSpeech(AudioStage):
    """Splits a recording at its pauses, from the segments in `speech`.

    With `mode: utterances`, each child is a stretch of speech: segments nearer than `merge_gap_s` are joined while they
    stay within `max_s`. With `mode: pack`, each child is a window of at most `max_s` from the start of its first
    segment to the end of its last one, as full as possible, with the `segments` inside it (from its start): what a
    model with a fixed window, such as Whisper, computes fastest.

    A segment longer than `max_s` is cut at the quietest place in the second half of that length. `cut_in_speech` is
    true for children that border on a cut without a pause of 0.1 s, `too_short` for those below `min_s`. `speech_s` is
    the speech of the child: its segments, without the pauses between them. The children are numbered by `part` (from 0)
    and `parts`. They do not inherit the columns that describe the whole recording, such as `speech` and `words`. A
    recording without speech is filtered.

    Args:
        filepath_key: the column that holds the path of the audio; it is read where a segment is too long.
        speech_key: the column with the segments.
        mode: `utterances` or `pack`.
        max_s: the greatest length of a child.
        min_s: a shorter child is marked.
        merge_gap_s: segments nearer than this become one utterance.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    speech_key: str = "speech"
    mode: str = "utterances"
    max_s: float = 30.0
    min_s: float = 0.5
    merge_gap_s: float = 0.5

    cardinality = "splits"

    def check(self) -> None:
        if self.mode not in _MODES:
            raise PlanError(f"split_speech: mode={self.mode!r:.80}: choose from {', '.join(_MODES)}", self.name)
        if not self.max_s >= 0.5:
            raise PlanError(f"split_speech: max_s={self.max_s!r}: must be at least 0.5 s", self.name)
        if not 0 <= self.min_s <= self.max_s or not 0 <= self.merge_gap_s < float("inf"):
            raise PlanError("split_speech: min_s must be 0 to max_s, and merge_gap_s 0 or more", self.name)

    def reads(self) -> tuple[str, ...]:
        return (self.filepath_key, self.speech_key)

    def writes(self) -> tuple[str, ...]:
        own = ("offset", "duration", "part", "parts", PARENT_SPAN, "speech_s", "cut_in_speech", "too_short")
        return (*own, "segments") if self.mode == "pack" else own

    def drops(self) -> frozenset[str]:
        return frozenset({self.speech_key, "speech_ratio", "speech_short", "words"})

    def process_audio(self, record: Record, audio: Audio) -> Sequence[Record] | Reject:
        segments = segments_of(record, self.speech_key)
        if segments is None:
            raise RecordError("missing_column", f"the record has no {self.speech_key!r}; use voice_activity before")
        duration_s = audio.duration_s
        segments = [(start, min(end, duration_s)) for start, end in segments if start < duration_s]
        if not segments:
            return Reject("no speech")
        speech_until = _speech_until(segments)
        if self.mode == "utterances":
            segments = merge_segments(segments, self.merge_gap_s, self.max_s)
        pieces = [piece for segment in segments for piece in self._pieces(segment, audio)]
        groups = [[piece] for piece in pieces] if self.mode == "utterances" else pack_pieces(pieces, self.max_s)
        inherits = inherited(record, (self.speech_key,))
        return numbered([self._child(record, inherits, group, speech_until) for group in groups])

    def _pieces(self, segment: Segment, audio: Audio) -> list[_Piece]:
        """Return a segment, or the pieces of one that is too long."""
        start_s, end_s = segment
        if end_s - start_s <= self.max_s + 1e-9:
            return [_Piece(start_s, end_s)]
        powers = step_powers(audio.cut(start_s, end_s).blocks(BLOCK_S, _RATE_HZ), _RATE_HZ)
        cuts = find_cuts(powers, end_s - start_s, self.max_s)
        edges = [start_s, *(round(start_s + cut.at_s, 3) for cut in cuts), end_s]
        in_speech = [False, *(cut.in_speech for cut in cuts), False]
        return [
            _Piece(edges[place], edges[place + 1], in_speech[place] or in_speech[place + 1])
            for place in range(len(edges) - 1)
        ]

    def _child(
        self, record: Record, inherits: Record, group: Sequence[_Piece], speech_until: Callable[[float], float]
    ) -> Record:
        start_s, end_s = group[0].start_s, group[-1].end_s
        child = child_of(
            record,
            inherits,
            start_s,
            end_s,
            speech_s=round(speech_until(end_s) - speech_until(start_s), 3),
            cut_in_speech=group[0].cut_in_speech or group[-1].cut_in_speech,
            too_short=end_s - start_s < self.min_s,
        )
        if self.mode == "pack":
            child["segments"] = [[round(each.start_s - start_s, 3), round(each.end_s - start_s, 3)] for each in group]
        return child


def _speech_until(segments: Sequence[Segment]) -> Callable[[float], float]:
    """Return the function that gives the seconds of speech before a time."""
    starts = [start_s for start_s, _ in segments]
    before = list(accumulate((end_s - start_s for start_s, end_s in segments), initial=0.0))

    def until(time_s: float) -> float:
        place = bisect_right(starts, time_s) - 1
        return 0.0 if place < 0 else before[place] + min(time_s, segments[place][1]) - starts[place]

    return until


def merge_segments(segments: Sequence[Segment], gap_s: float, max_s: float) -> list[Segment]:
    """Return the segments with neighbours joined that lie nearer than a gap, while the result is not too long."""
    merged: list[Segment] = []
    for start_s, end_s in segments:
        if merged and start_s - merged[-1][1] < gap_s and end_s - merged[-1][0] <= max_s:
            merged[-1] = (merged[-1][0], end_s)
        else:
            merged.append((start_s, end_s))
    return merged


def pack_pieces(pieces: Sequence[_Piece], max_s: float) -> list[list[_Piece]]:
    """Return neighbouring pieces in groups that span at most `max_s`, as few as possible.

    A piece that does not fit begins the next group, so each group is as long as the next piece allows.
    """
    groups: list[list[_Piece]] = []
    for piece in pieces:
        if groups and piece.end_s - groups[-1][0].start_s <= max_s + 1e-9:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups
