"""Stages that make several records of one recording."""
