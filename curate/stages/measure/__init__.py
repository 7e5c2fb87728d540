"""Measures of a signal."""
