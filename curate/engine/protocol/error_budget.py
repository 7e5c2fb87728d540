"""How many records may fail before a run stops: a mistake in the settings should not fill the quarantine for days."""

from __future__ import annotations

import attrs

DEFAULT_FAILURES = 100
DEFAULT_RATIO = 0.01
"""Where nothing is said, the larger of these two is allowed."""

LOOKED_AT = 200
"""A ratio means something after so many records."""


def _check_ratio(_: object, attribute: attrs.Attribute[float | None], value: float | None) -> None:
    if value is not None and not 0 <= value <= 1:
        raise ValueError(f"{attribute.name}={value!r} is no share: write a number from 0 to 1, such as 0.01 for 1 %")


def _check_count(_: object, attribute: attrs.Attribute[int | None], value: int | None) -> None:
    if value is not None and value < 0:
        raise ValueError(f"{attribute.name}={value!r} is below 0; 0 stops at the first record that fails")


@attrs.frozen
class ErrorBudget:
    """What a run may lose to quarantine.

    Args:
        max_failures: so many records at most.
        max_failure_ratio: at most this share of the records that have been worked on, once these are `LOOKED_AT`.
            Without either, the run stops when more than `DEFAULT_FAILURES` records and more than `DEFAULT_RATIO` of
            them have failed.
    """

    max_failures: int | None = attrs.field(default=None, validator=_check_count)
    max_failure_ratio: float | None = attrs.field(default=None, validator=_check_ratio)

    def exceeded(self, failures: int, records: int) -> str:
        """Return what limit `failures` of `records` are over, and "" while they are not."""
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
