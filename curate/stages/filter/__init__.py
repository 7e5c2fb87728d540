"""Filters by the values of columns."""
