"""The driver's end of a worker process: it starts the process, writes and reads without blocking, and kills it."""

from __future__ import annotations

import array
import fcntl
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from loguru import logger

import curate
from curate.engine.protocol.activity import SharedActivity, read_activity
from curate.engine.protocol.messages import BatchTask, RecordsAnnounced, WorkerDied
from curate.engine.protocol.transport import Unsendable
from curate.errors import InfrastructureError
from curate.executors.framing import CHUNK, Frame, Frames, FrameType, framed, header
from curate.executors.worker_payload import WorkerPayload

_TAIL = 8192
"""The size of the end of a worker's standard error that is kept, in bytes."""

_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

_ENDS_BATCH = (FrameType.DONE, FrameType.UNREADABLE)

_THREAD_POOLS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")


class WorkerProcess:
    """One worker process.

    Args:
        number: the worker's number, for the events.
        parcel: its payload.
        environment: variables of the process, in addition to the driver's.
    """

    def __init__(self, number: int, parcel: WorkerPayload, environment: Mapping[str, str]) -> None:
        self.number = number
        self.busy = 0
        self.is_set_up = False
        """The number of its unfinished batches."""
        self.has_closed = False
        """Whether its end of the socket is closed, so that it is about to exit."""
        self.output_ended = False
        """Whether nothing holds the other end of its standard output and error any more."""
        self._ended_by_driver = ""
        self._tail = bytearray()
        self._line = bytearray()
        self._frames = Frames()
        self._out: list[memoryview] = []
        self._hop = parcel.hop
        self._size = 8 * SharedActivity.words_for(parcel.count)
        self._page_file = tempfile.TemporaryFile(prefix="curate-page-")  # noqa: SIM115 (closed by `died`)
        self._page_file.truncate(self._size)
        self._page = mmap.mmap(self._page_file.fileno(), self._size)
        self._looked = bytes(8)
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        self.output, their_output = os.pipe()
        os.set_blocking(self.output, False)
        descriptors = theirs.fileno(), self._page_file.fileno()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "curate.executors.worker_main", *map(str, descriptors)],
                stdin=subprocess.DEVNULL,
                stdout=their_output,
                stderr=their_output,
                pass_fds=descriptors,
                env={**os.environ, "PYTHONPATH": _python_path(), **environment},
                process_group=0,  # its child processes can then be killed with it
            )
        except OSError as error:
            raise InfrastructureError(f"a worker process cannot be started: {error}") from error
        finally:
            theirs.close()
            os.close(their_output)
        self.exit_descriptor = os.pidfd_open(self._process.pid) if hasattr(os, "pidfd_open") else None
        for kind, message in ((FrameType.PATH, parcel.sys_path), (FrameType.PAYLOAD, parcel)):
            self._out.append(memoryview(framed(kind, pickle.dumps(message, 5))))

    def descriptors(self) -> Iterator[tuple[Any, Literal["socket", "output", "exit"]]]:
        """Yield the descriptors to wait for, with their meaning."""
        if not self.has_closed:
            yield self.socket, "socket"
        if not self.output_ended:
            yield self.output, "output"
        if self.exit_descriptor is not None:
            yield self.exit_descriptor, "exit"

    def put(self, number: int, payload: bytes) -> None:
        """Queue a pickled batch under its number; `flush` sends it."""
        self._out += [memoryview(header(FrameType.TASK, number, len(payload))), memoryview(payload)]
        self.busy += 1

    def flush(self) -> bool:
        """Send as much as the socket accepts now; return whether bytes are left."""
        while self._out:
            try:
                sent = self.socket.sendmsg(self._out[:16])
            except BlockingIOError:
                return True
            except OSError:  # the worker has ended, which `wait` detects
                self._out.clear()
                break
            while sent:
                first = self._out[0]
                if sent < len(first):
                    self._out[0] = first[sent:]
                    break
                sent -= len(first)
                del self._out[0]
        return False

    def receive(self) -> Iterator[Frame]:
        """Yield the frames received since the last call.

        Raises:
            EOFError: the worker has closed its end.
        """
        yield from self._receive(CHUNK)

    def _receive(self, size: int) -> Iterator[Frame]:
        try:
            received = self.socket.recv(size)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self.has_closed = True
            raise EOFError
        for frame in self._frames.feed(received):
            if frame[0] in _ENDS_BATCH:
                self.busy -= 1
            elif frame[0] is FrameType.READY:
                self.is_set_up = True
            yield frame

    def read_output(self, size: int = CHUNK) -> int:
        """Read and log at most `size` bytes of the worker's standard output and error, and return their number.

        One read a turn: a process that prints without end keeps nothing else from being received.
        """
        try:
            printed = os.read(self.output, size)
        except BlockingIOError:
            return 0
        if not printed:
            self.output_ended = True
            return 0
        self._tail = (self._tail + printed)[-_TAIL:]
        *lines, self._line = (self._line + printed).split(b"\n")
        self._line = self._line[-_TAIL:]
        for line in lines:
            logger.debug("{} printed: {}", self._hop, line.decode(errors="replace"))
        return len(printed)

    def look(self) -> RecordsAnnounced | None:
        """Return the records that the worker has announced, if they have changed since the last call."""
        seen = self._page[:]
        if seen == self._looked:
            return None
        self._looked = seen
        number, announced = read_activity(memoryview(seen).cast("Q"))
        return RecordsAnnounced(self.number, number, announced) if number else None

    def rest(self) -> Iterator[Frame]:
        """Yield the remaining frames of a worker that has ended: what is there now.

        A process that the worker has left behind may hold the other end, so that the end of the stream never comes.
        """
        left = 0 if self.has_closed else _readable_bytes(self.socket.fileno())
        while left > 0:
            size = min(left, CHUNK)
            try:
                yield from self._receive(size)
            except EOFError:
                return
            left -= size

    def reap(self) -> WorkerDied:
        """Wait for the ended worker, release its resources, and return how it ended."""
        self.kill()
        code = self._process.wait()
        left = 0 if self.output_ended else _readable_bytes(self.output)
        while left > 0 and (read := self.read_output(min(left, CHUNK))):
            left -= read
        tail = self._tail.decode(errors="replace").strip()
        self._close()
        ended = self._ended_by_driver or _ended(code)
        from_outside = -code in _FROM_OUTSIDE and not self._ended_by_driver
        return WorkerDied(self.number, f"{ended}\n{tail}" if tail else ended, from_outside)

    def await_exit(self, timeout_s: float) -> None:
        """Wait for the worker's exit, for at most `timeout_s`; one that has not exited then is ended."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.end_stuck()

    def end_stuck(self) -> None:
        """Kill a worker that has closed its connection and does not exit; its `WorkerDied` then says so."""
        self._ended_by_driver = "it closed its connection to the driver, did not exit, and was killed by the driver"
        self.kill()

    def end(self) -> None:
        """Ask the worker to tear down its stages and exit, even during a batch."""
        if self.busy or not self.is_set_up:
            self._process.terminate()
        else:
            self._out.append(memoryview(header(FrameType.END)))
            self.flush()

    def kill(self) -> None:
        """Kill the process and its child processes; does nothing for those that have ended."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _close(self) -> None:
        self.socket.close()
        os.close(self.output)
        if self.exit_descriptor is not None:
            os.close(self.exit_descriptor)
        self._page.close()
        self._page_file.close()


def pickled(work: BatchTask) -> bytes:
    """Return a pickled batch.

    Raises:
        Unsendable: the batch contains a value that cannot be pickled.
    """
    try:
        return pickle.dumps(work, 5)
    except Exception as error:
        raise Unsendable(f"{type(error).__name__}: {error}") from error


def pinned(cpus: float, gpus: Sequence[str], *, shares_gpu: bool = False) -> dict[str, str]:
    """Return the environment variables that restrict a worker to its cores and its GPUs.

    Args:
        cpus: the number of cores.
        gpus: the ids of the GPUs, as CUDA_VISIBLE_DEVICES lists them.
        shares_gpu: whether other workers use the same GPU; the allocator then avoids fragments, which would keep
            memory from its neighbours.
    """
    threads = str(max(1, int(cpus)))
    environment = {f"{name}_NUM_THREADS": threads for name in _THREAD_POOLS}
    environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi numbers them; CUDA's own order is by speed
    if shares_gpu and not any(name in os.environ for name in _ALLOCATOR_VARIABLES):
        environment[_ALLOCATOR_VARIABLES[0]] = "expandable_segments:True"
    return environment


_ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")


def _python_path() -> str:
    """Return the PYTHONPATH with which a worker finds this curate."""
    own = str(Path(curate.__file__).parent.parent)
    before = os.environ.get("PYTHONPATH")
    return own if not before else f"{own}{os.pathsep}{before}"


def _readable_bytes(descriptor: int) -> int:
    """Return how many bytes can be read from a pipe or socket now."""
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


def _ended(code: int) -> str:
    """Say how a process ended, and whether by itself."""
    if code >= 0:
        return f"it ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code in _FROM_OUTSIDE:
        return f"killed from outside by {name}"
    return f"it crashed by itself with {name}"
