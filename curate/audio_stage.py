"""The stage that processes audio: `process_audio(record, audio)`, and the true length that the engine writes for it.

Inside a run, neighbouring audio stages share one decoding of each recording; a stage that is used by itself decodes for
itself. The samples are the same either way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import closing
from typing import Any

import attrs

from curate.audio import Audio, AudioLength, AudioSettings
from curate.errors import RecordError
from curate.records import DEFAULT_FILEPATH_KEY, Record
from curate.stage import WORKING_METHODS, RecordStage, Reject, children_of

CLAIMED_DURATION = "claimed_duration"
AUDIO_COLUMNS = frozenset({"duration", CLAIMED_DURATION})
"""The columns that the engine writes where a record is first decoded, whatever the stages declare."""


class AudioStage(RecordStage):
    """A step that processes the audio of one record at a time: define `process_audio(record, audio)`.

    Before the first audio stage sees a record without `offset`, the decoded length is written to its `duration`; a
    claim that differs by more than the larger of 0.1 s and 1 % is kept in `claimed_duration`, counted, and shown in the
    report. Neighbouring audio stages, with the record stages between them, process a record one after the other while
    its audio is decoded once. A stage that splits audio ends a phase, so that its children are committed, retried and
    planned one by one; `.with_(checkpoint=False)` keeps them in the pass, where they are cuts of their parent's audio.
    """

    filepath_key: str = DEFAULT_FILEPATH_KEY
    """The column that holds the path of a record's audio."""

    takes_audio = True
    corrects_duration = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.cardinality == "splits" and not any("checkpoint" in vars(base) for base in _own_bases(cls)):
            cls.checkpoint = True
        cls.takes_audio = next(base for base in cls.__mro__ if WORKING_METHODS & vars(base).keys()) is AudioStage
        cls.corrects_duration = cls.takes_audio

    def reads(self) -> Collection[str]:
        return (self.filepath_key,)

    def listens(self, record: Record) -> bool:
        """Return whether the stage needs this record's audio; where not, the record is handed on undecoded."""
        return True

    def process_audio(self, record: Record, audio: Audio) -> Record | Reject | Iterable[Record] | None:
        """Return the record, changed or not, as `RecordStage.process_record` does.

        Args:
            record: without `offset`, its `duration` is the length of `audio`.
            audio: the recording, or the segment that `offset` and `duration` describe; valid until the call returns,
                or until the last child has been yielded. Its arrays are read-only.

        Raises:
            RecordError: this record is bad; so it is when its audio cannot be decoded.
            InfrastructureError: the run cannot continue.
        """
        raise NotImplementedError(f"{type(self).__name__} must define process_audio(record, audio)")

    def process_record(self, record: Record) -> Record | Reject | Iterable[Record] | None:
        if not self.listens(record):
            return record
        settings = self.context.audio or AudioSettings()
        audio = Audio.of(record, filepath_key=self.filepath_key, roots=self.context.audio_roots, settings=settings)
        with closing(audio):
            audio.decode()
            correct_duration(record, audio, settings)
            result = self.process_audio(record, audio)
            if result is None or isinstance(result, Reject):
                return result
            records = children_of(result, self)  # read while the audio is open
            return records[0] if isinstance(result, dict) else records


@attrs.frozen
class DurationMismatch:
    """A claimed duration that the decoded audio does not confirm; both in seconds."""

    claimed_s: float
    decoded_s: float


def correct_duration(record: Record, audio: Audio | AudioLength, settings: AudioSettings) -> DurationMismatch | None:
    """Write the decoded length to a record's `duration`, and return the mismatch with what was claimed, if any.

    A record with an `offset` is a segment: its `duration` is part of its definition, and stays. Done again, it changes
    and returns nothing.

    Raises:
        RecordError: `duration_mismatch`, if the settings ask for it; what is wrong with the recording.
    """
    if record.get("offset") is not None:
        return None
    decoded_s, claimed = round(audio.duration_s, 6), record.get("duration")
    if type(claimed) is float and claimed == decoded_s:
        return None
    claimed_s = audio.claimed_duration_s
    if claimed_s is not None:
        if settings.duration_mismatch == "fail":
            raise RecordError(
                "duration_mismatch", f"duration = {claimed_s:g} s, but the file holds {decoded_s:.3f} s of audio"
            )
        record.setdefault(CLAIMED_DURATION, claimed_s)
    record["duration"] = decoded_s
    return None if claimed_s is None else DurationMismatch(claimed_s, decoded_s)


def _own_bases(cls: type) -> Iterable[type]:
    """Return the class and its bases up to `AudioStage`."""
    return (base for base in cls.__mro__ if issubclass(base, AudioStage) and base is not AudioStage)
