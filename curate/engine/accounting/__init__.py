"""Counts of records and audio, the reasons for which records left a run, and the flow through its stages.

It owns the identity that every run must satisfy (`RecordCounts.check`), the settled inputs that it is computed from
(`FinishedInputs`) and the function that follows records through stages (`follow_stages`).

Everything here is plain data and arithmetic: it runs in the driver's thread while a run is at work, and in any process
that reads a run directory later. It may not know how records are scheduled, where they are stored, or how their counts
are shown.
"""
