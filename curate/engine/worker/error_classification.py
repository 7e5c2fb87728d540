"""The classification of exceptions: as a fault of the record, of the infrastructure, or as an interrupt of the run."""

from __future__ import annotations

import contextlib
import dis
import errno
import signal
import traceback
from collections.abc import Generator
from typing import Any

from curate.engine.protocol.interrupt import Interrupted
from curate.errors import AccountingError, InfrastructureError, RecordError, StageContractError, UsageError
from curate.gpu_errors import is_broken_gpu, is_oom, is_unusable_gpu
from curate.records import Record
from curate.stage import ProcessingStage

_INTERRUPTS = (Interrupted, GeneratorExit)


def is_interrupt(error: BaseException) -> bool:
    """Return whether an exception ends the run wherever it is raised.

    All others of a stage are faults: third-party code calls `sys.exit()`, raises `KeyboardInterrupt`, cancels its
    tasks, and panics.
    """
    if isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted):
        return not _is_raised_by_code(error)
    return isinstance(error, _INTERRUPTS)


def _is_raised_by_code(error: KeyboardInterrupt) -> bool:
    """Return whether a `raise` statement, and not Ctrl-C, is the origin of an exception.

    Python's own handler of Ctrl-C is not written in Python: to the traceback, any instruction of the interrupted
    function has raised its exception. A handler of the application's own is recognised by its code.
    """
    handler = signal.getsignal(signal.SIGINT)
    own: Any = getattr(handler, "__func__", handler)
    of_handler = getattr(own, "__code__", None)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        if trace.tb_frame.f_code is of_handler:
            return False
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_code is of_handler:
        return False
    return dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


_TRACEBACK_CHARACTERS = 16_000

_MACHINE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ESTALE})
"""Errors of the machine, which the next record would meet as well."""


def is_infrastructure(error: BaseException) -> bool:
    """Return whether the run should stop instead of blaming a record."""
    if isinstance(error, OSError):
        return error.errno in _MACHINE_ERRNOS
    return isinstance(error, InfrastructureError) or is_broken_gpu(error) or is_unusable_gpu(error)


def text_of(error: BaseException) -> str:
    """Return the message of an exception, even if its `__str__` raises."""
    try:
        return str(error)
    except BaseException as broken:
        if is_interrupt(broken):
            raise
        return f"(its message cannot be shown: {type(broken).__name__})"


def describe_exception(error: BaseException) -> str:
    """Return an exception's type and message."""
    return f"{type(error).__name__}: {text_of(error)}"


def as_infrastructure(error: BaseException, stage: str) -> InfrastructureError:
    """Return the error that stops the run, naming the stage that met it."""
    if isinstance(error, InfrastructureError):
        return error
    message = str(error) if isinstance(error, StageContractError) else f"stage {stage!r}: {describe_exception(error)}"
    stopped = InfrastructureError(message)
    stopped.__cause__ = error
    return stopped


@contextlib.contextmanager
def driver_errors(stage: str) -> Generator[None]:
    """Run code of a stage in the driver, where its exceptions are not a record's fault.

    Raises:
        InfrastructureError: names the stage.
    """
    try:
        yield
    except (InfrastructureError, AccountingError, UsageError):
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or is_interrupt(error):
            raise
        raise as_infrastructure(error, stage)  # noqa: B904 (it names its cause)


def classify(error: BaseException, stage: ProcessingStage, record: Record) -> tuple[str, str, str]:
    """Return code, message and traceback for a record on which `stage` failed when it was processed alone."""
    text = "".join(traceback.format_exception(error))
    if len(text) > _TRACEBACK_CHARACTERS:
        half = _TRACEBACK_CHARACTERS // 2
        text = f"{text[:half]}\n…\n{text[-half:]}"
    if isinstance(error, RecordError | StageContractError):
        return error.code, error.message, text
    if is_oom(error):
        return "oom", describe_exception(error), text
    missing = sorted(name for name in stage.reads() if record.get(name) is None)
    if missing and isinstance(error, KeyError | TypeError | AttributeError):
        return "missing_column", f"the record has no {', '.join(missing)}", text
    return "stage_error", describe_exception(error), text
