"""Commits finished inputs to the run directory, and finds out which commits are current when a run resumes."""
