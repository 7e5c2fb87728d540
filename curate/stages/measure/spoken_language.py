"""The stage that identifies the language that is spoken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from curate.models import Row
from curate.stages.measure.windowed_stage import WindowedStage
from curate.text.languages import language_code


@dataclass
class SpokenLanguage(WindowedStage):
    """Identifies the language that is spoken in a recording, by a model.

    Writes `spoken_lang` (BCP-47) and `spoken_lang_prob`, the mean over the windows; null for what is shorter than
    `least_s`, and for digital silence. Below a probability of 0.7 the language is a guess.

    Args:
        engine: the model: `nemo` (a `.nemo` file, such as AmberNet, in `options: {model: …}`), `whisper` (plugin
            `curate-whisper`, a multilingual model in `options: {model: …}`), or one of another plugin.
        options: settings of the engine.
        window_s: the length of a window; a shorter recording is one window.
        max_windows: the largest number of windows of a recording, which are spread evenly over it.
        least_s: shorter recordings are not identified.
        filepath_key: the column with the path of the audio; None: the batch's, `audio_filepath` in a run.
        batching: see `AudioModelStage`, as for the settings that follow.
        max_batch_s: the budget of a batch in seconds of audio.
        memory_share: with `memory`, the share of the free memory that a batch may need.
        saturation_s: with `memory`, the padded seconds that saturate the GPU.
        min_s: shorter records are filtered.
        max_s: longer records are filtered.
        batching_options: further options of the batcher.
    """

    engine: str = "nemo"
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    window_s: float = 30.0
    max_windows: int = 7
    least_s: float = 1.0

    name = "spoken_language"
    kind: ClassVar[str] = "spoken_language"
    gives: ClassVar[str] = "languages"
    plugins: ClassVar[Mapping[str, str]] = {"nemo": "'curate-speech[nemo]'", "whisper": "curate-whisper"}

    def columns(self) -> Sequence[str]:
        return ("spoken_lang", "spoken_lang_prob")

    def summarise(self, parts: Sequence[Sequence[Row]]) -> Row:
        windows = [cast("Mapping[str, float]", row["languages"]) for row in parts[0]]
        sums = {name: math.fsum(each[name] for each in windows) for name in (windows[0] if windows else ())}
        if not sums or not math.isfinite(math.fsum(sums.values())):
            return {"spoken_lang": None, "spoken_lang_prob": None}
        name = max(sorted(sums), key=sums.__getitem__)
        return {
            "spoken_lang": language_code(name) or name,
            "spoken_lang_prob": round(min(1.0, sums[name] / len(windows)), 3),
        }
