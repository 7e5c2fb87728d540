"""Runs fused stages on a batch inside a worker, and isolates the record that a failure belongs to."""
