"""The names that corpora have for the columns that stages read, and the suffixes of recordings."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from curate.records import Record

AUDIO_SUFFIXES = frozenset(
    [
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".m4a",
        ".mp4",
        ".aac",
        ".aif",
        ".aiff",
        ".au",
        ".snd",
        ".sph",
        ".w64",
        ".caf",
        ".wma",
        ".webm",
        ".mkv",
        ".amr",
    ]
)
"""How the names of recordings end, in lower case."""

KNOWN_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "text": ("sentence", "transcription", "transcript", "normalized_text", "raw_transcription", "raw_text"),
        "speaker": ("speaker_id", "client_id", "spk", "spk_id"),
        "lang": ("language", "locale", "lang_id", "language_id"),
        "duration": ("audio_duration", "length_s", "duration_s"),
        "gender": ("genders", "sex"),
    }
)
"""A column that stages read → the names that corpora give it, in the order in which they are looked for."""


def with_known_names(record: Record) -> Record:
    """Return a record in which the columns that stages read have their names, where a corpus has others."""
    new = {
        old: name
        for name, others in KNOWN_NAMES.items()
        if name not in record
        for old in [next((other for other in others if other in record), None)]
        if old is not None
    }
    return {new.get(name, name): value for name, value in record.items()} if new else record
