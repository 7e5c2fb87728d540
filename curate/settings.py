"""The settings of a stage: its own fields, and the run-time options that every stage has beside them."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import inspect
import pickle
import re
import types
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
    if isinstance(value, functools.partial):
        return describe_value({"function": value.func, "args": value.args, "keywords": value.keywords})
    if isinstance(value, type) or inspect.isroutine(value):
        return describe_code(value)
    if callable(value) and getattr(value, "__dict__", None):  # what it does is in its class, what it knows in here
        return {"class": describe_code(type(value)), "state": describe_value(vars(value))}
    try:
        state = pickle.dumps(value, 5)
    except Exception as error:
        raise TypeError(f"a {type(value).__qualname__} cannot be sent to a worker: {error}") from error
    return f"{type(value).__qualname__}:{hashlib.sha256(state).hexdigest()[:16]}"


def describe_code(function: Any) -> Any:
    """Return what a function or class does: its qualified name with the sha256 of its source, or of its code if that
    is lost, and with the values that a function has closed over or takes by default.
    """
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"
    try:
        source = inspect.getsource(function).encode()
    except (OSError, TypeError):
        codes = [function, *vars(function).values()] if isinstance(function, type) else [function]
        source = b"".join(_bytecode(code.__code__) for code in codes if inspect.isfunction(code))
    described = f"{name}:{hashlib.sha256(source).hexdigest()[:16]}"
    known = _known_to(function)
    return {"function": described, **known} if known else described


def _bytecode(code: types.CodeType) -> bytes:
    """Return a function's code and constants, without the addresses and line numbers that differ between processes."""
    constants = (
        _bytecode(each) if isinstance(each, types.CodeType) else repr(each).encode() for each in code.co_consts
    )
    return b"\0".join((code.co_code, repr(code.co_names).encode(), *constants))


def _known_to(function: Any) -> dict[str, Any]:
    """Return the values that a function carries with it; functions and classes among them by name only."""
    if inspect.ismethod(function):
        return {"self": describe_value(function.__self__)}
    if not inspect.isfunction(function):
        return {}
    known = {
        name: cell.cell_contents
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        if not _is_empty(cell)
    }
    known |= {"defaults": function.__defaults__, "keyword_defaults": function.__kwdefaults__}
    return {name: _briefly(value) for name, value in known.items() if value is not None}


def _is_empty(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is cell
    except ValueError:
        return True


def _briefly(value: Any) -> Any:
    """Describe a value that a function has closed over; it may refer back to the function, or defy description."""
    if isinstance(value, type) or inspect.isroutine(value):
        return f"{value.__module__}:{value.__qualname__}"
    try:
        return describe_value(value)
    except (TypeError, RecursionError):
        return type(value).__qualname__
