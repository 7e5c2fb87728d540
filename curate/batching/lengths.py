"""The reader of lengths for a planner: it filters them by range, handles unknown ones and applies a shuffle."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import attrs

from curate.errors import RecordError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]
    Seconds = NDArray[np.float64]


@attrs.frozen
class Dropped:
    """An item that a batcher put into no batch, with the reason: batchers never drop an item silently.

    Args:
        index: its position among the planned items.
        length_s: its length in seconds, None if unknown.
        reason: one of a few phrases, so that they can be counted; a stage filters the record with it.
    """

    index: int
    length_s: float | None
    reason: str


@attrs.frozen
class LengthFilter:
    """The rule for which lengths are planned.

    Args:
        min_s: shorter items are dropped.
        max_s: longer items are dropped.
        assumed_s: the length assumed of an item whose own is unknown. None: an unknown length is an error.
        needed: False for a batcher that does not use lengths; unknown ones then pass, unless there are bounds.
    """

    min_s: float | None = None
    max_s: float | None = None
    assumed_s: float | None = None
    needed: bool = True

    def apply(self, index: int, value: Any) -> tuple[float, str]:
        """Return the length to plan with, and the reason to drop the item, empty if it is kept.

        Raises:
            RecordError: the length is unknown, and `assumed_s` is not set. Counted as 0, any number of such items
                would fit into a batch.
        """
        length_s = float(value) if _is_known(value) else math.nan
        if math.isnan(length_s):
            if self.assumed_s is not None:
                return self.assumed_s, ""
            if self.needed or self.min_s is not None or self.max_s is not None:
                raise _unknown(index, value)
        elif self.min_s is not None and length_s < self.min_s:
            return length_s, f"shorter than {self.min_s:g} s"
        elif self.max_s is not None and length_s > self.max_s:
            return length_s, f"longer than {self.max_s:g} s"
        return length_s, ""


class Lengths:
    """The lengths of one plan, read once, and only as far as they are asked for.

    Args:
        durations: seconds; None, NaN, infinity, numbers not above 0 and values that are not numbers are unknown.
        allowed: the rule for which lengths are planned.
        drop: called with each dropped item.
        order: reorders (index, length) pairs, for shuffling.
    """

    def __init__(
        self,
        durations: Iterable[Any],
        allowed: LengthFilter,
        drop: Callable[[Dropped], None],
        order: Callable[[Iterator[tuple[int, float]]], Iterator[tuple[int, float]]] | None = None,
    ) -> None:
        self._values = enumerate(durations)
        self._allowed = allowed
        self._drop = drop
        self._pairs = order(self._filtered()) if order else self._filtered()
        self._is_in_order = order is None

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return self._pairs

    def take(self, most: int) -> tuple[Indices, Seconds]:
        """Return the next indices and lengths; fewer than `most` only at the end."""
        import numpy as np

        indices: list[Indices] = [np.empty(0, np.int64)]
        lengths: list[Seconds] = [np.empty(0)]
        missing = most
        while missing > 0:
            chunk_indices, chunk_lengths, ended = self._chunk(missing)
            indices.append(chunk_indices)
            lengths.append(chunk_lengths)
            missing -= len(chunk_indices)
            if ended:
                break
        return np.concatenate(indices), np.concatenate(lengths)

    def _chunk(self, most: int) -> tuple[Indices, Seconds, bool]:
        """Return up to `most` lengths; a chunk of in-range numbers is checked as one array."""
        import numpy as np

        if not self._is_in_order:
            pairs = list(islice(self._pairs, most))
            return (*_arrays(pairs), len(pairs) < most)
        numbered = list(islice(self._values, most))
        ended = len(numbered) < most
        if not numbered:
            return (*_arrays([]), ended)
        array = _as_numbers([value for _, value in numbered])
        allowed = self._allowed
        if array is not None:
            low = 0.0 if allowed.min_s is None else allowed.min_s
            high = math.inf if allowed.max_s is None else allowed.max_s
            if bool(np.all((array > 0) & (array >= low) & (array <= high) & (array < math.inf))):
                first = numbered[0][0]
                return np.arange(first, first + len(numbered), dtype=np.int64), array, ended
        return (*_arrays(self._filtered(numbered)), ended)

    def _filtered(self, numbered: Iterable[tuple[int, Any]] | None = None) -> Iterator[tuple[int, float]]:
        for index, value in self._values if numbered is None else numbered:
            length_s, reason = self._allowed.apply(index, value)
            if reason:
                self._drop(Dropped(index, length_s, reason))
            else:
                yield index, length_s


def _is_known(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return 0 < float(value) < math.inf


def _as_numbers(values: list[Any]) -> Seconds | None:
    """Return plain numbers as an array, or None if any value is not a plain number."""
    import numpy as np

    if not {bool, np.bool_}.isdisjoint(map(type, values)):
        return None  # numpy would convert True to 1.0 among numbers
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        return None
    # Strings among numbers make an array of strings, and None one of objects.
    return array.astype(np.float64) if array.ndim == 1 and array.dtype.kind in "iuf" else None


def _arrays(pairs: Iterable[tuple[int, float]]) -> tuple[Indices, Seconds]:
    import numpy as np

    pairs = list(pairs)
    indices = np.array([index for index, _ in pairs], dtype=np.int64)
    return indices, np.array([length_s for _, length_s in pairs], dtype=np.float64)


def _unknown(index: int, value: Any) -> RecordError:
    code, what = ("missing_column", "is missing") if value is None else ("bad_value", f"is {value!r}")
    return RecordError(
        code,
        f"the length of item {index} {what}, not a number of seconds above 0: measure it first, "
        "or set assumed_s to the longest that such an item may be",
    )
