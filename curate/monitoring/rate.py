"""How fast something goes: an amount of work and the time that it took, as one value that can be added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Rate:
    """Work done in a span of time; every speed that curate shows is one of these.

    Speeds of a run are differences between two of its progress events: what an earlier attempt has done took no time of
    this one. Where no time has passed, the speeds are 0 and the time left is unknown.

    Args:
        elapsed_s: the span, in seconds.
        records: records finished in it.
        audio_s: their audio, in seconds.
    """

    elapsed_s: float = 0.0
    records: int = 0
    audio_s: float = 0.0

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.elapsed_s + other.elapsed_s, self.records + other.records, self.audio_s + other.audio_s)

    def __sub__(self, earlier: Self) -> Rate:
        """Return the work since an earlier reading; a clock that went back counts as no time."""
        return Rate(
            max(self.elapsed_s - earlier.elapsed_s, 0.0),
            self.records - earlier.records,
            self.audio_s - earlier.audio_s,
        )

    @property
    def records_per_s(self) -> float:
        return self.per_s(self.records)

    @property
    def rtfx(self) -> float:
        """Seconds of audio for each second: the inverse real-time factor."""
        return self.per_s(self.audio_s)

    def per_s(self, amount: float) -> float:
        """Return an amount for each second of the span."""
        return amount / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def left_s(self, total: int | None, done: int) -> float | None:
        """Return the estimated time until `total` records are done; None: the total or the speed is not known."""
        if total is None or self.records_per_s <= 0:
            return None
        return max(total - done, 0) / self.records_per_s
