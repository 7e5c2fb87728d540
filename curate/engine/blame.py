"""Decides whose fault an exception is: the record's, or nobody's in the data."""

from __future__ import annotations

import contextlib
import errno
import traceback
from collections.abc import Generator

from curate.errors import AccountingError, InfrastructureError, RecordError, StageContractError, UsageError
from curate.records import Record
from curate.stage import ProcessingStage

FAULTS = (Exception, SystemExit)
"""What a stage may raise without ending the run: a stranger's code calls `sys.exit()` as well."""

_TRACEBACK_CHARACTERS = 16_000

_MACHINE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ESTALE})
"""Troubles of the machine, which the next record would meet as well."""


def is_infrastructure(error: BaseException) -> bool:
    """Return whether the run should stop instead of blaming a record."""
    return isinstance(error, InfrastructureError) or (isinstance(error, OSError) and error.errno in _MACHINE_ERRNOS)


def as_infrastructure(error: BaseException, stage: str) -> InfrastructureError:
    """Return the error that stops the run, naming the stage that met it."""
    if isinstance(error, InfrastructureError):
        return error
    told = str(error) if isinstance(error, StageContractError) else f"stage {stage!r}: {type(error).__name__}: {error}"
    stopped = InfrastructureError(told)
    stopped.__cause__ = error
    return stopped


@contextlib.contextmanager
def in_driver(stage: str) -> Generator[None]:
    """Run code of a stage that works in the driver, where whatever it raises is no record's fault.

    Raises:
        InfrastructureError: names the stage.
    """
    try:
        yield
    except (InfrastructureError, AccountingError, UsageError):
        raise
    except FAULTS as error:
        raise as_infrastructure(error, stage)  # noqa: B904 (it names its cause)


def verdict(error: BaseException, stage: ProcessingStage, record: Record) -> tuple[str, str, str]:
    """Return code, message and traceback for a record on which `stage` failed, the record being alone."""
    text = "".join(traceback.format_exception(error))
    if len(text) > _TRACEBACK_CHARACTERS:
        half = _TRACEBACK_CHARACTERS // 2
        text = f"{text[:half]}\n…\n{text[-half:]}"
    if isinstance(error, RecordError | StageContractError):
        return error.code, error.message, text
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "oom", f"{type(error).__name__}: {error}", text
    missing = sorted(name for name in stage.reads() if record.get(name) is None)
    if missing and isinstance(error, KeyError | TypeError | AttributeError):
        return "missing_column", f"the record has no {', '.join(missing)}", text
    return "stage_error", f"{type(error).__name__}: {error}", text
