"""The actor that holds a worker process on its node, and passes on what it says."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator, Sequence

from curate.engine.protocol.messages import RecordsAnnounced, WorkerDied
from curate.executors.framing import Frame, FrameType
from curate.executors.process_pool import ProcessPool, WorkerOutput
from curate.executors.ray_session import import_ray
from curate.executors.worker_payload import WorkerPayload
from curate.executors.worker_process import pinned

NODE_VARIABLE = "CURATE_RAY_NODE_ID"
"""The environment variable in which stages find the id of the node that they work on."""


class RayWorker:
    """The actor: a worker process on its node, and what it says.

    Args:
        parcel: what the worker is given.
        cpus: cores that it may use.
        look_s: how often to say that the worker has moved on.
    """

    def __init__(self, parcel: WorkerPayload, cpus: float, look_s: float) -> None:
        self._processes = ProcessPool()
        self._look_s = look_s
        self._left = 0
        """How many batches the worker process has."""
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        environment = pinned(cpus, [gpu for gpu in gpus.split(",") if gpu])
        environment[NODE_VARIABLE] = import_ray().get_runtime_context().get_node_id()
        self._processes.start(0, parcel, environment)

    def setup(self) -> list[bytes]:
        """Return how the set-up has ended, and what was said meanwhile."""
        heard: list[WorkerOutput] = []
        while not any(_ends(what, FrameType.READY, FrameType.FAILED) for _, what in heard):
            heard.extend(self._processes.wait())
        return [pickle.dumps(heard, 5)]

    def work(self, batches: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
        """Yield what happens until all batches are done, or the worker is gone."""
        self._take(batches)
        while self._left:
            yield from self._heard()

    def work_at_once(self, batches: Sequence[tuple[int, bytes]]) -> list[bytes]:
        """Return what has happened when all batches are done, or the worker is gone, or it takes longer than thought:
        the next call tells the rest.
        """
        self._take(batches)
        heard: list[bytes] = []
        end = time.monotonic() + self._look_s
        while self._left and time.monotonic() < end:
            heard.extend(self._heard())
        return heard

    def _take(self, batches: Sequence[tuple[int, bytes]]) -> None:
        for number, payload in batches:
            self._processes.send(0, number, payload)
        self._left += len(batches)

    def _heard(self) -> Iterator[bytes]:
        """Wait a moment, and yield what has happened, if anything has."""
        heard = self._processes.wait(self._look_s)
        for _, what in heard:
            if _ends(what, FrameType.FAILED):
                self._left = 0
            elif _ends(what, FrameType.DONE, FrameType.UNREADABLE):
                self._left -= 1
        if heard:
            yield pickle.dumps(heard, 5)

    def kill(self) -> None:
        """Kill the worker process; whoever waits for it hears of it."""
        self._processes.kill(0)

    def final_output(self) -> list[bytes]:
        """Return what is still heard of a worker that is killed."""
        heard: list[WorkerOutput] = []
        while 0 in self._processes:
            heard.extend(self._processes.wait())
        return [pickle.dumps(heard, 5)]

    def close(self) -> None:
        """Let the worker tear down its stages."""
        self._processes.close()


def _ends(what: Frame | RecordsAnnounced | WorkerDied, *kinds: FrameType) -> bool:
    """Return whether this is a frame of one of some kinds, or the worker's end."""
    return isinstance(what, WorkerDied) or (isinstance(what, tuple) and what[0] in kinds)
