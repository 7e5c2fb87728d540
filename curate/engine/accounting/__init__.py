"""Counts of records and audio, and the reasons for which records left a run."""
