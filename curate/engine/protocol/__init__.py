"""The floor of the engine: what the driver and its workers exchange, and what a run reports.

It owns the messages between scheduler and worker, the transport that an executor implements, the shared page through
which a worker announces its records, the events for observers, the options of a run and its states.

Its values are made in the driver and in workers alike; messages cross process boundaries, so they carry records and
never samples, models or callbacks. Its code may not know the scheduler, the worker's stages or the run directory, and
it starts neither threads nor processes.
"""
