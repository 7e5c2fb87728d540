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
    from curate.stages.measure.audio_events import AudioEvents
    from curate.stages.measure.audio_profile import AudioProfile
    from curate.stages.measure.bandwidth import AudioBandwidth
    from curate.stages.measure.cluster_speakers import ClusterSpeakers
    from curate.stages.measure.denoise import Denoise
    from curate.stages.measure.levels import AudioLevels
    from curate.stages.measure.normalise_loudness import NormaliseLoudness
    from curate.stages.measure.pitch import VoicePitch
    from curate.stages.measure.snr import SpeechSnr
    from curate.stages.measure.speakers import SpeakerConsistency, SpeakerEmbedding
    from curate.stages.measure.speech_quality import SpeechQuality
    from curate.stages.measure.spoken_language import SpokenLanguage
    from curate.stages.recognise.agreement import Agreement
    from curate.stages.recognise.align import Align
    from curate.stages.recognise.asr import AsrStage, DynamicBatchAsrStage, InferenceAsrNemoStage
    from curate.stages.recognise.asr_within_memory import AsrWithinMemory
    from curate.stages.recognise.select_best import SelectBest
    from curate.stages.segment.join_parts import JoinParts
    from curate.stages.segment.pack_utterances import PackUtterances
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
    from curate.stages.write.audio_files import AudioFilesWriter
    from curate.stages.write.hugging_face import HuggingFaceWriter
    from curate.stages.write.kaldi import KaldiWriter
    from curate.stages.write.merge import Merge
    from curate.stages.write.nemo_tarred import NemoTarredWriter
    from curate.stages.write.shar import SharWriter
    from curate.stages.write.subtitles import SubtitlesWriter
    from curate.stages.write.webdataset import WebDatasetWriter

_HOME = {
    "Agreement": "recognise.agreement",
    "Align": "recognise.align",
    "AsrStage": "recognise.asr",
    "AsrWithinMemory": "recognise.asr_within_memory",
    "AudioBandwidth": "measure.bandwidth",
    "AudioDuration": "measure.audio_duration",
    "AudioEvents": "measure.audio_events",
    "AudioFilesWriter": "write.audio_files",
    "AudioLevels": "measure.levels",
    "AudioProfile": "measure.audio_profile",
    "Balance": "corpus.balance",
    "CharacterErrorRate": "text.error_rates",
    "Charset": "text.charset",
    "ClusterSpeakers": "measure.cluster_speakers",
    "CommonVoiceReader": "sources.common_voice",
    "Deduplicate": "corpus.deduplicate",
    "Denoise": "measure.denoise",
    "DynamicBatchAsrStage": "recognise.asr",
    "FolderReader": "sources.folder",
    "Hallucination": "text.hallucination",
    "HuggingFaceReader": "sources.hugging_face",
    "HuggingFaceWriter": "write.hugging_face",
    "InferenceAsrNemoStage": "recognise.asr",
    "InverseNormalise": "text.rewrite",
    "JoinParts": "segment.join_parts",
    "JoinTable": "corpus.join_table",
    "KaldiReader": "sources.kaldi",
    "KaldiWriter": "write.kaldi",
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
    "PackUtterances": "segment.pack_utterances",
    "Partition": "sources.partition",
    "Punctuate": "text.rewrite",
    "QualityFilter": "filter.quality",
    "RateOutliers": "corpus.outliers",
    "ReadManifest": "sources.manifest",
    "ReadRecords": "sources.manifest",
    "Sample": "corpus.sample",
    "SegmentsReader": "sources.segments",
    "SelectBest": "recognise.select_best",
    "SetColumns": "corpus.set_columns",
    "SharWriter": "write.shar",
    "Shuffle": "corpus.shuffle",
    "Sort": "corpus.sort",
    "SpeakerConsistency": "measure.speakers",
    "SpeakerEmbedding": "measure.speakers",
    "SpeechQuality": "measure.speech_quality",
    "SpeechSnr": "measure.snr",
    "SplitChannels": "segment.split_channels",
    "SplitDataset": "corpus.split_dataset",
    "SplitSentences": "segment.split_sentences",
    "SplitSpeech": "segment.split_speech",
    "SplitTurns": "segment.split_turns",
    "SplitWindows": "segment.split_windows",
    "SpokenLanguage": "measure.spoken_language",
    "SubtitlesWriter": "write.subtitles",
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
    "Agreement",
    "Align",
    "AsrStage",
    "AsrWithinMemory",
    "AudioBandwidth",
    "AudioDuration",
    "AudioEvents",
    "AudioFilesWriter",
    "AudioLevels",
    "AudioProfile",
    "Balance",
    "CharacterErrorRate",
    "Charset",
    "ClusterSpeakers",
    "CommonVoiceReader",
    "Deduplicate",
    "Denoise",
    "DynamicBatchAsrStage",
    "FolderReader",
    "Hallucination",
    "HuggingFaceReader",
    "HuggingFaceWriter",
    "InferenceAsrNemoStage",
    "InverseNormalise",
    "JoinParts",
    "JoinTable",
    "KaldiReader",
    "KaldiWriter",
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
    "PackUtterances",
    "Partition",
    "Punctuate",
    "QualityFilter",
    "RateOutliers",
    "ReadManifest",
    "ReadRecords",
    "Sample",
    "SegmentsReader",
    "SelectBest",
    "SetColumns",
    "SharWriter",
    "Shuffle",
    "Sort",
    "SpeakerConsistency",
    "SpeakerEmbedding",
    "SpeechQuality",
    "SpeechSnr",
    "SplitChannels",
    "SplitDataset",
    "SplitSentences",
    "SplitSpeech",
    "SplitTurns",
    "SplitWindows",
    "SpokenLanguage",
    "SubtitlesWriter",
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
