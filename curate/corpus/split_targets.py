"""The targets of a division into splits, and the rule that fills them with groups."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import attrs

from curate.errors import PlanError

_AMOUNT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(%|h|min|s)\s*\Z")
_MS = {"h": 3_600_000, "min": 60_000, "s": 1_000}


@attrs.frozen
class SplitTarget:
    """How much a split is to hold: a share of all audio, or a length.

    Args:
        name: of the split.
        share: of all audio, 0 to 1; None: a length is given.
        ms: in milliseconds; None: a share is given.
    """

    name: str
    share: float | None
    ms: int | None

    def of(self, total_ms: int) -> int:
        """Return the target in milliseconds of audio, where all of it is `total_ms`."""
        return round(self.share * total_ms) if self.share is not None else self.ms or 0


def parse_targets(splits: Mapping[str, object]) -> list[SplitTarget]:
    """Return the targets of `{"dev": "5%", "test": "10h"}`, in order.

    Raises:
        PlanError: an amount that is neither, or shares that leave nothing over.
    """
    targets = [_target(name, amount) for name, amount in splits.items()]
    if not targets:
        raise PlanError("splits is empty: name at least one, such as {dev: 5%, test: 5%}")
    shares = sum(target.share or 0 for target in targets)
    if shares >= 1:
        raise PlanError(f"splits: the shares add up to {shares:.0%}, which leaves nothing for the rest")
    return targets


def _target(name: str, amount: object) -> SplitTarget:
    found = _AMOUNT.match(amount) if isinstance(amount, str) else None
    if found is None or not name:
        raise PlanError(f"splits: {name!r}: {amount!r:.80} is not an amount: write '5%', '10h', '30min' or '90s'")
    number, unit = float(found[1]), found[2]
    if number <= 0:
        raise PlanError(f"splits: {name!r}: {amount!r} is nothing; leave the split out")
    return SplitTarget(name, number / 100, None) if unit == "%" else SplitTarget(name, None, round(number * _MS[unit]))


class SplitFiller:
    """Assigns groups to splits, one after the other, so that no split gets more than its target.

    A group that fits into none goes to the rest, and so does one that is larger than every target. Groups that are
    known from a previous division come first and keep their split, however much it then holds.

    Args:
        targets: the targets of the splits.
        rest: the name of the split for what is left.
        total_ms: all audio, in milliseconds.
    """

    def __init__(self, targets: Sequence[SplitTarget], rest: str, total_ms: int) -> None:
        self.wanted_ms = {target.name: target.of(total_ms) for target in targets}
        self.rest = rest
        self.total_ms = total_ms
        self.filled_ms = dict.fromkeys((*self.wanted_ms, rest), 0)
        self.groups = dict.fromkeys(self.filled_ms, 0)
        self.kept: set[str] = set()
        """The splits that have groups of a previous division."""
        self.largest_ms = 0

    def assign(self, ms: int, known: str | None = None, *, only_rest: bool = False) -> str:
        """Return the split of a group with this much audio.

        Args:
            ms: its audio in milliseconds.
            known: its split in the previous division.
            only_rest: the group may not be in any other split.

        Raises:
            PlanError: the previous division has a split that there is not.
        """
        if known is not None and known not in self.filled_ms:
            raise PlanError(f"previous has a split {known!r}; there are {', '.join(self.filled_ms)}")
        fitting = (name for name, wanted in self.wanted_ms.items() if self.filled_ms[name] + ms <= wanted)
        name = known if known is not None else self.rest if only_rest else next(fitting, self.rest)
        if known is not None:
            self.kept.add(name)
        self.filled_ms[name] += ms
        self.groups[name] += 1
        self.largest_ms = max(self.largest_ms, ms)
        return name

    def shortfall(self, tolerance: float) -> str | None:
        """Return why the splits are not what was asked for, with figures; None: they are."""
        short = [name for name, ms in self.wanted_ms.items() if self.filled_ms[name] < (1 - tolerance) * ms]
        if not short and (self.filled_ms[self.rest] or self.kept):
            return None
        figures = "; ".join(
            f"{name} wants {_hours(ms)} and has {_hours(self.filled_ms[name])} in {self.groups[name]} groups"
            for name, ms in self.wanted_ms.items()
        )
        return (
            f"{', '.join(short or [self.rest])} cannot be filled: {figures}; {self.rest} has "
            f"{_hours(self.filled_ms[self.rest])} in {self.groups[self.rest]} groups. There are "
            f"{_hours(self.total_ms)} in {sum(self.groups.values())} groups, the largest of {_hours(self.largest_ms)}"
        )


def _hours(ms: int) -> str:
    return f"{ms / 3_600_000:.3f} h"
