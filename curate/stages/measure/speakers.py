"""The stages that describe voices: by an embedding, and by the likeness of a recording's halves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from curate.models import Row
from curate.stages.measure.windowed_stage import WindowedStage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vector = npt.NDArray[np.float64]

_PLUGINS = {"resemblyzer": "curate-speaker", "nemo": "'curate-speech[nemo]'"}
_DIGITS = 4


@dataclass
class SpeakerEmbedding(WindowedStage):
    """Computes an embedding of the voice: recordings of one speaker have vectors of nearly one direction.

    Writes `speaker_embedding`, a list of numbers of the length 1 in the Euclidean norm, rounded to 4 digits: the mean
    over the windows. Null for what is shorter than `least_s`, and for digital silence. Only embeddings of one engine
    can be compared. `cluster_speakers` makes speakers of them.

    Args:
        engine: the model: `resemblyzer` (plugin `curate-speaker`), `nemo` (a `.nemo` file, such as TitaNet, in
            `options: {model: …}`), or one of another plugin.
        options: settings of the engine.
        window_s: the length of a window; a shorter recording is one window.
        max_windows: the largest number of windows of a recording, which are spread evenly over it.
        least_s: shorter recordings have no embedding.
        filepath_key: the column with the path of the audio; None: the batch's, `audio_filepath` in a run.
        batching: see `AudioModelStage`, as for the settings that follow.
        max_batch_s: the budget of a batch in seconds of audio.
        memory_share: with `memory`, the share of the free memory that a batch may need.
        saturation_s: with `memory`, the padded seconds that saturate the GPU.
        min_s: shorter records are filtered.
        max_s: longer records are filtered.
        batching_options: further options of the batcher.
    """

    engine: str = "resemblyzer"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    window_s: float = 10.0
    max_windows: int = 6
    least_s: float = 0.5

    name = "speaker_embedding"
    kind: ClassVar[str] = "speaker_embedding"
    gives: ClassVar[str] = "embedding"
    plugins: ClassVar[Mapping[str, str]] = _PLUGINS

    def columns(self) -> Sequence[str]:
        return ("speaker_embedding",)

    def summarise(self, parts: Sequence[Sequence[Row]]) -> Row:
        vector = _mean(parts[0])
        numbers = None if vector is None else [round(float(each), _DIGITS) + 0.0 for each in vector]
        return {"speaker_embedding": numbers}


@dataclass
class SpeakerConsistency(WindowedStage):
    """Compares the voices of the two halves of a recording: a change of speaker makes them unlike.

    Writes `speaker_consistency`, the cosine of their embeddings, −1 to 1. Null where a half is shorter than `least_s`
    or digital silence. What is low depends on the engine: see the distribution in the report.

    Args:
        engine: the model: `resemblyzer` (plugin `curate-speaker`), `nemo` (a `.nemo` file, such as TitaNet, in
            `options: {model: …}`), or one of another plugin.
        options: settings of the engine.
        window_s: the length of a window; a shorter half is one window.
        max_windows: the largest number of windows of a half, which are spread evenly over it.
        least_s: halves that are shorter have no embedding.
        filepath_key: the column with the path of the audio; None: the batch's, `audio_filepath` in a run.
        batching: see `AudioModelStage`, as for the settings that follow.
        max_batch_s: the budget of a batch in seconds of audio.
        memory_share: with `memory`, the share of the free memory that a batch may need.
        saturation_s: with `memory`, the padded seconds that saturate the GPU.
        min_s: shorter records are filtered.
        max_s: longer records are filtered.
        batching_options: further options of the batcher.
    """

    engine: str = "resemblyzer"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    window_s: float = 10.0
    max_windows: int = 3
    least_s: float = 0.8

    name = "speaker_consistency"
    kind: ClassVar[str] = "speaker_embedding"
    gives: ClassVar[str] = "embedding"
    plugins: ClassVar[Mapping[str, str]] = _PLUGINS
    parts: ClassVar[int] = 2

    def columns(self) -> Sequence[str]:
        return ("speaker_consistency",)

    def summarise(self, parts: Sequence[Sequence[Row]]) -> Row:
        first, second = (_mean(part) for part in parts)
        if first is None or second is None:
            return {"speaker_consistency": None}
        return {"speaker_consistency": round(min(1.0, max(-1.0, float(first @ second))), 3) + 0.0}


def _mean(rows: Sequence[Row]) -> Vector | None:
    """Return the direction of the mean of the windows' directions; None: there is none."""
    import numpy as np

    units: list[Vector] = []
    for row in rows:
        vector = np.asarray(row["embedding"], np.float64)
        length = float(np.sqrt(np.einsum("i,i->", vector, vector)))
        if np.isfinite(length) and length > 0:
            units.append(vector / length)
    if not units:
        return None
    mean = np.sum(units, axis=0)
    length = float(np.sqrt(np.einsum("i,i->", mean, mean)))
    return mean / length if length > 1e-9 else None
