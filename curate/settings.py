"""The settings of a stage: its own fields, and the run-time options that every stage has beside them."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import inspect
import pickle
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, cast

import attrs

from curate.resources import Resources

_ANSWERED_DIFFERENTLY: Mapping[str, str] = {
    "device_id": "workers are given their cards by the executor; use `.with_(workers=<cards>)`",
    "pipeline_parallel": "stages always overlap; use `.with_(workers=…)` for more of one",
    "async_processing": "stages always overlap; use `.with_(prefetch_batches=…)` to load further ahead",
    "num_workers": "it is called `workers`",
    "num_workers_per_node": "it is called `workers`",
}


def _check_name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", value):
        raise ValueError(f"name={value!r}: a stage's name is made of letters, digits, '_', '-' and '.'")
    return value


def _check_count(minimum: int, *, optional: bool = False) -> Any:
    def check(value: Any) -> int | None:
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(f"{value!r} is not a whole number of at least {minimum}")
        return value

    return check


def _check_timeout(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{value!r} is not a number of seconds above 0")
    return float(value)


def _check_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is not True or False")
    return value


def _check_resources(value: Any) -> Resources:
    if isinstance(value, Mapping):
        return Resources(**cast("Mapping[str, Any]", value))
    if not isinstance(value, Resources):
        raise ValueError(f"{value!r} is not a Resources(…)")
    return value


RUN_TIME_OPTIONS: Mapping[str, Any] = {
    "name": _check_name,
    "batch_size": _check_count(1),
    "resources": _check_resources,
    "workers": _check_count(1, optional=True),
    "prefetch_batches": _check_count(0),
    "timeout_s": _check_timeout,
    "retries": _check_count(0),
    "checkpoint": _check_bool,
}
"""What `.with_()` changes on any stage, beside the stage's own fields; the values check what is given."""


def field_names(cls: type) -> tuple[str, ...]:
    """Return the names of a stage class's own settings, in order of declaration."""
    if attrs.has(cls):
        return tuple(field.alias for field in attrs.fields(cls) if field.init)
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls) if field.init)
    return ()


def unknown_option(cls: type, name: str) -> str:
    """Return the message for an option that `cls` does not know, with the nearest one that it knows."""
    if name in _ANSWERED_DIFFERENTLY:
        return f"{cls.__name__} has no option {name!r}: {_ANSWERED_DIFFERENTLY[name]}"
    known = [*field_names(cls), *RUN_TIME_OPTIONS]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"it knows {', '.join(known)}"
    return f"{cls.__name__} has no option {name!r}: {hint}"


def describe_value(value: Any) -> Any:
    """Return a setting as JSON-ready data that is the same for equal settings, in every process.

    A function is described by its source, because its name says nothing about what it does.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): describe_value(item) for name, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [describe_value(item) for item in cast("list[Any]", value)]
    if isinstance(value, set | frozenset):
        return sorted((describe_value(item) for item in cast("set[Any]", value)), key=repr)
    if attrs.has(type(value)):  # pyright: ignore[reportUnknownArgumentType]
        return describe_value(attrs.asdict(value, recurse=False))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: describe_value(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, PurePath):
        return str(value)
    if callable(value):
        return describe_code(value)
    return f"{type(value).__qualname__}:{hashlib.sha256(pickle.dumps(value, 5)).hexdigest()[:16]}"


def describe_code(function: Any) -> str:
    """Return a function's or class's qualified name with the sha256 of its source, or of its code if that is lost."""
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', repr(function))}"
    try:
        source = inspect.getsource(function).encode()
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        source = code.co_code + repr(code.co_consts).encode() if code is not None else b""
    return f"{name}:{hashlib.sha256(source).hexdigest()[:16]}"
