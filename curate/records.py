"""Records and the batches they travel in.

A record is a plain `dict`: one row of a manifest, one utterance or one recording. Inside a run it carries its identity
under `_id`: its position, `<input>:<line>`, and `…/k` for the k-th child of a split record. Outside a run (eager
use of a stage) it needs no `_id`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from numbers import Real
from typing import Any, Protocol, TypeAlias, cast

from curate.errors import RecordError

Record: TypeAlias = dict[str, Any]

ID = "_id"
_PLAIN_NUMBERS = (float, int)
PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})
"""The types of values that cannot be changed in place, and that JSON stores as they are."""

DEFAULT_FILEPATH_KEY = "audio_filepath"


@dataclass(slots=True)
class Rejected:
    """A record that a filter dropped, and why."""

    record: Record
    reason: str


@dataclass(slots=True)
class Failed:
    """A record that a stage failed on, and the error that says why."""

    record: Record
    error: RecordError


@dataclass(slots=True)
class AudioBatch:
    """Records that travel together through the stages.

    Args:
        data: the records, in order; any iterable of dicts is read into a list.
        filepath_key: the column that holds the path of a record's audio file.
        task_id: a name for this batch, for logs.
        dataset_name: the dataset that the records belong to.
    """

    data: list[Record] = field(default_factory=list[Record])
    filepath_key: str = DEFAULT_FILEPATH_KEY
    task_id: str = ""
    dataset_name: str = ""
    rejected: list[Rejected] = field(default_factory=list[Rejected], repr=False, compare=False, kw_only=True)
    failed: list[Failed] = field(default_factory=list[Failed], repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        self.data = records_of(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def with_data(self, data: Iterable[Record], *, task_id: str | None = None) -> AudioBatch:
        """Return a batch of other records under the same description; rejects and failures stay with this one."""
        return AudioBatch(
            data=list(data),
            filepath_key=self.filepath_key,
            task_id=self.task_id if task_id is None else task_id,
            dataset_name=self.dataset_name,
        )

    def reject(self, record: Record, reason: str) -> None:
        """Drop `record` on purpose, for a reason. A filter calls this; the record must then not be returned as well.

        Raises:
            TypeError: `record` is not a dict, or `reason` is not a string.
        """
        check_record(record)
        if not isinstance(reason, str):  # pyright: ignore[reportUnnecessaryIsInstance] (third-party code)
            raise TypeError(f"batch.reject(record, reason): the reason must be a string, not {reason!r:.80}")
        self.rejected.append(Rejected(record, reason))

    def fail(self, record: Record, error: RecordError) -> None:
        """Send `record` to quarantine because of `error`; its neighbours are not affected.

        Raises:
            TypeError: `record` is not a dict, or `error` is not a `RecordError`.
        """
        check_record(record)
        if not isinstance(error, RecordError):  # pyright: ignore[reportUnnecessaryIsInstance] (third-party code)
            raise TypeError(f"batch.fail(record, error): the error is a RecordError(code, message), not {error!r:.80}")
        self.failed.append(Failed(record, error))


def records_of(data: Any) -> list[Record]:
    """Return the records of a batch as a list; an iterator, which can be read only once, is read.

    Raises:
        TypeError: `data` does not consist of dicts.
    """
    if isinstance(data, dict):
        return [cast("Record", data)]
    if isinstance(data, list):
        records = cast("list[Record]", data)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        records = list(cast("Iterable[Record]", data))
    else:
        raise TypeError(f"the data of a batch must be a list of dicts, not {data!r:.80}")
    if {*map(type, records)} != {dict}:
        for record in records:
            check_record(record)
    return records


def check_record(record: Any) -> None:
    """Check that something is a record.

    Raises:
        TypeError: it is not a dict.
    """
    if not isinstance(record, dict):
        raise TypeError(f"a record must be a plain dict, not {type(record).__name__}: {record!r:.80}")


class RecordReader(Protocol):
    """Kept records in the order of the input, readable more than once, in bounded memory."""

    def __iter__(self) -> Iterator[Record]:
        """Yield the records, with their `_id`."""
        ...

    def lines(self) -> Iterator[bytes]:
        """Yield the records as lines of JSON that end in a newline, without their `_id`."""
        ...


def audio_ms(record: Record) -> int:
    """Return a record's `duration` in whole milliseconds, so that sums are exact; 0 where it has none."""
    duration: Any = record.get("duration")
    if type(duration) is float:  # nearly always
        return int(duration * 1000 + 0.5) if 0 <= duration < 1e12 else 0
    if getattr(duration, "shape", None) == () and hasattr(duration, "item"):
        duration = duration.item()  # a scalar or an array of no dimensions, of NumPy's or torch's, as it is stored
    if type(duration) not in _PLAIN_NUMBERS and (isinstance(duration, bool) or not isinstance(duration, Real)):
        return 0  # NumPy's scalars are Real
    return int(float(duration) * 1000 + 0.5) if 0 <= cast("float", duration) < 1e12 else 0


def path_below(identity: str, root: str) -> tuple[int, ...]:
    """Return the numbers of a descendant's id behind its ancestor's: `("a:1/0/2", "a:1")` gives `(0, 2)`."""
    return tuple(map(int, identity[len(root) :].split("/")[1:]))


TAKEN_BYTES = 64 * 1024 * 1024
"""The size of records in memory at which a batch or a group is closed, however few they are."""


def take(records: Iterator[Record], most: int, max_bytes: int = TAKEN_BYTES) -> list[Record]:
    """Return the next records: at most `most`, and fewer if their strings alone reach `max_bytes`."""
    taken: list[Record] = []
    size = 0
    for record in islice(records, most):
        taken.append(record)
        for value in record.values():  # as `string_bytes` counts; a call for every record would cost as much again
            kind = type(value)  # pyright: ignore[reportUnknownVariableType] (a record holds anything)
            if kind is str:
                size += len(value)
            elif kind is dict or kind is list:
                size += _nested_bytes(value)
        if size >= max_bytes:
            break
    return taken


def string_bytes(record: Record) -> int:
    """Return the length of a record's strings, nested ones included, which is most of its size if it is large."""
    total = 0
    for value in record.values():
        if type(value) is str:
            total += len(value)
        elif type(value) is dict or type(value) is list:
            total += _nested_bytes(value)
    return total


def _nested_bytes(value: Any) -> int:
    if type(value) is str:
        return len(value)
    if type(value) is dict:
        return sum(map(_nested_bytes, cast("dict[str, Any]", value).values())) + 64
    if type(value) is list:
        return sum(map(_nested_bytes, cast("list[Any]", value))) + 64
    return 8
