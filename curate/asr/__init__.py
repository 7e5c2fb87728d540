"""Speech recognisers: the adapter protocol that makes them pluggable, and the engine that runs NeMo models.

Importing this package loads neither numpy nor torch nor NeMo; `NemoRecogniser.setup()` does.
"""

from curate.asr.checkpoint import check_model
from curate.asr.memory import CapturesGraphs, DeviceMemory, MeasuresMemory, Peak, RunsOnGpu, is_oom
from curate.asr.nemo import NemoRecogniser
from curate.asr.recogniser import Recogniser, SpellsLater, Transcript, Word

__all__ = [
    "CapturesGraphs",
    "DeviceMemory",
    "MeasuresMemory",
    "NemoRecogniser",
    "Peak",
    "Recogniser",
    "RunsOnGpu",
    "SpellsLater",
    "Transcript",
    "Word",
    "check_model",
    "is_oom",
]
