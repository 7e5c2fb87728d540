"""Opening, checking, decoding, resampling and prefetching of audio files, on top of soundfile and soxr.

    probe        length, rate and format of a file, without its samples
    load         a file or a segment as float32 mono
    load_record  the same for a record of a manifest
    load_ahead   records with their samples, decoded in the background

A fault of one file is a `RecordError`; a fault that would hit the next file as well is an `InfrastructureError`.
Importing this package imports neither soundfile nor soxr nor numpy.
"""

from curate.audio.audio import DEFAULT_MAX_DURATION_S, DEFAULT_RATE_HZ, Audio, AudioLength
from curate.audio.cache import DEFAULT_CACHE_BYTES, RecordingCache
from curate.audio.decode import AudioInfo, load, load_record, probe
from curate.audio.prefetch import ASSUMED_DURATION_S, DEFAULT_MAX_AUDIO_S, load_ahead
from curate.audio.settings import DEFAULT_AUDIO_SETTINGS, AudioSettings
from curate.audio.spool import DEFAULT_SPOOL_BYTES, Spool, TemporarySpool

__all__ = [
    "ASSUMED_DURATION_S",
    "DEFAULT_AUDIO_SETTINGS",
    "DEFAULT_CACHE_BYTES",
    "DEFAULT_MAX_AUDIO_S",
    "DEFAULT_MAX_DURATION_S",
    "DEFAULT_RATE_HZ",
    "DEFAULT_SPOOL_BYTES",
    "Audio",
    "AudioInfo",
    "AudioLength",
    "AudioSettings",
    "RecordingCache",
    "Spool",
    "TemporarySpool",
    "load",
    "load_ahead",
    "load_record",
    "probe",
]
