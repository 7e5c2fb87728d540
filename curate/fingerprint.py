"""Descriptions of values and code for fingerprints: equal for equal settings, in every process."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import hashlib
import inspect
import pickle
import sys
import types
from collections.abc import Mapping
from importlib import metadata
from pathlib import PurePath
from typing import Any, cast

import attrs


def describe_value(value: Any) -> Any:
    """Return a setting as JSON-ready data that is the same for equal settings, in every process.

    A function is described by its source and by the names that it uses, because its own name does not identify it.

    Raises:
        TypeError: it cannot be sent to a worker.
    """
    return _describe(value, frozenset())


def describe_code(function: Any) -> Any:
    """Return the description of a function's or class's code, as JSON-ready data.

    It is the qualified name with the sha256 of the source (of the bytecode where the source is lost), the values that a
    function has closed over or takes by default, and, for code that is in no installed distribution, the plain globals
    and the other such functions, classes and modules that it uses.
    """
    return _describe_code(function, frozenset())


@functools.cache
def distributions() -> Mapping[str, list[str]]:
    """Return the installed distributions of every top-level module."""
    return metadata.packages_distributions()


def is_installed(module: str) -> bool:
    """Return whether a version identifies a module's code: not that of a script, a notebook or a plugins-file."""
    top = module.partition(".")[0]
    return top != "__main__" and (top == "curate" or top in sys.stdlib_module_names or top in distributions())


def _describe(value: Any, within: frozenset[int]) -> Any:
    """Describe a value; `within` are the ids of the values that it is part of, so that a cycle ends."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if id(value) in within:
        return "…"
    within |= {id(value)}
    if isinstance(value, Mapping):
        return {str(name): _describe(item, within) for name, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_describe(item, within) for item in cast("list[Any]", value)]
    if isinstance(value, set | frozenset):
        return sorted((_describe(item, within) for item in cast("set[Any]", value)), key=repr)
    if isinstance(value, type) or inspect.isroutine(value):
        return _describe_code(value, within)
    return _describe_object(value, within)


def _describe_object(value: Any, within: frozenset[int]) -> Any:
    if attrs.has(type(value)):  # pyright: ignore[reportUnknownArgumentType]
        return _describe(attrs.asdict(value, recurse=False), within)
    if dataclasses.is_dataclass(value):
        return {field.name: _describe(getattr(value, field.name), within) for field in dataclasses.fields(value)}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, functools.partial):
        return _describe({"function": value.func, "args": value.args, "keywords": value.keywords}, within)
    if callable(value) and getattr(value, "__dict__", None):
        # a callable object is described by its class, for what it does, and its attributes, for what it does it with
        return {"class": _describe_code(type(value), within), "state": _describe(vars(value), within)}
    return _describe_state(value, within)


def _describe_state(value: Any, within: frozenset[int]) -> Any:
    cls: type[Any] = type(value)  # pyright: ignore[reportUnknownVariableType]
    try:
        if _is_its_attributes(cls) and (state := value.__getstate__()) is not None:
            return {"class": f"{cls.__module__}:{cls.__qualname__}", "state": _describe(state, within)}
        pickled = pickle.dumps(value, 5)
    except Exception as error:
        raise TypeError(f"a {cls.__qualname__} cannot be sent to a worker: {error}") from error
    return f"{cls.__qualname__}:{hashlib.sha256(pickled).hexdigest()[:16]}"


def _is_its_attributes(cls: type) -> bool:
    """Return whether an object is made of attributes alone; these are described one by one, because the order in which
    a set is pickled differs from process to process.
    """
    plain = cls.__reduce_ex__ is object.__reduce_ex__ and cls.__reduce__ is object.__reduce__
    return plain and not hasattr(cls, "__getnewargs__") and not hasattr(cls, "__getnewargs_ex__")


def _describe_code(function: Any, within: frozenset[int]) -> Any:
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"
    members = list(vars(function).values()) if isinstance(function, type) else [function]
    functions = [_function_in(member) for member in members]
    try:
        source = inspect.getsource(function).encode()
    except (OSError, TypeError):
        source = b"".join(_bytecode(member.__code__) for member in functions if member is not None)
    described = f"{name}:{hashlib.sha256(source).hexdigest()[:16]}"
    within |= {id(function)}
    known = _known_to(function, within)
    if not is_installed(getattr(function, "__module__", None) or ""):
        # a dataclass has methods that live in the standard library
        own = [member for member in functions if member and not is_installed(member.__globals__.get("__name__", ""))]
        used = {name: what for member in own for name, what in _used_by(member, within).items()}
        known |= {"its globals": used} if used else {}
    return {"function": described, **known} if known else described


def _function_in(member: Any) -> types.FunctionType | None:
    """Return the function behind a class's method, property or static method."""
    unwrapped = getattr(member, "fget", getattr(member, "__func__", member))
    return unwrapped if inspect.isfunction(unwrapped) else None


def _bytecode(code: types.CodeType) -> bytes:
    """Return a function's code and constants, without the addresses and line numbers that differ between processes."""
    constants = (
        _bytecode(each) if isinstance(each, types.CodeType) else repr(each).encode() for each in code.co_consts
    )
    return b"\0".join((code.co_code, repr(code.co_names).encode(), *constants))


def _known_to(function: Any, within: frozenset[int]) -> dict[str, Any]:
    """Return the values that a function carries with it."""
    if inspect.ismethod(function):
        return {"self": _describe(function.__self__, within)}
    if not inspect.isfunction(function):
        return {}
    known = {
        name: cell.cell_contents
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        if not _is_empty(cell)
    }
    known |= {"defaults": function.__defaults__, "keyword_defaults": function.__kwdefaults__}
    return {name: _briefly(value, within) for name, value in known.items() if value is not None}


def _is_empty(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is cell
    except ValueError:
        return True


def _briefly(value: Any, within: frozenset[int]) -> Any:
    """Describe a value that a function has closed over; it may refer back to the function, or not be picklable."""
    if isinstance(value, type) or inspect.isroutine(value):
        if not is_installed(value.__module__ or ""):
            return "…" if id(value) in within else _describe_code(value, within)
        return f"{value.__module__}:{value.__qualname__}"
    try:
        return _describe(value, within)
    except (TypeError, RecursionError):
        return type(value).__qualname__


def _used_by(function: types.FunctionType, within: frozenset[int]) -> dict[str, Any]:
    """Return the globals that a function uses, except for those that a version number covers."""
    used: dict[str, Any] = {}
    for name in sorted(_names_in(function.__code__)):
        value = function.__globals__.get(name)
        if value is None or name.startswith("__") or id(value) in within:
            continue
        if _is_plain(value):
            used[name] = _describe(value, within)
        elif isinstance(value, type) or inspect.isfunction(value):
            if not is_installed(value.__module__ or ""):
                used[name] = _describe_code(value, within)
        elif inspect.ismodule(value) and not is_installed(value.__name__):
            with contextlib.suppress(OSError, TypeError):
                source = inspect.getsource(value).encode()
                used[name] = f"{value.__name__}:{name}:{hashlib.sha256(source).hexdigest()[:16]}"
    return used


def _names_in(code: types.CodeType) -> set[str]:
    inner = (_names_in(each) for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*inner)


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, cast("tuple[Any, ...]", value)))
    return value is None or isinstance(value, str | bool | int | float)
