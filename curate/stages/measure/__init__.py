"""Measures: stages that write properties of the audio signal."""
