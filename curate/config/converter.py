"""A cattrs converter that checks and hardly converts: the string `"5"` does not pass as a number or a list of letters.

By default cattrs converts whatever it can (`int("5")`, `list("abc")`). Here each scalar has a hook that only compares
types, and each container one that asks for the right shape first. Allowed are: int to float, text to Path, a list to
any kind of collection, a mapping to an attrs class or dataclass. Annotations that name no known type are not checked.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin

import attrs
import cattrs
from cattrs.errors import BaseValidationError

from curate.resources import Resources
from curate.suggest import nearest

_SCALARS: tuple[Any, ...] = (bool, int, float, str, type(None))
_LISTS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Set)
_LOOSE_LISTS = (collections.abc.Iterable, collections.abc.Collection)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class Mismatch(TypeError):
    """A value is not what an annotation asks for.

    Args:
        kind: the annotation.
        remedy: what to write instead, if the annotation alone does not say it.
    """

    def __init__(self, kind: Any, remedy: str = "") -> None:
        super().__init__(kind, remedy)
        self.kind = kind
        self.remedy = remedy


@functools.cache
def strict_converter() -> cattrs.Converter:
    """Return the converter, made when it is first needed."""
    converter = cattrs.Converter(
        forbid_extra_keys=True,
        prefer_attrib_converters=True,
        structure_fallback_factory=lambda _: _unchecked,
    )
    for kind in _SCALARS:
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(Path, _path)
    converter.register_structure_hook(Resources, _resources)
    guarded: list[Any] = []  # the containers whose own hook is being looked up behind the guard

    def guard(kind: Any) -> Callable[[Any, Any], Any]:
        wanted = kind
        if _origin(kind) in _LOOSE_LISTS:
            wanted = list[get_args(kind) or (Any,)]
        guarded.append(wanted)
        try:
            inner = converter.get_structure_hook(wanted, cache_result=False)
        finally:
            guarded.pop()
        shape = dict if is_dict(kind) else list

        def structure(value: Any, _: Any) -> Any:
            if type(value) is not shape:
                raise Mismatch(kind)
            return inner(value, wanted)

        return structure

    def union(kind: Any) -> Callable[[Any, Any], Any]:
        return lambda value, _: _union(converter, value, kind)

    def literal(kind: Any) -> Callable[[Any, Any], Any]:
        return lambda value, _: _literal(value, kind)

    converter.register_structure_hook_factory(
        lambda kind: not any(kind is other for other in guarded) and (is_dict(kind) or is_list(kind)), guard
    )
    converter.register_structure_hook_factory(lambda kind: _origin(kind) in (Union, types.UnionType), union)
    converter.register_structure_hook_factory(lambda kind: _origin(kind) is Literal, literal)
    return converter


def _origin(kind: Any) -> Any:
    return get_origin(kind) or kind


def is_list(kind: Any) -> bool:
    """Return whether values of this type are written as a YAML list."""
    return _origin(kind) in (*_LISTS, *_LOOSE_LISTS)


def is_dict(kind: Any) -> bool:
    """Return whether values of this type are written as a YAML mapping."""
    origin = _origin(kind)
    if origin in _DICTS or typing.is_typeddict(origin):
        return True
    return isinstance(origin, type) and (attrs.has(origin) or dataclasses.is_dataclass(origin)) and kind != Resources


def _unchecked(value: Any, _: Any) -> Any:
    return value


def _exactly(kind: Any) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise Mismatch(kind)
        return value

    return structure


def _number(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise Mismatch(float)
    return float(value)


def _path(value: Any, _: Any) -> Path:
    if type(value) is not str or not value:
        raise Mismatch(Path)
    return Path(value)


def _resources(value: Any, _: Any) -> Resources:
    if not isinstance(value, dict):
        raise Mismatch(Resources, "write {cpus: 1, gpus: 0}")
    return Resources(**cast("dict[str, Any]", value))


def _literal(value: Any, kind: Any) -> Any:
    choices = get_args(kind)
    for choice in choices:
        given = getattr(choice, "value", choice)
        if type(given) is type(value) and given == value:
            return choice
    written = [str(getattr(choice, "value", choice)) for choice in choices]
    near = nearest(value, written) if isinstance(value, str) and value not in written else None
    raise Mismatch(kind, f"did you mean {near!r}?" if near else f"choose from {', '.join(map(repr, choices))}")


def _union(converter: cattrs.Converter, value: Any, kind: Any) -> Any:
    members = get_args(kind)
    if type(value) in members and type(value) in _SCALARS:
        return value
    inner: list[Exception] = []  # the shape fits, something inside does not
    remedies: list[str] = []
    for member in members:
        try:
            return converter.structure(value, member)
        except Mismatch as error:
            remedies += [error.remedy] if error.remedy else []
        except (BaseValidationError, ValueError, TypeError) as error:
            inner.append(error)
    if len(inner) == 1:
        raise inner[0]
    raise Mismatch(kind, " or ".join(remedies))
