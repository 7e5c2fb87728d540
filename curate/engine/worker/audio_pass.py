"""Runs neighbouring audio stages, and the record stages between them, one record after the other.

A record and its children go through all stages of the pass before the next record begins, so that its audio is decoded
once, however many stages listen, and a filter inside the pass spares the rest what it rejects. Retries, timings and
blame stay with the single stages: decoding fails at the first stage that listens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs

from curate.audio import Audio
from curate.audio_stage import AUDIO_COLUMNS, AudioStage
from curate.engine.protocol.activity import ActivityReporter
from curate.engine.protocol.messages import BatchTask
from curate.engine.worker.audio_source import AudioSegment, AudioSource
from curate.engine.worker.decoding_queue import THREADS, DecodingQueue, PendingAudio
from curate.engine.worker.outcomes import OutcomeCollector
from curate.engine.worker.record_contract import RecordContract
from curate.engine.worker.record_step import HAND_ON_AFTER_S
from curate.engine.worker.snapshot import Snapshot
from curate.records import ID, Record
from curate.stage import RecordStage


@attrs.frozen
class _Level:
    """A stage of the pass, and its place in the group."""

    stage: RecordStage
    level: int
    contract: RecordContract


class AudioPass:
    """Several stages of a group, of which the first one processes audio.

    Args:
        stages: neighbouring stages that process records; the first and the last one are audio stages.
        level: the place of the first stage in the group.
        reporter: learns which records are about to be touched.
        source: opens audio.
        streams: whether finished records are handed on about every second; not in front of a stage that takes batches,
            which gets the whole window.
    """

    def __init__(
        self,
        stages: Sequence[RecordStage],
        level: int,
        reporter: ActivityReporter | None,
        source: AudioSource,
        *,
        streams: bool,
    ) -> None:
        first = stages[0]
        assert isinstance(first, AudioStage)
        self._first = first
        self._levels = [_Level(stage, level + place, RecordContract(stage)) for place, stage in enumerate(stages)]
        self._level = level
        self._reporter = reporter
        self._source = source
        self._streams = streams
        self._threads: ThreadPoolExecutor | None = None

    def apply(
        self,
        records: list[Record],
        task: BatchTask,
        outcomes: OutcomeCollector,
        reread: Callable[[], list[Record]] | None,
    ) -> Iterator[list[Record]]:
        """Yield the records for the stage behind the pass."""
        reporter = self._reporter
        positions = () if reporter is None else reporter.positions(outcomes.roots_of([each[ID] for each in records]))
        activity = _Activity(reporter, self._level, positions)
        ahead = DecodingQueue(
            self._source,
            self._pool(len(records)),
            records,
            filepath_key=self._first.filepath_key,
            listens=self._first.listens,
            announce=activity.decode,
        )
        done: list[Record] = []
        started = time.perf_counter()
        try:
            for position, record in enumerate(records):
                activity.begin(position)
                decoded = ahead.begin(position)
                audio = _RecordAudio(self._source, decoded)
                try:
                    self._run(0, record, audio, activity, outcomes, done)
                    if audio.current is not None:
                        ahead.learn(audio.current)
                finally:
                    self._source.count("decodes", audio.decodes)
                    audio.close()
                if self._streams and time.perf_counter() - started > HAND_ON_AFTER_S and position + 1 < len(records):
                    activity.hand_on()
                    yield done
                    done, started = [], time.perf_counter()
        finally:
            ahead.close()
        activity.end()
        yield done

    def close(self) -> None:
        """End the threads that decode ahead."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
            self._threads = None

    def _pool(self, records: int) -> ThreadPoolExecutor | None:
        if records < 2 or not self._source.max_bytes:
            return None
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="curate-audio")
        return self._threads

    def _run(
        self,
        place: int,
        record: Record,
        audio: _RecordAudio,
        activity: _Activity,
        outcomes: OutcomeCollector,
        done: list[Record],
    ) -> None:
        """Take a record through the stages from a place on, and its children before the next record."""
        while place < len(self._levels):
            level = self._levels[place]
            activity.work(level.level)
            started = time.perf_counter()
            try:
                after = list(self._apply(level, record, audio, outcomes))
            finally:
                outcomes.add_busy(level.level, time.perf_counter() - started)
            place += 1
            if len(after) != 1 or after[0][ID] != record[ID]:
                for child in after:
                    of_child = _RecordAudio(self._source)
                    try:
                        self._run(place, child, of_child, activity, outcomes, done)
                    finally:
                        of_child.close()
                return
            record = after[0]
        done.append(record)

    def _apply(
        self, level: _Level, record: Record, audio: _RecordAudio, outcomes: OutcomeCollector
    ) -> Iterable[Record]:
        stage, before = level.stage, _Before([record])
        if not (isinstance(stage, AudioStage) and stage.takes_audio):
            return level.contract.apply(record, before, outcomes, stage.process_record)

        def process(record: Record) -> Any:
            if not stage.listens(record):
                return record
            opened = audio.of(record, stage.filepath_key)
            self._source.correct_duration(record, opened)
            before.corrected = {name: record[name] for name in AUDIO_COLUMNS if name in record}
            return stage.process_audio(record, opened)

        return level.contract.apply(record, before, outcomes, process)


class _Before(Snapshot):
    """A record as it was before a stage, but for the length of its audio: that correction is not the stage's."""

    def __init__(self, records: Sequence[Record]) -> None:
        super().__init__(records)
        self.corrected: Record = {}

    def __getitem__(self, identity: str) -> Record:
        record = super().__getitem__(identity)
        record.update(self.corrected)
        return record


class _RecordAudio:
    """The audio of one record in the pass: opened when the first stage listens, and again when a stage has changed what
    the record refers to.
    """

    def __init__(self, source: AudioSource, decoded: PendingAudio | None = None) -> None:
        self._source = source
        self._decoded = decoded
        self._key: AudioSegment | None = None
        self.current: Audio | None = None
        self.decodes = 0
        """The number of decodings that other threads have made for it."""

    def of(self, record: Record, filepath_key: str) -> Audio:
        """Return the audio that a record refers to now.

        Raises:
            RecordError: it cannot be decoded; asked again, it is decoded again.
            InfrastructureError: the disk or an audio root is at fault.
        """
        key = AudioSegment(record, filepath_key)
        if self.current is None or key != self._key:
            self._release()
            self._key = key
            decoded, self._decoded = self._decoded, None
            if decoded is None or decoded.key != key:
                if decoded is not None:
                    decoded.close(self._source)
                self.current = self._source.open(record, filepath_key)
            else:
                self.current, decodes = decoded.future.result()
                self.decodes += decodes
        return self.current

    def close(self) -> None:
        """Release the audio."""
        self._release()
        decoded, self._decoded = self._decoded, None
        if decoded is not None:
            decoded.close(self._source)

    def _release(self) -> None:
        current, self.current = self.current, None
        if current is not None:
            self._source.close(current)


class _Activity:
    """Reports which records the pass touches: the current one at the stage that works on it, and at the first stage
    those that are decoded ahead. So a record that is tried alone is blamed on the stage that was at work.
    """

    def __init__(self, reporter: ActivityReporter | None, level: int, positions: Sequence[int]) -> None:
        self._reporter = reporter
        self._level = level
        self._positions = positions
        self._position = 0
        self._end = 0
        self._working: int | None = None

    def begin(self, position: int) -> None:
        """Report that a record begins, at the first stage."""
        self._position, self._end = position, max(self._end, position + 1)
        self._work_ended()
        self._working = self._level
        self._announce(self._level, position, self._end)

    def decode(self, position: int, end: int) -> None:
        """Report that the bytes of the records from `position` to `end` are touched from now on."""
        self._end = max(self._end, end)
        self._announce(self._level, position, self._end)

    def work(self, level: int) -> None:
        """Report that a stage works on the current record."""
        if level == self._working:
            return
        if level == self._level:
            self._announce(level, self._position, self._end)
        else:
            self._announce(level, self._position, self._position + 1)
            if self._working == self._level:
                self._announce(self._level, self._position + 1, self._end)
        if self._working != self._level:
            self._work_ended()
        self._working = level

    def hand_on(self) -> None:
        """Report that no stage works, while records may still be decoded."""
        self._work_ended()
        self._working = None
        self._announce(self._level, self._position + 1, self._end)

    def end(self) -> None:
        """Report that nothing is touched any more."""
        self._work_ended()
        self._announce(self._level, 0, 0)

    def _work_ended(self) -> None:
        if self._reporter is not None and self._working not in (None, self._level):
            self._reporter.idle(self._working)

    def _announce(self, level: int, start: int, end: int) -> None:
        if self._reporter is None:
            return
        if start >= end:
            self._reporter.idle(level)
        else:
            self._reporter.announce(level, self._positions[start:end])
