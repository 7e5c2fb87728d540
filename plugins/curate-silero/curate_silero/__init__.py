"""Silero VAD as a voice detector for curate: `use: voice_activity` with `engine: silero`.

Importing this package loads neither onnxruntime nor numpy; `SileroDetector.setup()` loads the model.
"""
