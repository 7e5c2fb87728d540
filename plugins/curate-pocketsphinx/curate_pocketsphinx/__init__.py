"""PocketSphinx as a recogniser for curate: `use: asr` with `recogniser: pocketsphinx`.

Importing this package loads neither pocketsphinx nor numpy; `curate_pocketsphinx.recogniser` loads numpy, and
`PocketSphinxRecogniser.setup()` the decoder and its models.
"""
