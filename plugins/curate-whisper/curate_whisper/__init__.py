"""Whisper as a recogniser for curate: `use: asr` with `recogniser: whisper`, or `openai_whisper`.

Importing this package loads neither faster-whisper nor torch; `setup()` of a recogniser does.
"""
