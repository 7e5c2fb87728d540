"""Recognisers: stages that transcribe speech."""
