"""PocketSphinx as a recogniser for curate: `engine: pocketsphinx`.

Importing this package loads neither pocketsphinx nor numpy; `curate_pocketsphinx.recogniser` loads numpy, and
`PocketSphinxRecogniser.setup()` the decoder and its models.
"""
