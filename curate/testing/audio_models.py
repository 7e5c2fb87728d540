"""The contract of a model over audio, as tests that its author inherits.

class TestMyModel(AudioModelContract):
    def model(self):
        return MyModel()
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, cast

import cloudpickle as _cloudpickle

from curate.errors import InfrastructureError
from curate.models import AudioModel, Clip, Row
from curate.models.rows import RowContract

cloudpickle: Any = _cloudpickle  # it has no type stubs


class AudioModelContract:
    """Tests of one model. Derive from it, name the class `Test…`, and define `model()`."""

    lengths_s: ClassVar[tuple[float, ...]] = (0.3, 1.0, 0.7)
    """How long the clips are: tones of different pitch, and silence."""

    tolerance: ClassVar[float] = 0.0
    """The relative difference that numbers of a clip's row may have in another batch."""

    def model(self) -> AudioModel:
        """Return the model, not yet set up."""
        raise NotImplementedError(f"{type(self).__name__} must define model(): return the model to test")

    def records(self) -> Sequence[Mapping[str, Any]]:
        """Return the records that the clips come from, in turn; such as those with a language that the model reads."""
        return ({},)

    def waveforms(self, rate_hz: int) -> Sequence[Any]:
        """Return the samples of the clips, float32 at `rate_hz`; speech is better than the tones that these are."""
        import numpy as np

        tones = [
            0.3 * np.sin(2 * math.pi * (200 + 70 * place) * np.arange(round(length_s * rate_hz)) / rate_hz)
            for place, length_s in enumerate(self.lengths_s)
        ]
        return [tone.astype(np.float32) for tone in tones] + [np.zeros(rate_hz, np.float32)]

    # What is below is inherited.

    def test_it_can_be_sent_to_a_worker(self) -> None:
        """An instance holds settings only until `setup`."""
        copy = cloudpickle.loads(cloudpickle.dumps(self.model(), protocol=5))
        assert type(copy) is type(self.model())
        assert tuple(copy.writes) == tuple(self.model().writes)

    def test_every_clip_has_a_row(self) -> None:
        """In the same order, with the declared columns; of a transcript, confidence and words are in their range."""
        with self._set_up() as (model, clips):
            for row, clip in zip(_rows(model, clips), clips, strict=True):
                _check_transcript(row, clip.duration_s)

    def test_the_batch_makes_no_difference(self) -> None:
        """The row of a clip does not depend on its neighbours."""
        with self._set_up() as (model, clips):
            together = [dict(row) for row in _rows(model, clips)]
            alone = [dict(_rows(model, [clip])[0]) for clip in clips]
            backwards = [dict(row) for row in _rows(model, clips[::-1])][::-1]
            for other in (alone, backwards):
                assert _are_close(other, together, self.tolerance), (
                    f"in one batch the clips give\n{together}\nand one at a time, or in the opposite order\n{other}"
                )

    def test_clips_and_records_are_left_as_they_are(self) -> None:
        """Samples are shared with others, and the row is all that a model changes of a record."""
        with self._set_up() as (model, clips):
            before = [(clip.samples.copy(), dict(clip.record)) for clip in clips]
            _rows(model, clips)
            for clip, (samples, record) in zip(clips, before, strict=True):
                assert (clip.samples == samples).all(), "infer() changed the samples of a clip"
                assert dict(clip.record) == record, "infer() changed the record of a clip"

    def test_it_can_be_set_up_again(self) -> None:
        """After `close`, `setup` may follow again."""
        model = self.model()
        found: list[list[Row]] = []
        for _ in range(2):
            model.setup()
            try:
                found.append([dict(row) for row in _rows(model, self._clips(model))])
            finally:
                model.close()
        assert _are_close(found[0], found[1], self.tolerance), f"first\n{found[0]}\nand after close()\n{found[1]}"

    def _clips(self, model: AudioModel) -> list[Clip]:
        records = self.records()
        return [
            Clip(samples, model.rate_hz, records[place % len(records)])
            for place, samples in enumerate(self.waveforms(model.rate_hz))
        ]

    @contextmanager
    def _set_up(self) -> Generator[tuple[AudioModel, list[Clip]]]:
        model = self.model()
        model.setup()
        try:
            yield model, self._clips(model)
        finally:
            model.close()


def _rows(model: AudioModel, clips: Sequence[Clip]) -> Sequence[Row]:
    """Return the rows, held to the columns that the model declares."""
    result = model.infer(clips)
    contract = RowContract(type(model).__name__, model.writes or ("text",))
    try:
        return contract.check(result() if callable(result) else result, len(clips))
    except InfrastructureError as error:
        raise AssertionError(str(error)) from error


def _check_transcript(row: Row, length_s: float) -> None:
    if "text" not in row:
        return
    assert isinstance(row["text"], str)
    confidence = row.get("confidence")
    assert confidence is None or 0 <= confidence <= 1, row
    start_s = 0.0
    for word in row.get("words") or ():
        assert {"word", "start", "end"} <= word.keys() <= {"word", "start", "end", "score"}, (
            f"{word} is not of the form {{word, start, end, score}}"
        )
        assert start_s <= word["start"] <= word["end"] <= length_s + 0.001, (
            f"{word} lies outside of its clip, or before the word in front of it"
        )
        start_s = word["start"]


def _are_close(one: Any, other: Any, tolerance: float) -> bool:
    """Return whether plain data are equal, numbers up to a relative difference."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=tolerance) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        ones, others = cast("Mapping[Any, Any]", one), cast("Mapping[Any, Any]", other)
        return ones.keys() == others.keys() and all(_are_close(ones[name], others[name], tolerance) for name in ones)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        items, others = cast("Sequence[Any]", one), cast("Sequence[Any]", other)
        return len(items) == len(others) and all(
            _are_close(a, b, tolerance) for a, b in zip(items, others, strict=True)
        )
    return one == other
