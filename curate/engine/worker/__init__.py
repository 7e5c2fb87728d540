"""The stages of one hop at work, one batch at a time.

It owns the contract between a stage and the engine: it hands records to stages, checks what comes back against their
cardinality, isolates the record that raises, and collects outcomes with timings and measures.

It runs in a worker: in the driver's own thread with `local`, in a child process or a Ray actor otherwise. It may not
know who sends its batches, how many workers there are, whether anything is committed, or that a run directory exists;
it answers with messages of `protocol` and nothing else.
"""
