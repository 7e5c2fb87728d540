"""Converts a configuration's values to the types of options, with a place for each mistake."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)

from curate.config.converter import Mismatch, is_dict, is_list, strict_converter
from curate.config.diagnostics import SourceLocation, config_error
from curate.config.nodes import MappingNode, Node, at, blamed, describe, plain
from curate.errors import ConfigError
from curate.run_time_options import field_names
from curate.suggest import closest

_REMEDIES: dict[Any, str] = {
    bool: "write true or false",
    int: "write a whole number, without quotes",
    float: "write a number, without quotes",
    str: "write a string, in quotes",
    type(None): "write null",
    Path: "write a path, in quotes",
}


def convert(node: Node, kind: Any, what: str) -> Any:
    """Return a node's value as the type `kind`.

    Args:
        node: the value, with its place.
        kind: an annotation; an unknown type passes unchecked.
        what: what the option is called in messages.

    Raises:
        ConfigError: the value is of another type; all such places inside the value, one per line.
    """
    value = plain(node)
    try:
        return strict_converter().structure(value, kind)
    except BaseValidationError as error:
        raise ConfigError("\n".join(dict.fromkeys(_messages(error, node, (), kind, what)))) from None
    except (ValueError, TypeError) as error:
        raise ConfigError(_message(error, node, (), kind, what)) from None


def _messages(error: BaseException, node: Node, path: tuple[Any, ...], kind: Any, what: str) -> list[str]:
    """Return a message for each mistake inside a value, with the place that cattrs' notes lead to."""
    if isinstance(error, ForbiddenExtraKeysError):
        inner = at(node, path)
        known = _fields(error.cl)
        keys: Mapping[str, SourceLocation] = inner.keys if isinstance(inner, MappingNode) else {}
        return [
            str(
                config_error(
                    keys.get(name, inner.place), f"{_called(what, path)} has no {name!r}: {closest(name, known)}"
                )
            )
            for name in sorted(error.extra_fields)
        ]
    if not isinstance(error, BaseValidationError):
        return [_message(error, node, path, kind, what)]
    found: list[str] = []
    for inner in error.exceptions:
        step, wanted = path, kind
        for note in getattr(inner, "__notes__", ()):
            if isinstance(note, AttributeValidationNote):
                step, wanted = (*path, note.name), note.type
                break
            if isinstance(note, IterableValidationNote):
                step, wanted = (*path, note.index), note.type
                break
        found += _messages(inner, node, step, wanted, what)
    return found


def _message(error: BaseException, node: Node, path: tuple[Any, ...], kind: Any, what: str) -> str:
    inner = at(node, path)
    called = _called(what, path)
    if isinstance(error, KeyError):
        return str(config_error(inner.place, f"{called} is missing: write `{error.args[0]}:`"))
    if not isinstance(error, Mismatch):
        return str(config_error(blamed(inner, str(error)), f"{called}: {error}{inner.origin}"))
    if error.remedy:
        remedy = error.remedy
    elif is_dict(error.kind):
        remedy = "write {key: value}"
    elif is_list(error.kind):
        remedy = "write a list, [a, b]"
    else:
        members = get_args(error.kind) or (error.kind,)
        remedy = ", or ".join(_REMEDIES[member] for member in members if member in _REMEDIES) or "write one of these"
    # Without modules: the module of `Path` differs between versions of Python.
    wanted = re.sub(r"\b(?:\w+\.)+(?=\w)", "", inspect.formatannotation(error.kind)).replace("NoneType", "None")
    return str(config_error(inner.place, f"{called} must be {wanted}, not {describe(inner)}{inner.origin}: {remedy}"))


def _called(what: str, path: tuple[Any, ...]) -> str:
    return f"`{what}{''.join(f'[{step}]' if isinstance(step, int) else f'.{step}' for step in path)}`"


def _fields(cls: Any) -> list[str]:
    return list(getattr(cls, "__annotations__", {})) if typing.is_typeddict(cls) else list(field_names(cls))
