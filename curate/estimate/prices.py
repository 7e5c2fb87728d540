"""The prices of resources by time, as `--price gpu=2.5/h` gives them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import attrs

from curate.errors import UsageError
from curate.resources import Resources
from curate.suggest import closest

_SECONDS = {"h": 3600.0, "min": 60.0, "s": 1.0, "d": 86400.0}
_PRICE = re.compile(r"(?P<name>[A-Za-z][\w.-]*)=(?P<amount>[0-9.eE+-]+)(?:/(?P<time>[a-z]+))?")
_KNOWN = ("cpu", "gpu", "memory_gb")


@attrs.frozen
class Prices:
    """What one of each resource costs for a second, in any currency.

    Args:
        per_s: `cpu`, `gpu`, `memory_gb` or the name of a custom resource → its price.
    """

    per_s: Mapping[str, float] = attrs.field(factory=dict[str, float])

    @classmethod
    def parse(cls, given: Iterable[str], custom: Iterable[str] = ()) -> Prices:
        """Return the prices of command-line options such as `gpu=2.5/h`; without a unit of time, of an hour.

        Args:
            given: the options.
            custom: the names of the pipeline's custom resources.

        Raises:
            UsageError: one of them is not a price, or names a resource that is not there.
        """
        known = [*_KNOWN, *custom]
        per_s: dict[str, float] = {}
        for option in given:
            match = _PRICE.fullmatch(option.strip())
            name, time = (match["name"], match["time"] or "h") if match else ("", "h")
            if match is None or time not in _SECONDS or not 0 <= (amount := _number(match["amount"])) < math.inf:
                raise UsageError(f"--price {option}: write NAME=AMOUNT/h, such as gpu=2.5/h or cpu=0.04/h")
            if name not in known:
                raise UsageError(f"--price {option}: unknown resource {name!r}: {closest(name, known)}")
            per_s[name] = amount / _SECONDS[time]
        return cls(per_s)

    def __bool__(self) -> bool:
        return bool(self.per_s)

    def of(self, resources: Resources) -> float:
        """Return the price of one worker's resources for a second."""
        amounts = {
            "cpu": resources.cpus,
            "gpu": resources.gpus,
            "memory_gb": (resources.memory or 0) / 1e9,
            **resources.custom,
        }
        return sum(self.per_s.get(name, 0.0) * amount for name, amount in amounts.items())


def _number(written: str) -> float:
    try:
        return float(written)
    except ValueError:
        return math.nan
