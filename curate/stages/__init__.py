"""The built-in stages of pipelines. Each is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from curate.suggest import closest

if TYPE_CHECKING:
    from curate.stages.corpus.deduplicate import Deduplicate
    from curate.stages.corpus.set_columns import SetColumns
    from curate.stages.corpus.split_dataset import SplitDataset
    from curate.stages.filter.quality import QualityFilter, ValueFilter
    from curate.stages.measure.audio_duration import AudioDuration
    from curate.stages.measure.bandwidth import AudioBandwidth
    from curate.stages.measure.levels import AudioLevels
    from curate.stages.measure.pitch import VoicePitch
    from curate.stages.measure.snr import SpeechSnr
    from curate.stages.recognise.asr import AsrStage, DynamicBatchAsrStage, InferenceAsrNemoStage
    from curate.stages.segment.split_channels import SplitChannels
    from curate.stages.sources.manifest import ReadManifest, ReadRecords
    from curate.stages.sources.manifest_source import ManifestSource
    from curate.stages.sources.partition import Partition
    from curate.stages.text.charset import Charset
    from curate.stages.text.error_rates import CharacterErrorRate, WordErrorRate
    from curate.stages.text.hallucination import Hallucination
    from curate.stages.text.language import TextLanguage
    from curate.stages.text.normalise import NormaliseText
    from curate.stages.text.rates import TextRates
    from curate.stages.text.rewrite import InverseNormalise, Punctuate
    from curate.stages.write.merge import Merge
    from curate.stages.write.nemo_tarred import NemoTarredWriter
    from curate.stages.write.webdataset import WebDatasetWriter

_HOME = {
    "AsrStage": "recognise.asr",
    "AudioBandwidth": "measure.bandwidth",
    "AudioDuration": "measure.audio_duration",
    "AudioLevels": "measure.levels",
    "CharacterErrorRate": "text.error_rates",
    "Charset": "text.charset",
    "Deduplicate": "corpus.deduplicate",
    "DynamicBatchAsrStage": "recognise.asr",
    "Hallucination": "text.hallucination",
    "InferenceAsrNemoStage": "recognise.asr",
    "InverseNormalise": "text.rewrite",
    "ManifestSource": "sources.manifest_source",
    "Merge": "write.merge",
    "NemoTarredWriter": "write.nemo_tarred",
    "NormaliseText": "text.normalise",
    "Partition": "sources.partition",
    "Punctuate": "text.rewrite",
    "QualityFilter": "filter.quality",
    "ReadManifest": "sources.manifest",
    "ReadRecords": "sources.manifest",
    "SetColumns": "corpus.set_columns",
    "SpeechSnr": "measure.snr",
    "SplitChannels": "segment.split_channels",
    "SplitDataset": "corpus.split_dataset",
    "TextLanguage": "text.language",
    "TextRates": "text.rates",
    "ValueFilter": "filter.quality",
    "VoicePitch": "measure.pitch",
    "WebDatasetWriter": "write.webdataset",
    "WordErrorRate": "text.error_rates",
}

__all__ = [
    "AsrStage",
    "AudioBandwidth",
    "AudioDuration",
    "AudioLevels",
    "CharacterErrorRate",
    "Charset",
    "Deduplicate",
    "DynamicBatchAsrStage",
    "Hallucination",
    "InferenceAsrNemoStage",
    "InverseNormalise",
    "ManifestSource",
    "Merge",
    "NemoTarredWriter",
    "NormaliseText",
    "Partition",
    "Punctuate",
    "QualityFilter",
    "ReadManifest",
    "ReadRecords",
    "SetColumns",
    "SpeechSnr",
    "SplitChannels",
    "SplitDataset",
    "TextLanguage",
    "TextRates",
    "ValueFilter",
    "VoicePitch",
    "WebDatasetWriter",
    "WordErrorRate",
]


if not TYPE_CHECKING:  # a type checker would take any name for a known one

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'curate.stages' has no attribute {name!r}: {closest(name, __all__)}")
        value = getattr(importlib.import_module(f"curate.stages.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return list(__all__)
