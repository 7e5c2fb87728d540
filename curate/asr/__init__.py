"""Speech recognisers: models over audio that write `text`, and the engine that runs NeMo models.

Importing this package loads neither numpy nor torch nor NeMo; `NemoRecogniser.setup()` does.
"""

from curate.asr.checkpoint import check_model
from curate.asr.nemo import NemoRecogniser
from curate.asr.recogniser import Transcript, Word, transcript_columns
from curate.asr.word_timestamps import Token, fold_ctc, place_words
from curate.gpu_errors import is_oom

__all__ = [
    "NemoRecogniser",
    "Token",
    "Transcript",
    "Word",
    "check_model",
    "fold_ctc",
    "is_oom",
    "place_words",
    "transcript_columns",
]

_MOVED = {
    "DeviceMemory": "curate.models.DeviceMemory",
    "MemoryPeak": "curate.models.MemoryPeak",
}
_GONE = {
    "Recogniser",
    "HasGpu",
    "SupportsAsyncDecoding",
    "SupportsCudaGraphs",
    "SupportsMemoryStats",
    "SupportsStaging",
}


def __getattr__(name: str) -> object:
    """Explain the names of the earlier interface of recognisers."""
    if name in _MOVED:
        raise ImportError(f"curate.asr.{name} is now {_MOVED[name]}")
    if name in _GONE:
        from curate.models.model import HOW_TO_WRITE

        raise ImportError(
            f"curate.asr.{name} belongs to the earlier interface of recognisers. A recogniser is now a "
            f"curate.models.AudioModel:\n\n{HOW_TO_WRITE.format(name='MyRecogniser')}"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
