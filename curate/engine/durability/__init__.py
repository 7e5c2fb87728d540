"""The run directory: what is finished stays finished, whatever dies next.

It owns the directory's format: `run.json`, unit files and commits, the positions of records from one phase to the next,
the lock that admits one driver, `state.json`, forks and retries. A commit is one rename; everything else can be lost.

It runs in the driver's main thread, and its heartbeat in a second one; readers in other processes use the same code and
write nothing. It may not know which executor or stage made a result, or in which order results arrived; it never
imports the scheduler or the worker.
"""
