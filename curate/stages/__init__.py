"""The stages that a user composes. Each is loaded when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.stages.asr import AsrStage, DynamicBatchAsrStage, InferenceAsrNemoStage
    from curate.stages.duration import AudioDuration
    from curate.stages.error_rate import CharacterErrorRate, WordErrorRate
    from curate.stages.merge import Merge
    from curate.stages.partition import Partition
    from curate.stages.quality import QualityFilter, ValueFilter
    from curate.stages.read import ReadManifest, ReadRecords

_HOME = {
    "AsrStage": "asr",
    "AudioDuration": "duration",
    "CharacterErrorRate": "error_rate",
    "DynamicBatchAsrStage": "asr",
    "InferenceAsrNemoStage": "asr",
    "Merge": "merge",
    "Partition": "partition",
    "QualityFilter": "quality",
    "ReadManifest": "read",
    "ReadRecords": "read",
    "ValueFilter": "quality",
    "WordErrorRate": "error_rate",
}

__all__ = [
    "AsrStage",
    "AudioDuration",
    "CharacterErrorRate",
    "DynamicBatchAsrStage",
    "InferenceAsrNemoStage",
    "Merge",
    "Partition",
    "QualityFilter",
    "ReadManifest",
    "ReadRecords",
    "ValueFilter",
    "WordErrorRate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'curate.stages' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"curate.stages.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
