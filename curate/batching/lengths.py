"""Reads the lengths that are to be planned: what is known of them, what is out of range, in which order."""

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
    """A length that is in no batch, and why: batchers leave nothing out without a word.

    Args:
        index: its position in what was planned.
        length_s: its length in seconds, None if that is not known.
        reason: one of a few sentences, so that they can be counted; a stage filters the record with it.
    """

    index: int
    length_s: float | None
    reason: str


@attrs.frozen
class Range:
    """Which lengths are planned.

    Args:
        min_s: shorter ones are dropped.
        max_s: longer ones are dropped.
        assumed_s: what an unknown length counts as. None: an unknown length is an error.
        needed: False for a batcher that does not look at lengths; unknown ones then pass, unless there are bounds.
    """

    min_s: float | None = None
    max_s: float | None = None
    assumed_s: float | None = None
    needed: bool = True

    def judge(self, index: int, value: Any) -> tuple[float, str]:
        """Return the length to plan with, and the reason to drop it, empty if there is none.

        Raises:
            RecordError: the length is unknown, and nothing was said about how long such a record may be. Taken as
                0 it would fit into every batch, without bound.
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
    """The lengths of one plan, read once and never further ahead than asked.

    Args:
        durations: seconds; None, NaN, infinity, anything below or equal to 0 and what is not a number is unknown.
        allowed: which are planned.
        drop: told of each that is not.
        order: changes the order of (index, length) pairs, for shuffling.
    """

    def __init__(
        self,
        durations: Iterable[Any],
        allowed: Range,
        drop: Callable[[Dropped], None],
        order: Callable[[Iterator[tuple[int, float]]], Iterator[tuple[int, float]]] | None = None,
    ) -> None:
        self._values = enumerate(durations)
        self._allowed = allowed
        self._drop = drop
        self._pairs = order(self._judged()) if order else self._judged()
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
        """Return up to `most` lengths; those of a chunk without anything special are checked all at once."""
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
        return (*_arrays(self._judged(numbered)), ended)

    def _judged(self, numbered: Iterable[tuple[int, Any]] | None = None) -> Iterator[tuple[int, float]]:
        for index, value in self._values if numbered is None else numbered:
            length_s, reason = self._allowed.judge(index, value)
            if reason:
                self._drop(Dropped(index, length_s, reason))
            else:
                yield index, length_s


def _is_known(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return 0 < float(value) < math.inf


def _as_numbers(values: list[Any]) -> Seconds | None:
    """Return plain numbers as an array, and None if anything else is among them."""
    import numpy as np

    if not {bool, np.bool_}.isdisjoint(map(type, values)):
        return None  # among numbers, numpy would take True for 1.0
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        return None
    # text among numbers makes an array of text, and None one of objects
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
        "or say with assumed_s how long such an item may be",
    )
