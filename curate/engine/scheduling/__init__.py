"""Keeps workers busy: queues, deadlines, crash isolation, and the inputs that are in flight."""
