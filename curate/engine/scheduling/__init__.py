"""The scheduler: which batch goes to which worker, and what happens when one dies, hangs or runs out of memory.

It owns the queues, the workers of each hop and their number, deadlines, retries, the isolation of records that kill
their worker, and the inputs that are in flight; a finished input leaves it as `FinishedInputs`.

It runs in the driver's main thread and blocks only in `Transport.wait`. It may not know how a worker is started or
reached (an executor does), what stages compute, or what is done with finished inputs; it never touches the disk.
"""
