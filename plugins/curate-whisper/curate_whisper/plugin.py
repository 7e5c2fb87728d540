"""The hooks by which this distribution registers its recognisers and its engine with curate."""

from __future__ import annotations

from curate.plugin import AudioEngineRef, RecogniserRef, hookimpl


@hookimpl
def curate_recognisers() -> list[RecogniserRef]:
    """Register `whisper` and `openai_whisper`, without importing them."""
    return [
        RecogniserRef(
            name="whisper",
            target="curate_whisper.whisper:WhisperRecogniser",
            summary="Transcribe speech with Whisper through CTranslate2 (faster-whisper): int8, fp16, beam search",
            extra=None,
        ),
        RecogniserRef(
            name="openai_whisper",
            target="curate_whisper.openai_whisper:OpenAIWhisperRecogniser",
            summary="Transcribe speech with OpenAI's Whisper through torch, with batched encoder and decoder",
            extra="torch",
        ),
    ]


@hookimpl
def curate_audio_engines() -> list[AudioEngineRef]:
    """Register `whisper` for `spoken_language`, without importing it."""
    return [
        AudioEngineRef(
            name="whisper",
            target="curate_whisper.spoken_language:WhisperLanguageIdentifier",
            summary="The language that is spoken, by a multilingual Whisper model through CTranslate2",
            stage="spoken_language",
        )
    ]
