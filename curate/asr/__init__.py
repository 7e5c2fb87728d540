"""Speech recognisers: the adapter protocol that makes them pluggable, and the engine that runs NeMo models.

Importing this package loads neither numpy nor torch nor NeMo; `NemoRecogniser.setup()` does.
"""

from curate.asr.checkpoint import check_model
from curate.asr.memory import DeviceMemory, HasGpu, MemoryPeak, SupportsCudaGraphs, SupportsMemoryStats
from curate.asr.nemo import NemoRecogniser
from curate.asr.recogniser import Recogniser, SupportsAsyncDecoding, SupportsStaging, Transcript, Word
from curate.gpu_errors import is_oom

__all__ = [
    "DeviceMemory",
    "HasGpu",
    "MemoryPeak",
    "NemoRecogniser",
    "Recogniser",
    "SupportsAsyncDecoding",
    "SupportsCudaGraphs",
    "SupportsMemoryStats",
    "SupportsStaging",
    "Transcript",
    "Word",
    "check_model",
    "is_oom",
]
