"""ASR checkpoints of Hugging Face as a recogniser for curate: `use: asr` with `recogniser: transformers`.

Importing this package loads neither torch nor transformers; `TransformersRecogniser.setup()` does.
"""
