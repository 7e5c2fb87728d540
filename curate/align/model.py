"""The model that aligns: a CTC model over audio, with Viterbi's algorithm behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from curate.align.rows import AlignmentColumns
from curate.align.spelling import spell_text
from curate.align.windows import CONTEXT_S, WINDOW_S, Window, cut_windows
from curate.errors import RecordError
from curate.models import AudioModel, Clip, CtcModel, ModelCapabilities, Row, Rows

if TYPE_CHECKING:
    from curate.align.emissions import EmissionCollector
    from curate.align.spelling import SpelledText
    from curate.models import CtcLabels

_MAX_BATCH_ON_GPU_S = 240.0
"""The seconds of windows that a GPU computes together, padding included."""

_ENERGY_BLOCK_S = 60


class AlignmentModel(AudioModel):
    """A CTC model that aligns the text of each clip's record with its audio.

    On the CPU each window is computed by itself, so that a result does not depend on the neighbours to the last bit.

    Args:
        model: an `AudioModel` that is a `CtcModel`, not yet set up.
        text_key: the column with the text.
        words_key: the column that gets the words.
        prefix: of the other columns.
        window_s: the greatest length of audio that the model computes at the same time, context included.
        context_s: how much of it is context, on either side.
    """

    def __init__(
        self,
        model: AudioModel,
        *,
        text_key: str = "text",
        words_key: str = "words",
        prefix: str = "align",
        window_s: float = WINDOW_S,
        context_s: float = CONTEXT_S,
    ) -> None:
        self.model = model
        self.text_key = text_key
        self.columns = AlignmentColumns(words_key, prefix)
        self._window_s = window_s
        self._context_s = context_s
        self.writes = self.columns.names

    def setup(self) -> None:
        object.__setattr__(self.model, "resources", self.resources)  # the model's class may be frozen
        self.model.setup()
        self.rate_hz = self.model.rate_hz

    def close(self) -> None:
        self.model.close()

    def capabilities(self) -> ModelCapabilities:
        return attrs.evolve(self.model.capabilities(), stage=None, reserve=None)  # both are for recognition

    def infer(self, clips: Sequence[Clip]) -> Callable[[], Rows]:
        """Compute the log-probabilities of the clips, and return the function that aligns their texts with them."""
        labels = self._ctc.ctc_labels()
        jobs = [self._job(clip, labels) for clip in clips]
        windows = [
            (job, window)
            for job, clip in zip(jobs, clips, strict=True)
            for window in cut_windows(clip, labels.frame_s, self._window_s, self._context_s)
        ]
        for group in self._groups(windows):
            found = self._ctc.log_probs([window.clip for _, window in group])
            for (job, window), log_probs in zip(group, found, strict=True):
                job.add(window, log_probs)
        return lambda: [self._row(job, labels) for job in jobs]

    @property
    def _ctc(self) -> CtcModel:
        assert isinstance(self.model, CtcModel), "checked when the pipeline is planned"
        return self.model

    def _groups(self, windows: Sequence[tuple[_Job, Window]]) -> Iterator[list[tuple[_Job, Window]]]:
        """Yield the windows in groups that are computed together; those of a clip stay in order."""
        group: list[tuple[_Job, Window]] = []
        longest_s = 0.0
        for job, window in windows:
            longest_s = max(longest_s, window.clip.duration_s)
            if group and (not self.resources.on_gpu or (len(group) + 1) * longest_s > _MAX_BATCH_ON_GPU_S):
                yield group
                group, longest_s = [], window.clip.duration_s
            group.append((job, window))
        if group:
            yield group

    def _job(self, clip: Clip, labels: CtcLabels) -> _Job:
        return _Job(clip, spell_text(self._text_of(clip.record), labels), labels)

    def _text_of(self, record: Mapping[str, Any]) -> str:
        if not record:  # a trial
            return ""
        if self.text_key not in record:
            raise RecordError("missing_column", f"the record has no {self.text_key!r}")
        text: object = record[self.text_key]
        if text is None:
            return ""
        if not isinstance(text, str):
            raise RecordError("bad_value", f"{self.text_key} = {text!r:.80} is not a string")
        return text

    def _row(self, job: _Job, labels: CtcLabels) -> Row:
        from curate.align.alignment import align
        from curate.align.word_times import place_words

        found = align(job.text, job.collector, labels, job.prices)
        times = place_words(found.words, found.uncovered, job.levels, labels.frame_s, job.duration_s)
        return self.columns.row(job.text, found, times, labels, job.duration_s)


class _Job:
    """The text of a clip, and what its alignment needs of the audio."""

    def __init__(self, clip: Clip, text: SpelledText, labels: CtcLabels) -> None:
        from curate.align.emissions import EmissionCollector
        from curate.align.lattice import Prices
        from curate.align.word_times import EnergyMeter

        self.text = text
        self.prices = Prices()
        self.duration_s = clip.duration_s
        self.collector: EmissionCollector = EmissionCollector(labels, text, self.prices)
        meter = EnergyMeter(clip.rate_hz)
        block = _ENERGY_BLOCK_S * clip.rate_hz
        for start in range(0, len(clip.samples), block):
            meter.add(clip.samples[start : start + block])
        self.levels = meter.levels()

    def add(self, window: Window, log_probs: Any) -> None:
        """Add the frames of a window that are its own; silence stands for those that the model did not compute."""
        own = log_probs[window.skip :] if window.frames is None else log_probs[window.skip :][: window.frames]
        self.collector.add(own)
        if len(own) < window.expected:
            self.collector.add_silence(window.expected - len(own))
