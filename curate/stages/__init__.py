"""The built-in stages of pipelines. Each is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from curate.suggest import unknown_attribute

if TYPE_CHECKING:
    from curate.stages.corpus.balance import Balance
    from curate.stages.corpus.deduplicate import Deduplicate
    from curate.stages.corpus.join_table import JoinTable
    from curate.stages.corpus.outliers import RateOutliers
    from curate.stages.corpus.sample import Sample
    from curate.stages.corpus.set_columns import SetColumns
    from curate.stages.corpus.shuffle import Shuffle
    from curate.stages.corpus.sort import Sort
    from curate.stages.corpus.split_dataset import SplitDataset
    from curate.stages.filter.quality import QualityFilter, ValueFilter
    from curate.stages.measure.audio_duration import AudioDuration
    from curate.stages.measure.audio_profile import AudioProfile
    from curate.stages.measure.bandwidth import AudioBandwidth
    from curate.stages.measure.denoise import Denoise
    from curate.stages.measure.levels import AudioLevels
    from curate.stages.measure.normalise_loudness import NormaliseLoudness
    from curate.stages.measure.pitch import VoicePitch
    from curate.stages.measure.snr import SpeechSnr
    from curate.stages.recognise.asr import AsrStage, DynamicBatchAsrStage, InferenceAsrNemoStage
    from curate.stages.recognise.asr_within_memory import AsrWithinMemory
    from curate.stages.segment.join_parts import JoinParts
    from curate.stages.segment.split_channels import SplitChannels
    from curate.stages.segment.split_sentences import SplitSentences
    from curate.stages.segment.split_speech import SplitSpeech
    from curate.stages.segment.split_turns import SplitTurns
    from curate.stages.segment.split_windows import SplitWindows
    from curate.stages.segment.trim_silence import TrimSilence
    from curate.stages.segment.voice_activity import VoiceActivity
    from curate.stages.sources.common_voice import CommonVoiceReader
    from curate.stages.sources.folder import FolderReader
    from curate.stages.sources.hugging_face import HuggingFaceReader
    from curate.stages.sources.kaldi import KaldiReader
    from curate.stages.sources.lhotse_cuts import LhotseReader
    from curate.stages.sources.librispeech import LibriSpeechReader, LjSpeechReader
    from curate.stages.sources.manifest import ReadManifest, ReadRecords
    from curate.stages.sources.manifest_source import ManifestSource
    from curate.stages.sources.mix import MixReader
    from curate.stages.sources.nemo_tarred import NemoTarredReader
    from curate.stages.sources.partition import Partition
    from curate.stages.sources.segments import SegmentsReader
    from curate.stages.sources.webdataset import WebDatasetReader
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
    "AsrWithinMemory": "recognise.asr_within_memory",
    "AudioBandwidth": "measure.bandwidth",
    "AudioDuration": "measure.audio_duration",
    "AudioLevels": "measure.levels",
    "AudioProfile": "measure.audio_profile",
    "Balance": "corpus.balance",
    "CharacterErrorRate": "text.error_rates",
    "Charset": "text.charset",
    "CommonVoiceReader": "sources.common_voice",
    "Deduplicate": "corpus.deduplicate",
    "Denoise": "measure.denoise",
    "DynamicBatchAsrStage": "recognise.asr",
    "FolderReader": "sources.folder",
    "Hallucination": "text.hallucination",
    "HuggingFaceReader": "sources.hugging_face",
    "InferenceAsrNemoStage": "recognise.asr",
    "InverseNormalise": "text.rewrite",
    "JoinParts": "segment.join_parts",
    "JoinTable": "corpus.join_table",
    "KaldiReader": "sources.kaldi",
    "LhotseReader": "sources.lhotse_cuts",
    "LibriSpeechReader": "sources.librispeech",
    "LjSpeechReader": "sources.librispeech",
    "ManifestSource": "sources.manifest_source",
    "Merge": "write.merge",
    "MixReader": "sources.mix",
    "NemoTarredReader": "sources.nemo_tarred",
    "NemoTarredWriter": "write.nemo_tarred",
    "NormaliseLoudness": "measure.normalise_loudness",
    "NormaliseText": "text.normalise",
    "Partition": "sources.partition",
    "Punctuate": "text.rewrite",
    "QualityFilter": "filter.quality",
    "RateOutliers": "corpus.outliers",
    "ReadManifest": "sources.manifest",
    "ReadRecords": "sources.manifest",
    "Sample": "corpus.sample",
    "SegmentsReader": "sources.segments",
    "SetColumns": "corpus.set_columns",
    "Shuffle": "corpus.shuffle",
    "Sort": "corpus.sort",
    "SpeechSnr": "measure.snr",
    "SplitChannels": "segment.split_channels",
    "SplitDataset": "corpus.split_dataset",
    "SplitSentences": "segment.split_sentences",
    "SplitSpeech": "segment.split_speech",
    "SplitTurns": "segment.split_turns",
    "SplitWindows": "segment.split_windows",
    "TextLanguage": "text.language",
    "TextRates": "text.rates",
    "TrimSilence": "segment.trim_silence",
    "ValueFilter": "filter.quality",
    "VoiceActivity": "segment.voice_activity",
    "VoicePitch": "measure.pitch",
    "WebDatasetReader": "sources.webdataset",
    "WebDatasetWriter": "write.webdataset",
    "WordErrorRate": "text.error_rates",
}

__all__ = [
    "AsrStage",
    "AsrWithinMemory",
    "AudioBandwidth",
    "AudioDuration",
    "AudioLevels",
    "AudioProfile",
    "Balance",
    "CharacterErrorRate",
    "Charset",
    "CommonVoiceReader",
    "Deduplicate",
    "Denoise",
    "DynamicBatchAsrStage",
    "FolderReader",
    "Hallucination",
    "HuggingFaceReader",
    "InferenceAsrNemoStage",
    "InverseNormalise",
    "JoinParts",
    "JoinTable",
    "KaldiReader",
    "LhotseReader",
    "LibriSpeechReader",
    "LjSpeechReader",
    "ManifestSource",
    "Merge",
    "MixReader",
    "NemoTarredReader",
    "NemoTarredWriter",
    "NormaliseLoudness",
    "NormaliseText",
    "Partition",
    "Punctuate",
    "QualityFilter",
    "RateOutliers",
    "ReadManifest",
    "ReadRecords",
    "Sample",
    "SegmentsReader",
    "SetColumns",
    "Shuffle",
    "Sort",
    "SpeechSnr",
    "SplitChannels",
    "SplitDataset",
    "SplitSentences",
    "SplitSpeech",
    "SplitTurns",
    "SplitWindows",
    "TextLanguage",
    "TextRates",
    "TrimSilence",
    "ValueFilter",
    "VoiceActivity",
    "VoicePitch",
    "WebDatasetReader",
    "WebDatasetWriter",
    "WordErrorRate",
]


if not TYPE_CHECKING:  # a type checker would take any name for a known one

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise unknown_attribute(__name__, name, __all__)
        value = getattr(importlib.import_module(f"curate.stages.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return list(__all__)
