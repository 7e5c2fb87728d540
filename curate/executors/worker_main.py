"""The program that runs in a worker process: `python -m curate.executors.worker_main SOCKET ACTIVITY`.

It receives its payload on the socket, sets up the stages, works on batches until the driver ends it, and dies with its
driver. The records that it is about to touch are announced in shared memory, which costs next to nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import mmap
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

from loguru import logger

from curate.engine.protocol.activity import SharedActivity
from curate.engine.protocol.interrupt import Interrupted
from curate.engine.protocol.messages import BatchTask, PartialResult, Quarantined
from curate.engine.protocol.transport import ANY_COLUMN, Blamed, stage_blamed
from curate.engine.worker.stage_group import StageGroupRunner
from curate.errors import InfrastructureError
from curate.executors.framing import CHUNK, Frame, Frames, FrameType, framed
from curate.executors.leftover_threads import end_without_leftover_threads
from curate.executors.worker_payload import WorkerPayload, versions_of
from curate.gpu_errors import is_broken_gpu
from curate.io.rows import encode_row, printable
from curate.machine import find_gpus
from curate.records import ID
from curate.stage import ProcessingStage
from curate.storage import register

HOLD_BACK_S = 0.005
"""Results of batches that follow each other faster than this are sent together: a packet of its own for each would wake
the driver more often than it takes to handle them.
"""

EXIT_BROKEN_GPU = 75


class Channel:
    """The worker's end of the socket to the driver."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._frames = Frames()
        self._received: list[Frame] = []
        self._held = bytearray()
        self._lock = threading.Lock()  # stages may log from threads of their own
        self._sent_s = 0.0
        self._is_torn = False

    def receive(self) -> Frame:
        """Block until there is a frame, and return it.

        Raises:
            EOFError: the driver is gone.
        """
        while not self._received:
            received = self._socket.recv(CHUNK)
            if not received:
                raise EOFError
            self._received.extend(self._frames.feed(received))
        return self._received.pop(0)

    def has_more(self) -> bool:
        """Return whether the next batch, or a part of it, is there already."""
        return bool(self._received) or bool(select.select([self._socket], [], [], 0)[0])

    def hold(self, kind: FrameType, message: Any = None, number: int = 0) -> None:
        """Put a message into the next packet.

        Raises:
            Exception: raised by the pickling of a third-party value.
        """
        payload = b"" if message is None else pickle.dumps(message, 5)
        with self._lock:
            self._held += framed(kind, payload, number)

    def send(self) -> None:
        """Send the next packet; nothing more is sent behind one that an interrupt has cut off."""
        with self._lock:
            self._sent_s = time.monotonic()
            held, self._held = self._held, bytearray()
            if self._is_torn or not held:
                return
            self._is_torn = True
            self._socket.sendall(held)
            self._is_torn = False

    def send_if_idle(self) -> None:
        """Send the next packet, unless the next batch has arrived and adds to it soon."""
        if time.monotonic() - self._sent_s >= HOLD_BACK_S or not self.has_more():
            self.send()


def main(arguments: list[str]) -> int:
    """Work for the driver at the other end of the socket, and return the exit code."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the driver decides what ends
    signal.signal(signal.SIGTERM, _terminate)
    descriptor, activity_descriptor = map(int, arguments)
    for inherited in (descriptor, activity_descriptor):
        os.set_inheritable(inherited, False)
    _die_with_driver()
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        _, _, path = channel.receive()
        sys.path[:] = pickle.loads(path)
        _, _, payload = channel.receive()
        code = _work(channel, payload, activity_descriptor)
        end_without_leftover_threads(lambda message: _warn(channel, message), code)
        return code
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return 1  # the driver is gone
    except Interrupted:  # so that its exit status names the signal
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        raise


def _warn(channel: Channel, message: str) -> None:
    channel.hold(FrameType.LOG, ("WARNING", 30, message))
    with contextlib.suppress(OSError):  # the driver has stopped listening
        channel.send()


def _work(channel: Channel, payload: bytes, activity_descriptor: int) -> int:
    runner: StageGroupRunner | None = None
    try:
        try:
            spec: WorkerPayload = pickle.loads(payload)
            _log_to(channel)
            runner = _set_up(spec, activity_descriptor)
            gc.collect()
            gc.freeze()  # or the collector would walk through models and modules again and again
        except Interrupted:
            raise
        except BaseException as error:  # noqa: BLE001 (a third-party class may raise anything as it is unpickled)
            _fail(channel, error)
            return 0
        channel.hold(FrameType.READY)
        channel.send()
        while True:
            kind, number, payload = channel.receive()
            if kind is FrameType.END or not _work_on(channel, runner, number, payload, spec.blamed):
                return 0
    finally:
        if runner is not None:
            runner.teardown()
            channel.send()


def _work_on(channel: Channel, runner: StageGroupRunner, number: int, payload: bytes, blamed: Blamed) -> bool:
    """Work on one batch; return whether there can be another one."""
    try:
        task: BatchTask = pickle.loads(payload)
    except Exception as error:  # noqa: BLE001 (a third-party value may raise anything)
        channel.hold(FrameType.UNREADABLE, f"{type(error).__name__}: {error}", number)
        channel.send()
        return True
    try:
        ids: list[str] = [record[ID] for record in task.records]
        for result in runner.run(task, lambda: pickle.loads(payload).records):
            _hold(channel, result, ids, blamed)
            if not result.is_whole and len(set(result.roots())) < len(ids):
                channel.send()  # what is finished does not wait for the rest of the batch
    except InfrastructureError as error:
        if error.__cause__ is not None and is_broken_gpu(error.__cause__):
            _die_of_broken_gpu(error)
        _fail(channel, error)
        return False
    channel.hold(FrameType.DONE, number=number)
    channel.send_if_idle()
    return True


def _set_up(spec: WorkerPayload, activity_descriptor: int) -> StageGroupRunner:
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)  # it would let a checkpoint run code
    _check_versions(spec)
    _check_gpu_memory(spec)
    stages: list[ProcessingStage] = pickle.loads(spec.stages)
    register(pickle.loads(spec.schemes))
    words = memoryview(mmap.mmap(activity_descriptor, 8 * SharedActivity.words_for(spec.count))).cast("Q")
    runner = StageGroupRunner(
        stages,
        context=spec.context,
        encode=encode_row if spec.encodes else None,
        blamed=spec.blamed,
        reporter=SharedActivity(words),
    )
    try:
        runner.setup()
    except BaseException:
        runner.teardown()
        raise
    return runner


def _hold(channel: Channel, result: PartialResult, ids: list[str], blamed: Blamed) -> None:
    try:
        channel.hold(FrameType.RESULT, result, result.number)
    except Exception:  # noqa: BLE001 (a third-party value's own __reduce__ may raise anything)
        channel.hold(FrameType.RESULT, _sendable(result.with_roots(ids), blamed), result.number)


def _sendable(result: PartialResult, blamed: Blamed) -> PartialResult:
    """Return a result with the records that cannot be sent to the driver in quarantine."""
    sendable = PartialResult(result.number, [], roots := [], [], busy_s=result.busy_s, measures=result.measures)
    sendable.files = result.files
    sendable.filtered = [_printable_note(note) for note in result.filtered]
    sendable.quarantined = [_printable_note(note) for note in result.quarantined]
    sendable.splits = result.splits
    for row, root, ms in zip(result.kept, result.kept_roots or (), result.kept_ms, strict=True):
        reason = _unsendable(row)
        if reason is None:
            sendable.kept.append(row)
            roots.append(root)
            sendable.kept_ms.append(ms)
        else:
            assert isinstance(row, dict)
            column = next((name for name, value in row.items() if _unsendable(value) is not None), ANY_COLUMN)
            message = f"the record cannot be sent to the driver: column {column!r}: {reason}"
            stage = stage_blamed(blamed, column)
            sendable.quarantined.append(Quarantined(root, printable(row), stage, "bad_value", message, "", 1))
    return sendable


def _printable_note(note: Any) -> Any:
    """Return a note whose record can be sent."""
    if _unsendable(note.record) is not None:
        note.record = printable(note.record)
    return note


def _unsendable(value: Any) -> str | None:
    try:
        pickle.dumps(value, 5)
    except Exception as error:  # noqa: BLE001 (a third-party value may raise anything)
        return f"{type(error).__name__}: {error}"
    return None


def _fail(channel: Channel, error: BaseException) -> None:
    """Report to the driver why this worker ends."""
    message = str(error) if isinstance(error, InfrastructureError) else f"{type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error))
    channel.hold(FrameType.FAILED, (message, trace))
    channel.send()


def _check_versions(spec: WorkerPayload) -> None:
    """Check that this machine has the code that the driver has.

    Raises:
        InfrastructureError: names the machine and the distribution.
    """
    if not spec.versions:
        return
    here: Mapping[str, str] = versions_of(pickle.loads(spec.stages))
    for name, version in spec.versions.items():
        if here.get(name) != version:
            raise InfrastructureError(
                f"{socket.gethostname()} has {name} {here.get(name, '(missing)')}, and the driver has {version}; "
                "install the same version on every machine"
            )


def _check_gpu_memory(spec: WorkerPayload) -> None:
    """Check that the worker's GPU has the memory that its stages ask for.

    Raises:
        InfrastructureError: says how much is asked for and how much there is.
    """
    if not spec.gpu_memory_gb:
        return
    for gpu in find_gpus():
        if gpu.memory_gb is not None and gpu.memory_gb < spec.gpu_memory_gb:
            raise InfrastructureError(
                f"{spec.hop} asks for gpu_memory_gb={spec.gpu_memory_gb:g}, but GPU {gpu.id} of "
                f"{socket.gethostname()} has {gpu.memory_gb:g} GB"
            )


def _log_to(channel: Channel) -> None:
    """Send log lines to the driver."""

    def send(message: Any) -> None:
        record = message.record
        channel.hold(FrameType.LOG, (record["level"].name, record["level"].no, record["message"]))

    logger.remove()
    logger.add(send, level="INFO", format="{message}")
    logger.enable("curate")


def _die_of_broken_gpu(error: InfrastructureError) -> NoReturn:
    """End immediately: in a broken CUDA context no call works, not even the teardown."""
    print(error, file=sys.stderr, flush=True)
    os._exit(EXIT_BROKEN_GPU)


def _terminate(*_: object) -> None:
    raise Interrupted


def _die_with_driver() -> None:
    """Have this process killed when its driver is gone, even if a stage is in the middle of something."""
    driver = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != driver:
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(1.0)  # other systems do not signal that the parent is gone
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
