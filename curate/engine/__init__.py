"""The engine: runs a plan, with one scheduler for all executors and a run directory that survives crashes.

docs/architecture.md has the picture of its rooms, its processes and threads, and the states of a record.
"""
