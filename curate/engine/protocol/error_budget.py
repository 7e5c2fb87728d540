"""The error budget: the number of failed records that stops a run, so that a wrong setting does not run for days."""

from __future__ import annotations

import attrs

DEFAULT_FAILURES = 100
DEFAULT_RATIO = 0.01
"""By default, the larger of these two is allowed."""

LOOKED_AT = 200
"""The minimum number of records on which a ratio is judged."""


def _check_ratio(_: object, attribute: attrs.Attribute[float | None], value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"{attribute.name}={value!r} is not a ratio: write a number from 0 to 1, such as 0.01 for 1 %")


def _check_count(_: object, attribute: attrs.Attribute[int | None], value: int | None) -> None:
    if value is not None and value < 0:
        raise ValueError(f"{attribute.name}={value!r} is below 0; 0 stops at the first record that fails")


@attrs.frozen
class ErrorBudget:
    """The number of records that may fail before the run stops.

    Args:
        max_failures: the maximum number of failed records.
        max_failure_ratio: the maximum share of the processed records, once these are at least `LOOKED_AT`.
            Without either, the run stops when more than `DEFAULT_FAILURES` records and more than `DEFAULT_RATIO` of
            them have failed.
    """

    max_failures: int | None = attrs.field(default=None, validator=_check_count)
    max_failure_ratio: float | None = attrs.field(default=None, validator=_check_ratio)

    def exceeded(self, failures: int, records: int) -> str:
        """Return the limit that `failures` of `records` exceed, and "" while they exceed none."""
        share = DEFAULT_RATIO if self.max_failure_ratio is None else self.max_failure_ratio
        too_many = self.max_failures is not None and failures > self.max_failures
        too_large = records >= LOOKED_AT and failures > share * records
        if too_many:
            return f"max_failures = {self.max_failures}"
        if too_large and self.max_failure_ratio is not None:
            return f"max_failure_ratio = {self.max_failure_ratio:g}"
        if too_large and self.max_failures is None and failures > DEFAULT_FAILURES:
            return f"the larger of {DEFAULT_FAILURES} records and {DEFAULT_RATIO:.0%}"
        return ""
