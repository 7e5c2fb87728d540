"""Runs a batch that may not fit into memory: what fails is split, and only that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import attrs

Item = TypeVar("Item")
Result = TypeVar("Result")


@attrs.frozen
class Finished(Generic[Item, Result]):
    """Items that went through together, and what became of them."""

    items: list[Item]
    result: Result


@attrs.frozen
class Unfit(Generic[Item]):
    """One item that does not fit into memory by itself, and the last words of the error."""

    item: Item
    message: str


def run_splitting(
    items: Sequence[Item],
    work: Callable[[list[Item]], Result],
    *,
    is_oom: Callable[[BaseException], bool],
    on_oom: Callable[[list[Item], str], None] | None = None,
    length_s: Callable[[Item], float] | None = None,
) -> Iterator[Finished[Item, Result] | Unfit[Item]]:
    """Yield the parts of a batch as they are done, each item in exactly one of them.

    A part that runs out of memory is split where both halves cost the same, longest items first, and each half is
    tried by itself; parts that were done before stay done. There are at most 2n - 1 attempts for n items, so a
    lasting OOM ends too, with each item unfit. Errors that are no OOM go to the caller.

    Args:
        items: the batch.
        work: does it; its result stands for all items that it was given.
        is_oom: says whether an error means that memory ran out, such as `curate.gpu_errors.is_oom`.
        on_oom: told of the items that failed and the error's message. It is called outside of the `except` block,
            when neither the error nor its traceback hold on to the tensors of the attempt: free the caches here.
        length_s: an item's length. None: all count as equal.
    """
    # last in, first out, so that the order of a batch that fits is kept and the longest are tried first
    todo = [list(items)] if items else []
    while todo:
        batch = todo.pop()
        done, message = _attempt(batch, work, is_oom)
        if message is None:
            yield from done
        elif on_oom is not None:
            on_oom(batch, message)
        del done  # else the result would be held while the next part needs the memory
        if message is not None and len(batch) == 1:
            yield Unfit(batch[0], message)
        elif message is not None:
            todo += reversed(_halves(batch, length_s))


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
    """Return two parts, none empty, of which the more expensive is as cheap as can be."""
    if length_s is None:
        middle = (len(batch) + 1) // 2
        return [batch[:middle], batch[middle:]]
    by_length = sorted(batch, key=length_s, reverse=True)
    seconds = [length_s(item) for item in by_length]
    middle = min(range(1, len(batch)), key=lambda cut: max(cut * seconds[0], (len(batch) - cut) * seconds[cut]))
    return [by_length[:middle], by_length[middle:]]
