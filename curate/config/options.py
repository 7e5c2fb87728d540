"""The options that a class takes from a configuration: the fields of a dataclass or attrs class, with their types."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from typing import Any

import attrs

from curate.config import converter
from curate.stage import Stage


@attrs.frozen
class Option:
    """One field of a class.

    Args:
        name: what it is called in the constructor.
        kind: its annotation; Any if it cannot be resolved (imported for type checkers only) or the field converts.
        required: whether it has no default.
    """

    name: str
    kind: Any
    required: bool


def options_of(cls: type) -> dict[str, Option]:
    """Return the options of a class in order of declaration; none if it is neither a dataclass nor an attrs class."""
    if attrs.has(cls):
        return {
            field.alias: Option(
                field.alias,
                Any if field.converter is not None else _resolved(cls, field.name, field.type),
                field.default is attrs.NOTHING,
            )
            for field in attrs.fields(cls)
            if field.init
        }
    if dataclasses.is_dataclass(cls):
        missing = dataclasses.MISSING
        return {
            field.name: Option(
                field.name,
                _resolved(cls, field.name, field.type),
                field.default is missing and field.default_factory is missing,
            )
            for field in dataclasses.fields(cls)
            if field.init
        }
    return {}


def is_list_of_stages(kind: Any) -> bool:
    """Return whether an option is written as a list of stages, each with `use:`."""
    inner = typing.get_args(kind)
    return converter.is_list(kind) and len(inner) == 1 and isinstance(inner[0], type) and issubclass(inner[0], Stage)


def _resolved(cls: type, name: str, annotation: Any) -> Any:
    """Return an annotation that was written as text as a type, seen from the class that declares it."""
    if not isinstance(annotation, str):
        return Any if annotation is None else annotation
    owner = next((base for base in cls.__mro__ if name in _annotations(base)), cls)
    module = sys.modules.get(owner.__module__)
    holder = type(owner.__name__, (), {"__annotations__": {name: annotation}})
    try:
        return typing.get_type_hints(holder, vars(module) if module else {}, dict(vars(owner)))[name]
    except (NameError, AttributeError, TypeError, SyntaxError):
        return Any


def _annotations(cls: type) -> dict[str, Any]:
    try:
        return inspect.get_annotations(cls)
    except NameError:
        return {}
