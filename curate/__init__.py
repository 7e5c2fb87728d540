"""Turns piles of recorded speech into clean training data.

    from curate import Pipeline
    from curate.stages import ReadManifest, InferenceAsrNemoStage, WordErrorRate, QualityFilter, Merge

Everything is loaded when it is first used, so that `import curate` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from loguru import logger

if TYPE_CHECKING:
    from curate.errors import CurateError, InfrastructureError, RecordError, UsageError
    from curate.pipeline import Pipeline
    from curate.records import AudioBatch
    from curate.resources import Resources
    from curate.stage import (
        CompositeStage,
        Gather,
        Partitioner,
        ProcessingStage,
        RecordStage,
        Reject,
        Source,
        Writer,
    )
    from curate.stage_decorator import processing_stage

__version__ = "0.1.0.dev0"

_HOME = {
    "AudioBatch": "curate.records",
    "CompositeStage": "curate.stage",
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
    "processing_stage",
]

logger.disable("curate")  # a library leaves logging to the program; the command line enables it


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'curate' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
