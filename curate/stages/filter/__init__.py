"""Filters: stages that drop records by the values of their columns."""
