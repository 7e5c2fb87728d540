"""The Ray actor that runs a worker process on its node and forwards its output."""

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
"""The environment variable with the id of the node on which stages run."""


class RayWorker:
    """The actor: it runs a worker process on its node and forwards its output, undecoded.

    Args:
        parcel: the payload of the worker.
        cpus: the number of cores that it may use.
        look_s: the interval at which the worker's progress is reported.
    """

    def __init__(self, parcel: WorkerPayload, cpus: float, look_s: float) -> None:
        self._processes = ProcessPool()
        self._look_s = look_s
        self._left = 0
        """The number of unfinished batches of the worker process."""
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        environment = pinned(cpus, [gpu for gpu in gpus.split(",") if gpu])
        environment[NODE_VARIABLE] = import_ray().get_runtime_context().get_node_id()
        self._processes.start(0, parcel, environment)

    def setup(self) -> list[bytes]:
        """Return the output of the set-up, up to its success or failure."""
        outputs: list[WorkerOutput] = []
        while not any(_ends(output, FrameType.READY, FrameType.FAILED) for _, output in outputs):
            outputs.extend(self._processes.wait())
        return [pickle.dumps(outputs, 5)]

    def work(self, batches: Sequence[tuple[int, bytes]]) -> Iterator[bytes]:
        """Yield the worker's output until all batches are done, or the worker has ended."""
        self._send(batches)
        while self._left:
            yield from self._output()

    def work_together(self, batches: Sequence[tuple[int, bytes]]) -> list[bytes]:
        """Return the worker's output when all batches are done, the worker has ended, or `look_s` has passed.

        In the last case, the next call returns the rest.
        """
        self._send(batches)
        output: list[bytes] = []
        end = time.monotonic() + self._look_s
        while self._left and time.monotonic() < end:
            output.extend(self._output())
        return output

    def _send(self, batches: Sequence[tuple[int, bytes]]) -> None:
        for number, payload in batches:
            self._processes.send(0, number, payload)
        self._left += len(batches)

    def _output(self) -> Iterator[bytes]:
        """Wait for at most `look_s`, and yield the worker's output, if there is any."""
        outputs = self._processes.wait(self._look_s)
        for _, output in outputs:
            if _ends(output, FrameType.FAILED):
                self._left = 0
            elif _ends(output, FrameType.DONE, FrameType.UNREADABLE):
                self._left -= 1
        if outputs:
            yield pickle.dumps(outputs, 5)

    def kill(self) -> None:
        """Kill the worker process; the call that waits for it returns its `WorkerDied`."""
        self._processes.kill(0)

    def final_output(self) -> list[bytes]:
        """Return the remaining output of a killed worker."""
        outputs: list[WorkerOutput] = []
        while 0 in self._processes:
            outputs.extend(self._processes.wait())
        return [pickle.dumps(outputs, 5)]

    def close(self) -> list[bytes]:
        """Let the worker tear down its stages, and return its last output."""
        return [pickle.dumps(self._processes.close(), 5)]


def _ends(output: Frame | RecordsAnnounced | WorkerDied, *kinds: FrameType) -> bool:
    """Return whether an output is a frame of one of these types, or the worker's end."""
    return isinstance(output, WorkerDied) or (isinstance(output, tuple) and output[0] in kinds)
