"""Records and the batches they travel in.

A record is a plain `dict`: one row of a manifest, one utterance or one recording. Inside a run it carries its identity
under `_id`: its position, `<input>:<line>`, and `…/k` for the k-th child of a split record. Outside a run (eager
use of a stage) it needs no `_id`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Real
from typing import Any, Protocol, TypeAlias, cast

from curate.errors import RecordError

Record: TypeAlias = dict[str, Any]

ID = "_id"
_PLAIN_NUMBERS = (float, int)
_DICT = {dict}
_FLOAT = {float}
PLAIN_TYPES = frozenset({str, int, float, bool, type(None)})
"""The types of values that cannot be changed in place, and that JSON holds as they are."""

DEFAULT_FILEPATH_KEY = "audio_filepath"


@dataclass(slots=True)
class Rejected:
    """A record that a filter left out, and why."""

    record: Record
    reason: str


@dataclass(slots=True)
class Failed:
    """A record that a stage could not work on, and the error that says why."""

    record: Record
    error: RecordError


_new_batch, _set = object.__new__, object.__setattr__


@dataclass(slots=True)
class AudioBatch:
    """Records that travel together through the stages.

    Args:
        data: the records, in order.
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
    on_announce: Callable[[Sequence[Record]], None] | None = field(
        default=None, repr=False, compare=False, kw_only=True
    )

    def __setattr__(self, name: str, value: Any) -> None:
        # `batch.data = filter(…, batch.data)` must be a list as well: whatever can be read once is read by the engine
        object.__setattr__(self, name, _as_list(value) if name == "data" else value)

    def __len__(self) -> int:
        return len(self.data)

    def __copy__(self) -> AudioBatch:
        return replace(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # a stage may send a batch to a pool of its own; nobody is told there what it announces
        notes = {"rejected": self.rejected, "failed": self.failed}
        return partial(AudioBatch, self.data, self.filepath_key, self.task_id, self.dataset_name, **notes), ()

    def with_data(self, data: Iterable[Record], *, task_id: str | None = None) -> AudioBatch:
        """Return a batch of other records under the same description; rejects and failures stay with this one."""
        return AudioBatch(
            data=list(data),
            filepath_key=self.filepath_key,
            task_id=self.task_id if task_id is None else task_id,
            dataset_name=self.dataset_name,
        )

    def holding(self, data: list[Record]) -> AudioBatch:
        """Return what `with_data` returns, for a list that is known to hold records; the engine calls it very often."""
        batch = _new_batch(AudioBatch)
        _set(batch, "data", data)
        _set(batch, "filepath_key", self.filepath_key)
        _set(batch, "task_id", self.task_id)
        _set(batch, "dataset_name", self.dataset_name)
        _set(batch, "rejected", [])
        _set(batch, "failed", [])
        _set(batch, "on_announce", None)
        return batch

    def reject(self, record: Record, reason: str) -> None:
        """Say that a filter leaves `record` out, and why. The record must then not be returned as well.

        Raises:
            TypeError: it is no record, or the reason is no text.
        """
        check_record(record)
        if not isinstance(reason, str):  # pyright: ignore[reportUnnecessaryIsInstance] (a stranger's code)
            raise TypeError(f"batch.reject(record, reason): the reason is a text, not {reason!r:.80}")
        self.rejected.append(Rejected(record, reason))

    def fail(self, record: Record, error: RecordError) -> None:
        """Say that `record` cannot be worked on, while its neighbours go on. It goes to quarantine.

        Raises:
            TypeError: it is no record, or the error is no `RecordError`.
        """
        check_record(record)
        if not isinstance(error, RecordError):  # pyright: ignore[reportUnnecessaryIsInstance] (a stranger's code)
            raise TypeError(f"batch.fail(record, error): the error is a RecordError(code, message), not {error!r:.80}")
        self.failed.append(Failed(record, error))

    def announce(self, records: Sequence[Record]) -> None:
        """Say which records are touched next: a crash or an exception is then blamed on these and not on the rest."""
        if self.on_announce is not None:
            self.on_announce(records)


def _as_list(data: Any) -> list[Record]:
    if isinstance(data, dict):
        records = [cast("Record", data)]
    elif isinstance(data, list):
        records = cast("list[Record]", data)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        records = list(cast("Iterable[Record]", data))
    else:
        raise TypeError(f"the data of a batch is a list of dicts, not {data!r:.80}")
    if set(map(type, records)) - _DICT:  # which is nearly never so; then it may be a dict of another kind
        for record in records:
            check_record(record)
    return records


def check_record(record: Any) -> None:
    """Check that something is a record.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(record, dict):
        raise TypeError(f"a record is a plain dict, not {type(record).__name__}: {record!r:.80}")


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
    return _ms(record.get("duration"))


def audio_ms_of(durations: Sequence[Any]) -> list[int]:
    """Return the whole milliseconds of each `duration`; there are many, and nearly always all are plain floats."""
    plain = set(map(type, durations)) == _FLOAT and min(durations) >= 0 and max(durations) < 1e12
    if plain and sum(durations) >= 0:  # which it is not if one of them is not a number
        return list(map(int, [duration * 1000 + 0.5 for duration in durations]))
    return list(map(_ms, durations))


def durations_of(records: Iterable[Record]) -> list[Any]:
    """Return the `duration` of each record as it is; None where it has none."""
    return [record.get("duration") for record in records]


def _ms(duration: Any) -> int:
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
