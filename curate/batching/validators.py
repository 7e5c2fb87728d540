"""Validators of batcher options; a value out of range is a `PlanError` whose message contains the range."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from curate.errors import PlanError

if TYPE_CHECKING:
    import attrs

    Validator = Callable[[Any, attrs.Attribute[Any], Any], None]


def whole(minimum: int, *, optional: bool = False) -> Validator:
    """Return a validator of whole numbers of at least `minimum`, and of None if `optional`."""

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise PlanError(f"{field.name}={value!r}: must be a whole number of at least {minimum}")

    return check


def number(*, above: float = -math.inf, least: float = -math.inf, optional: bool = False) -> Validator:
    """Return a validator of finite numbers above or at least at a bound, and of None if `optional`."""
    bound = f"of at least {least:g}" if least > above else f"above {above:g}"

    def check(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
        if value is None and optional:
            return
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < math.inf:
            raise PlanError(f"{field.name}={value!r}: must be a number {bound}")
        if value <= above:
            raise PlanError(f"{field.name}={value!r}: must be a number {bound}")

    return check


def flag(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Accept True and False only: another truthy value, such as "no", would switch an option on by mistake."""
    if not isinstance(value, bool):
        raise PlanError(f"{field.name}={value!r}: must be True or False")


def shuffle_window(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    """Accept the size of a shuffle window; 0 is rejected, because in other libraries it means all data in memory."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PlanError(
            f"{field.name}={value!r}: must be a whole number of at least 1 (1 is off). A window over the whole data "
            "would hold all of it in memory; choose a size that fits"
        )
