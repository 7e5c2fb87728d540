"""The exception of a signal that ends the run, other than a `KeyboardInterrupt` that a stage raises by itself."""

from __future__ import annotations


class Interrupted(KeyboardInterrupt):
    """A signal has interrupted this process; a stage does not raise it."""
