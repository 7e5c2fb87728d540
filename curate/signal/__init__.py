"""Measures of speech signals, over arrays: levels, loudness, noise, bandwidth, pitch, voice activity.

A meter takes a recording block by block, in memory that is bounded or grows by bytes a second, so that recordings of
many hours can be measured; the figures are rounded, and None where a thing cannot be measured. Importing this package
does not import numpy.
"""

from curate.signal.bandwidth import Bandwidth, BandwidthMeter
from curate.signal.engines import EventDetector, QualityMeter, spread_windows
from curate.signal.levels import LevelMeter, Levels
from curate.signal.loudness import LoudnessMeter
from curate.signal.noise import NoiseMeter, SignalToNoise
from curate.signal.pitch import Pitch, PitchMeter
from curate.signal.voice_activity import Segment, SegmentSettings, VoiceDetector, VoiceSegments, find_segments
from curate.signal.wada import wada_snr_db, wada_table

__all__ = [
    "Bandwidth",
    "BandwidthMeter",
    "EventDetector",
    "LevelMeter",
    "Levels",
    "LoudnessMeter",
    "NoiseMeter",
    "Pitch",
    "PitchMeter",
    "QualityMeter",
    "Segment",
    "SegmentSettings",
    "SignalToNoise",
    "VoiceDetector",
    "VoiceSegments",
    "find_segments",
    "spread_windows",
    "wada_snr_db",
    "wada_table",
]
