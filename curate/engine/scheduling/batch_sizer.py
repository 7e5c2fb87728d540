"""Decides how batches travel: how many ahead to a worker, how many together, and in how many pieces.

Pure: measured times in, counts out. Long batches are kept back and cut, so that no worker idles while another one has a
queue; batches of microseconds travel together and ahead, so that no worker waits for a message.
"""

from __future__ import annotations

import math

LONG_BATCH_S = 2.0
"""After a batch of this length the next one may wait in the driver, where it can still be split for an idle worker."""

AHEAD_S = 0.005
"""Batches are sent ahead to a worker until they cover this much work, so that it never waits for a message."""

WORTH_SPLITTING_S = 0.01
"""A batch that takes less is not split."""

MESSAGE_S = 0.002
"""Batches that take less travel together, if the stages process one record at a time, so that results do not change."""

MAX_MERGED = 64
"""At most this many batches travel together."""

HANDLING_S = 2e-6
"""Approximate time that a record costs a worker in addition to the stages' work; most of it is pickling."""


class BatchSizer:
    """Sizes the batches of one hop by the time that earlier ones took.

    Args:
        max_in_flight: how many batches the transport lets a worker have.
        merges: whether short batches may travel together.
    """

    def __init__(self, max_in_flight: int, *, merges: bool) -> None:
        self._max_in_flight = max_in_flight
        self._merges = merges
        self._batch_s: float | None = None
        self._record_s: float | None = None
        self.merge_limit = 1
        """How many batches are to travel together."""
        self.depth = 1
        """How many batches a worker should have: the one that it works on, and enough to cover a message."""

    def record_batch(self, worked_s: float, records: int, batches: int) -> None:
        """Record that `batches` batches, of `records` records together, took the stages of one worker `worked_s`."""
        self._record_s = _smoothed(self._record_s, worked_s / records)
        self._batch_s = _smoothed(self._batch_s, (worked_s + HANDLING_S * records) / batches)
        if self._merges:
            self.merge_limit = max(1, min(MAX_MERGED, math.ceil(MESSAGE_S / self._batch_s)))
        message_s = self.merge_limit * self._batch_s
        ahead = 0 if message_s >= LONG_BATCH_S else math.ceil(AHEAD_S / message_s)
        self.depth = min(self._max_in_flight, 1 + ahead)

    def split_count(self, records: int, *, waiting: int, workers: int, idle: int, last: bool) -> int:
        """Return into how many pieces a batch should be cut, so that no worker is idle while others have much.

        Args:
            records: how many records it has.
            waiting: how many records wait for the hop, this batch's among them.
            workers: how many workers the hop has.
            idle: how many of them have nothing to do and nothing else to get.
            last: whether the hop will get no more work. Pieces then get ever smaller (each is a fair share of half
                of what is left), so that all workers end at about the same time.
        """
        if self._record_s is not None and self._record_s * records < WORTH_SPLITTING_S:
            return 1
        pieces = idle
        if last and self._record_s is not None and workers > 1:
            fair_share = -(-waiting // (2 * workers))
            piece = max(1, fair_share, math.ceil(WORTH_SPLITTING_S / max(self._record_s, 1e-9)))
            pieces = max(pieces, records // piece)
        return max(1, min(pieces, records))


def _smoothed(before: float | None, now: float) -> float:
    return now if before is None else 0.7 * before + 0.3 * now
