"""What the options of executors are held to."""

from __future__ import annotations

from typing import Any

import attrs


def positive(_: Any, attribute: attrs.Attribute[Any], value: float | None) -> None:
    """Check that a number is above 0; None passes.

    Raises:
        ValueError: it is not.
    """
    if value is not None and not value > 0:
        raise ValueError(f"{attribute.name}={value!r}: must be above 0")
