"""Every exception that curate raises, and the closed list of codes that a bad record can get.

    CurateError
    ├── UsageError              the request cannot work; found before work starts (exit code 2)
    │   ├── ConfigError         … because of a configuration file or a `--set`
    │   ├── PlanError           … because the pipeline does not fit together
    │   ├── PluginError         … because of a plugin: broken, clashing, missing
    │   └── RunDirectoryError   … because of what the run directory already holds
    ├── RecordError             one record is bad; it goes to quarantine, its neighbours are processed
    ├── StageContractError      a stage broke its declaration: lost, repeated or invented a record
    ├── BudgetExceededError     more records have failed than the run allows (exit code 3)
    ├── InfrastructureError     not the fault of a record: the run stops immediately (exit code 4)
    └── AccountingError         the record counts of a run do not balance (exit code 1; a bug in curate)

A stage raises `RecordError` or `InfrastructureError`; whatever else it raises is counted as the record's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EXIT_OK = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_BUDGET = 3
EXIT_INFRASTRUCTURE = 4
EXIT_NO_RESULT = 5
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

RECORD_ERROR_CODES: Mapping[str, str] = MappingProxyType(
    {
        # the manifest
        "bad_json": "the manifest line is not one JSON object, or an object in it has a key twice",
        "bad_row": "the manifest row has a value that no record may have",
        "line_too_long": "the manifest line is longer than the reader's bound",
        "missing_column": "the record lacks a column that the stage reads, or it is null",
        "bad_value": "a column holds a value of the wrong type or range",
        "empty_text": "the reference text is empty, so an error rate has no meaning",
        # the audio file
        "missing_file": "the audio file does not exist",
        "unreadable_file": "the audio file exists, but may not be read",
        "bad_path": "the audio path cannot be used (wrong type, NUL byte, unregistered scheme, URL with a query)",
        "not_a_regular_file": "the audio path is a directory, a FIFO, a socket or a device",
        "outside_root": "the audio path resolves to a place outside the declared roots",
        "empty_file": "the audio file has no bytes",
        "not_audio": "the file is something else: text, HTML, a Git LFS pointer, an archive, a picture, raw samples",
        "decode_error": "the decoder failed on the file",
        "truncated": "the file holds fewer samples than its header or the record's segment asks for",
        "zero_samples": "the file or the segment has no samples",
        "non_finite": "the audio holds NaN or infinite samples",
        "unsupported_scale": "the audio holds floating-point samples far beyond ±1, as of integers never scaled",
        "unsupported_rate": "the sampling rate is outside 1 kHz to 768 kHz",
        "unsupported_channels": "the file has more than 64 channels, or none",
        "too_long": "the audio is longer than the bound",
        "bad_segment": "offset or duration is negative, not finite, or starts behind the end",
        "duration_mismatch": "the record's duration is not its audio's, and `audio.duration_mismatch` is `fail`",
        # the model
        "oom": "the record alone does not fit in memory",
        # the stage
        "stage_error": "the stage raised an exception on this record",
        "contract_lost": "a stage that must return every record did not return this one",
        "contract_repeated": "a stage returned this record more than once without declaring that it splits",
        "contract_invented": "a stage returned a record that it was not given",
        "contract_undeclared": "a stage added a column that its writes() does not name",
        # the worker
        "worker_died": "the worker process died on this record alone",
        "timeout": "the record alone ran past its deadline",
    }
)
"""The reasons for which a record can fail: code → meaning. Plugins may add their own as `<distribution>/<code>`."""


MESSAGE_CHARACTERS = 16_000
"""The maximum length of a message that is kept; of a longer one, the beginning and the end are."""


def shortened(message: str) -> str:
    """Return a message, without its middle if it is longer than `MESSAGE_CHARACTERS`."""
    if len(message) <= MESSAGE_CHARACTERS:
        return message
    half = MESSAGE_CHARACTERS // 2
    return f"{message[:half]} … ({len(message) - 2 * half:,} characters) … {message[-half:]}"


class CurateError(Exception):
    """Base of all exceptions raised by curate."""


class UsageError(CurateError):
    """The request cannot work as written; nothing has been written or loaded."""


class ConfigError(UsageError):
    """A configuration file or override is wrong. The message begins with the place, `file:line:column`."""


class PlanError(UsageError):
    """The stages do not fit together, or ask for what this machine does not have.

    Args:
        message: what is wrong, and what to do about it.
        stage: the name in the plan of the one stage that it is about, if it is about one.
    """

    def __init__(self, message: str, stage: str | None = None) -> None:
        super().__init__(message)
        self.stage = stage


class PluginError(UsageError):
    """A plugin is broken, missing, or claims a name that another one owns."""


class RunDirectoryError(UsageError):
    """The run directory holds another run, another version's files, or is not a run directory."""


class RecordError(CurateError):
    """One record is bad, and only this one.

    Args:
        code: one of `RECORD_ERROR_CODES`, or `<distribution>/<code>` for a plugin's own.
        message: what is wrong, with the value or the path, for a person to read.
    """

    def __init__(self, code: str, message: str) -> None:
        if code not in RECORD_ERROR_CODES and "/" not in code:
            raise ValueError(
                f"unknown record error code {code!r}: use one of {', '.join(RECORD_ERROR_CODES)}, "
                "or '<your distribution>/<code>' for a code of your own"
            )
        message = shortened(str(message))  # an exception is converted to its message
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class StageContractError(CurateError):
    """A stage lost, repeated or invented a record, against its declared cardinality.

    Args:
        code: `contract_lost`, `contract_repeated` or `contract_invented`.
        message: which stage, which record, and what to change.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


class BudgetExceededError(CurateError):
    """More records have failed than `max_failures` or `max_failure_ratio` allows. Finished records are kept."""


class InfrastructureError(CurateError):
    """The run cannot continue, and no record caused it: disk full, model missing, device gone, `setup` failed."""


class AccountingError(CurateError):
    """Records in + children != kept + filtered + quarantined + split parents. This is a bug; please report it."""
