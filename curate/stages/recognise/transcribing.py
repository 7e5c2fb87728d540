"""The base class of the ASR stages: it writes transcripts, and transcribes long recordings window by window."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import attrs

from curate.asr import transcript_columns
from curate.asr.recogniser import TRANSCRIPT_COLUMNS
from curate.errors import PlanError, RecordError
from curate.io.rows import is_finite_number
from curate.models import AudioModel, AudioModelStage, Row
from curate.models.inference import InferenceFailed
from curate.models.rows import RowContract
from curate.models.runner import Inferred, ModelRunner, OutOfRange
from curate.records import AudioBatch, Record
from curate.stages.measure.snr import segments_of
from curate.stages.recognise.long_record import LongRecord
from curate.stages.recognise.windows import overlapping_windows, speech_windows

_MODES = ("windows", "vad")
_DEFAULT_WINDOW_S = 30.0
_MOST_WINDOWS = 4096
"""The windows that are planned together."""

_LONGER = "longer than a window"
_SLACK_S = 0.005
_LEFT_OUT = frozenset({"speech", "words", "segments"})
"""Columns of a recording that the records of its windows do not need."""


@dataclass
class TranscribingStage(AudioModelStage):
    """The base class of the ASR stages.

    Args:
        pred_text_key: the column that is written.
        prefix: what the names of all columns that are written begin with, so that several recognisers write their own.
        timestamps: also write `words`: `word`, and `start` and `end` in seconds from the start of the record's audio.
        confidence: also write `confidence`, 0 to 1.
        long_form: how a record longer than a window is transcribed: `windows`, overlapping ones, whose words are joined
            where both have the same word; `vad`: along the segments in the column `speech`, as many in a window as fit,
            and once more for those in which no word was recognised. None: as a whole.
        long_window_s: the length of a window, at most; None: the model's own, or 30.
        overlap_s: how much of a window the next one repeats.
        speech_key: the column with the segments.
    """

    pred_text_key: str = field(default="pred_text", kw_only=True)
    prefix: str = field(default="", kw_only=True)
    timestamps: bool = field(default=False, kw_only=True)
    confidence: bool = field(default=False, kw_only=True)
    long_form: str | None = field(default=None, kw_only=True)
    long_window_s: float | None = field(default=None, kw_only=True)
    overlap_s: float = field(default=4.0, kw_only=True)
    speech_key: str = field(default="speech", kw_only=True)

    @property
    def needs_words(self) -> bool:
        """Whether the model has to give words with times: they are asked for, or needed to join windows."""
        return self.timestamps or self.long_form is not None

    def check(self) -> None:
        super().check()
        if self.long_form is None:
            return
        if self.long_form not in _MODES:
            raise PlanError(f"stage {self.name!r}: long_form must be windows, vad or null, not {self.long_form!r:.80}")
        model = self.checked_model()
        window_s = self._window_s(model)
        if not 1 <= window_s <= (model.window_s or math.inf):
            most = f" and at most the model's {model.window_s:g}" if model.window_s else ""
            raise PlanError(f"stage {self.name!r}: long_window_s must be at least 1 s{most}, not {window_s:g}")
        if not 0 <= self.overlap_s <= 0.5 * window_s:
            raise PlanError(f"stage {self.name!r}: overlap_s must be 0 to half of the window of {window_s:g} s")
        if self.batching == "bucket":
            raise PlanError(f"stage {self.name!r}: long_form and batching 'bucket' do not go together; use 'length'")
        if model.writes and "words" not in model.writes:
            raise PlanError(f"stage {self.name!r}: long_form needs the times of words, which this recogniser lacks")

    def reads(self) -> Sequence[str]:
        own = tuple(super().reads())
        return (*own, self.speech_key) if self.long_form == "vad" else own

    def model_columns(self, model: AudioModel) -> Sequence[str]:
        known = transcript_columns(timestamps=self.timestamps, confidence=self.confidence)[1:]
        names = (self.pred_text_key, *known, *_further_columns(model))
        return tuple(f"{self.prefix}{name}" for name in names)

    def row_contract(self, model: AudioModel) -> RowContract:
        return RowContract(type(model).__name__, ("text", *_further_columns(model)), TRANSCRIPT_COLUMNS)

    def write_row(self, record: Record, row: Row) -> None:
        record[f"{self.prefix}{self.pred_text_key}"] = row["text"]
        if self.timestamps:
            record[f"{self.prefix}words"] = row.get("words") or []
        if self.confidence:
            record[f"{self.prefix}confidence"] = row.get("confidence")
        for name, value in row.items():
            if name not in TRANSCRIPT_COLUMNS:
                record[f"{self.prefix}{name}"] = value

    def checked_model(self) -> AudioModel:
        model = super().checked_model()
        if model.writes and "text" not in model.writes:
            raise PlanError(
                f"stage {self.name!r}: model {type(model).__name__} writes {', '.join(model.writes)} and no `text`; "
                "it is not a recogniser: run it through AudioModelStage",
                self.name,
            )
        return model

    def batcher_options(self, strategy: str) -> dict[str, Any]:
        options = super().batcher_options(strategy)
        if self.long_form is not None:  # records are compared with the bounds here, and windows with none
            options.update(min_s=None, max_s=None)
        return options

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        """Yield the records with the columns of their rows in parts, as the model finishes them, in any order."""
        runner = self._runner
        if runner is None or self.long_form is None:
            yield from super().stream(batch)
            return
        yield from self._in_parts(batch, runner, self._within_bounds(batch, runner))

    def _in_parts(self, batch: AudioBatch, runner: ModelRunner, records: Iterable[Record]) -> Iterator[AudioBatch]:
        """Transcribe records of true length, some thousand windows at a time."""
        waiting: list[Record | LongRecord] = []
        windows = 0
        for record in records:
            try:
                one = self._cut(record, runner.model)
            except RecordError as error:
                batch.fail(record, error)
                continue
            if isinstance(one, LongRecord) and not one.windows:  # no speech
                self.write_row(record, {"text": "", **dict.fromkeys(_further_columns(runner.model))})
                yield batch.with_data([record])
                continue
            waiting.append(one)
            windows += len(one.windows) if isinstance(one, LongRecord) else 1
            if windows >= _MOST_WINDOWS:
                yield from self._transcribe(batch, runner, waiting)
                waiting, windows = [], 0
        if waiting:
            yield from self._transcribe(batch, runner, waiting)

    def _within_bounds(self, batch: AudioBatch, runner: ModelRunner) -> Iterator[Record]:
        """Yield the records that are not filtered by their length, which is measured where it may matter."""
        filepath_key = self.filepath_key or batch.filepath_key
        window_s = self._window_s(runner.model)
        has_bounds = self.min_s is not None or self.max_s is not None
        for record in batch.data:
            claimed_s: Any = record.get("duration")
            if has_bounds or not is_finite_number(claimed_s) or not 0 < claimed_s <= window_s:
                [(_, error)] = runner.measure([record], filepath_key=filepath_key, context=self.context)
                if error is not None:
                    batch.fail(record, error)
                    continue
                if reason := super()._out_of_range(_length_s(record)):
                    batch.reject(record, reason)
                    continue
            yield record

    def _out_of_range(self, seconds: float) -> str:
        """Return the reason to filter a record of this decoded length, or `_LONGER` if it needs windows."""
        reason = super()._out_of_range(seconds)
        if reason or self.long_form is None or self._runner is None:
            return reason
        return _LONGER if seconds > self._window_s(self._runner.model) + _SLACK_S else ""

    def _cut(self, record: Record, model: AudioModel) -> Record | LongRecord:
        """Return the record with its windows, or the record itself if it fits into one."""
        window_s, length_s = self._window_s(model), _length_s(record)
        if length_s <= window_s + _SLACK_S:
            return record
        if self.long_form == "windows":
            windows = overlapping_windows(0.0, length_s, window_s, self.overlap_s)
            return LongRecord(record, windows, _LEFT_OUT | {self.speech_key})
        speech = segments_of(record, self.speech_key)
        if speech is None:
            raise RecordError("missing_column", f"no {self.speech_key!r}; use voice_activity before long_form: vad")
        inside = [(start_s, min(end_s, length_s)) for start_s, end_s in speech if start_s < length_s]
        windows = speech_windows(inside, window_s, self.overlap_s)
        return LongRecord(record, windows, _LEFT_OUT | {self.speech_key}, inside, window_s)

    def _transcribe(
        self, batch: AudioBatch, runner: ModelRunner, waiting: Sequence[Record | LongRecord]
    ) -> Iterator[AudioBatch]:
        parts = _Parts(waiting)
        longer: list[Record] = []  # than their manifest claims
        context = attrs.evolve(self.context, announce=parts.announcing(self.context.announce))
        outcomes = runner.run(parts.records, filepath_key=self.filepath_key or batch.filepath_key, context=context)
        with closing(outcomes):
            for outcome in outcomes:
                match outcome:
                    case InferenceFailed(record, error):
                        if (whole := parts.failed(record)) is not None:
                            batch.fail(whole, error)
                    case OutOfRange(record, reason) if reason == _LONGER:
                        longer.append(record)
                    case OutOfRange(record, reason):
                        batch.reject(record, reason)
                    case Inferred(records, rows):
                        finished = list(parts.finished(records, rows))
                        for record, row in finished:
                            self.write_row(record, row)
                        if finished:
                            yield batch.with_data([record for record, _ in finished])
        if parts.again:
            yield from self._transcribe(batch, runner, parts.again)
        yield from self._in_parts(batch, runner, longer)

    def _window_s(self, model: AudioModel) -> float:
        return self.long_window_s or model.window_s or _DEFAULT_WINDOW_S


class _Parts:
    """The records that the model gets, and what they are parts of."""

    def __init__(self, waiting: Sequence[Record | LongRecord]) -> None:
        self.again: list[LongRecord] = []
        """Records with speech without a word."""
        self.records: list[Record] = []
        self._of: dict[int, tuple[LongRecord, int]] = {}
        for one in waiting:
            if isinstance(one, LongRecord):
                self.records += [part for _, part in one.waiting]
                self._of |= {id(part): (one, place) for place, part in one.waiting}
            else:
                self.records.append(one)

    def announcing(self, announce: Callable[[Sequence[Record]], None]) -> Callable[[Sequence[Record]], None]:
        """Return the function that announces the records that the given ones are, or are parts of, each once."""

        def announce_whole(records: Sequence[Record]) -> None:
            found = (self._of.get(id(record)) for record in records)
            whole = [record if one is None else one[0].record for record, one in zip(records, found, strict=True)]
            announce(list({id(record): record for record in whole}.values()))

        return announce_whole

    def failed(self, record: Record) -> Record | None:
        """Return the record that fails with this one, None if it has failed already."""
        found = self._of.get(id(record))
        if found is None:
            return record
        long, _ = found
        has_failed, long.failed = long.failed, True
        return None if has_failed else long.record

    def finished(self, records: Sequence[Record], rows: Sequence[Row]) -> Iterator[tuple[Record, Row]]:
        """Yield the records that are finished with these rows, with their own."""
        for record, row in zip(records, rows, strict=True):
            found = self._of.get(id(record))
            if found is None:
                yield record, row
            elif found[0].add(found[1], row):
                if found[0].look_again():
                    self.again.append(found[0])
                else:
                    yield found[0].record, found[0].row()


def _length_s(record: Record) -> float:
    length_s: Any = record.get("duration")
    return float(length_s) if is_finite_number(length_s) else 0.0


def _further_columns(model: AudioModel) -> tuple[str, ...]:
    """Return the columns that a recogniser writes in addition to a transcript."""
    return tuple(name for name in model.writes if name not in TRANSCRIPT_COLUMNS)
