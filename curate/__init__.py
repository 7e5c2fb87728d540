"""Turns piles of recorded speech into clean training data.

    from curate import Pipeline
    from curate.stages import ReadManifest, InferenceAsrNemoStage, WordErrorRate, QualityFilter, Merge

Everything is loaded when it is first used, so that `import curate` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from loguru import logger

from curate._version import __version__
from curate.suggest import unknown_attribute

if TYPE_CHECKING:
    from curate.audio import AudioSettings
    from curate.audio_stage import AudioStage
    from curate.composite import CompositeStage
    from curate.errors import CurateError, InfrastructureError, RecordError, UsageError
    from curate.pipeline import Pipeline
    from curate.records import AudioBatch
    from curate.resources import Resources
    from curate.stage import (
        Gather,
        Partitioner,
        ProcessingStage,
        RecordStage,
        Reject,
        Source,
        Writer,
    )
    from curate.stage_decorator import processing_stage

_HOME = {
    "AudioBatch": "curate.records",
    "AudioSettings": "curate.audio",
    "AudioStage": "curate.audio_stage",
    "CompositeStage": "curate.composite",
    "CurateError": "curate.errors",
    "Gather": "curate.stage",
    "InfrastructureError": "curate.errors",
    "Partitioner": "curate.stage",
    "Pipeline": "curate.pipeline",
    "ProcessingStage": "curate.stage",
    "RecordError": "curate.errors",
    "RecordStage": "curate.stage",
    "Reject": "curate.stage",
    "Resources": "curate.resources",
    "Source": "curate.stage",
    "UsageError": "curate.errors",
    "Writer": "curate.stage",
    "processing_stage": "curate.stage_decorator",
}

__all__ = [
    "AudioBatch",
    "AudioSettings",
    "AudioStage",
    "CompositeStage",
    "CurateError",
    "Gather",
    "InfrastructureError",
    "Partitioner",
    "Pipeline",
    "ProcessingStage",
    "RecordError",
    "RecordStage",
    "Reject",
    "Resources",
    "Source",
    "UsageError",
    "Writer",
    "__version__",
    "processing_stage",
]

logger.disable("curate")  # a library leaves logging to the program; the command line enables it


if not TYPE_CHECKING:  # a type checker would take any name for a known one

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise unknown_attribute(__name__, name, __all__)
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return list(__all__)
