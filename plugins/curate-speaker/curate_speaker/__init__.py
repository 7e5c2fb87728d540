"""Speaker embeddings for curate: `speaker_embedding` and `speaker_consistency` with `engine: resemblyzer`.

Importing this package loads neither torch nor numpy; `ResemblyzerEncoder.setup()` loads the model.
"""
