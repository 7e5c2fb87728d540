"""Turns piles of recorded speech into clean training data."""

__version__ = "0.1.0.dev0"
