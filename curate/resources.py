"""The resources of the machine that one worker of a stage needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Never

import attrs

from curate.suggest import closest

_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for suffix, base in (("", 1000), ("B", 1000), ("iB", 1024))
}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")

_ANSWERED_DIFFERENTLY = {
    "device_id": "the executor assigns GPUs to workers; write `gpus=1.0` and `.with_(workers=<GPUs>)`",
    "num_gpus": "the resource is called `gpus`",
    "num_cpus": "the resource is called `cpus`",
}


def parse_size(text: str | int | float) -> int:
    """Return a size in bytes from a number of bytes or a string such as `"6.5GB"` (powers of 1000) or `"6GiB"` (1024).

    Raises:
        ValueError: the string is not a number with one of these units.
    """
    if isinstance(text, bool):
        raise ValueError(f"{text!r} is not a size; write bytes, or a number with a unit such as '6.5GB'")
    if isinstance(text, int | float):
        return int(text)
    match = _SIZE.fullmatch(text)
    units = {name.lower(): factor for name, factor in _UNITS.items()}
    if match is None or match[2].lower() not in units:
        known = ", ".join(filter(None, _UNITS))
        raise ValueError(f"{text!r} is not a size; write a number with one of the units {known}")
    return int(float(match[1]) * units[match[2].lower()])


def _optional_size(value: str | int | float | None) -> int | None:
    return None if value is None else parse_size(value)


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {value!r}")
    return float(value)


def _floats(value: Mapping[str, Any]) -> dict[str, float]:
    return {name: _to_float(amount) for name, amount in value.items()}


def _not_negative(_: Resources, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not 0 <= value < float("inf"):
        raise ValueError(f"Resources({attribute.name}={value!r}): must be a finite number of at least 0")


@attrs.frozen(init=False)
class Resources:
    """The resources that one worker of a stage needs.

    Args:
        cpus: cores; the worker's thread pools are pinned to this many.
        gpus: GPUs; a fraction is a share of one GPU, a whole number reserves that many.
        gpu_memory_gb: GPU memory in GB, resolved on the machine where the worker runs.
        memory: main memory, in bytes or as a string such as `"6.5GB"`.
        custom: other resources by name, as the executor defines them (Ray).

    Raises:
        TypeError: an unknown name; for a name of another framework, the message says curate's.
        ValueError: a negative or infinite amount, or a size that cannot be parsed.
    """

    cpus: float = attrs.field(default=1.0, converter=_to_float, validator=_not_negative)
    gpus: float = attrs.field(default=0.0, converter=_to_float, validator=_not_negative)
    gpu_memory_gb: float = attrs.field(default=0.0, converter=_to_float, validator=_not_negative)
    memory: int | None = attrs.field(default=None, converter=_optional_size, validator=_not_negative)
    custom: dict[str, float] = attrs.field(factory=dict[str, float], converter=_floats, hash=False)

    def __init__(
        self,
        cpus: float = 1.0,
        gpus: float = 0.0,
        gpu_memory_gb: float = 0.0,
        memory: str | int | None = None,
        custom: Mapping[str, float] | None = None,
        **unknown: Never,
    ) -> None:
        for name in unknown:
            hint = _ANSWERED_DIFFERENTLY.get(name) or closest(name, [field.name for field in attrs.fields(Resources)])
            raise TypeError(f"Resources has no {name!r}: {hint}")
        self.__attrs_init__(cpus, gpus, gpu_memory_gb, memory, custom or {})  # pyright: ignore
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"Resources(gpus={self.gpus}): more than one GPU must be a whole number")

    def to_dict(self) -> dict[str, Any]:
        """Return the values that differ from the defaults, as YAML writes them."""
        default = Resources()
        mine: dict[str, Any] = attrs.asdict(self)
        return {name: value for name, value in mine.items() if value != getattr(default, name)}
