"""DNSMOS as an engine for curate: `use: speech_quality` with `engine: dnsmos`.

Importing this package loads neither onnxruntime nor numpy; `DnsmosMeter.setup()` loads the models.
"""
