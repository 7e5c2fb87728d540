"""Splitting of batches that run out of memory: only the part that fails is split and tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import attrs

Item = TypeVar("Item")
Result = TypeVar("Result")


@attrs.frozen
class Finished(Generic[Item, Result]):
    """Items that were processed together, and their result."""

    items: list[Item]
    result: Result


@attrs.frozen
class Unfit(Generic[Item]):
    """One item that does not fit into memory alone, and the error's message."""

    item: Item
    message: str


def run_splitting(
    items: Sequence[Item],
    work: Callable[[list[Item]], Result],
    *,
    is_oom: Callable[[BaseException], bool],
    on_oom: Callable[[list[Item], str], None] | None = None,
    length_s: Callable[[Item], float] | None = None,
    max_items: Callable[[float], int] | None = None,
) -> Iterator[Finished[Item, Result] | Unfit[Item]]:
    """Yield the parts of a batch as they finish, each item in exactly one of them.

    A part that runs out of memory is split where both halves cost the same, longest items first, and each half is
    tried separately; finished parts are not repeated. For n items there are at most 2n - 1 attempts, so a persistent
    OOM ends too, with each item unfit. Errors other than OOM are raised to the caller.

    Args:
        items: the batch.
        work: processes items and returns one result for all of them.
        is_oom: returns whether an error means that memory ran out, such as `curate.gpu_errors.is_oom`.
        on_oom: called with the items that failed and the error's message, outside of the `except` block, when neither
            the error nor its traceback holds the tensors of the attempt: free the caches here.
        length_s: returns an item's length. None: all items count as equal.
        max_items: returns how many items a part may have now whose longest has this length; called before each attempt,
            so that what was learnt from one part holds for the parts that wait. Needs `length_s`.
    """
    # Last in, first out: a batch that fits keeps its order, and after a split the longer half comes first.
    todo = [list(items)] if items else []
    while todo:
        batch = todo.pop()
        if length_s is not None and max_items is not None:
            first, *others = split_to_fit(batch, length_s, max_items)
            batch, todo = first, todo + others[::-1]
            del first, others
        done, message = _attempt(batch, work, is_oom)
        if message is None:
            yield from done
        elif on_oom is not None:
            on_oom(batch, message)
        del done  # otherwise the result would be held while the next part needs the memory
        if message is not None and len(batch) == 1:
            yield Unfit(batch[0], message)
        elif message is not None:
            todo += reversed(_halves(batch, length_s))


def split_to_fit(
    items: list[Item], length_s: Callable[[Item], float], max_items: Callable[[float], int]
) -> list[list[Item]]:
    """Return a batch in parts, none with more items than `max_items` of its longest; in order if it fits as a whole."""
    if not items or len(items) <= max_items(max(map(length_s, items))):
        return [items]
    rest = sorted(items, key=lambda item: -length_s(item))
    parts: list[list[Item]] = []
    while rest:
        count = max(1, max_items(length_s(rest[0])))
        parts.append(rest[:count])
        rest = rest[count:]
    return parts


def _attempt(
    batch: list[Item], work: Callable[[list[Item]], Result], is_oom: Callable[[BaseException], bool]
) -> tuple[list[Finished[Item, Result]], str | None]:
    try:
        return [Finished(batch, work(batch))], None
    except Exception as error:
        if not is_oom(error):
            raise
        return [], f"{type(error).__name__}: {error}"


def _halves(batch: list[Item], length_s: Callable[[Item], float] | None) -> list[list[Item]]:
    """Return two non-empty parts such that the more expensive one is as cheap as possible."""
    if length_s is None:
        middle = (len(batch) + 1) // 2
        return [batch[:middle], batch[middle:]]
    by_length = sorted(batch, key=length_s, reverse=True)
    seconds = [length_s(item) for item in by_length]
    middle = min(range(1, len(batch)), key=lambda cut: max(cut * seconds[0], (len(batch) - cut) * seconds[cut]))
    return [by_length[:middle], by_length[middle:]]
