"""Stages that look at all records together: duplicates, splits, order, selections."""
