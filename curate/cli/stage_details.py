"""Describes one stage for its user: settings, options, columns, an example."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Collection
from typing import Any

import attrs

from curate.composite import CompositeStage
from curate.config.options import options_of
from curate.config.schema import described_settings
from curate.plugin import StageRef
from curate.resources import Resources
from curate.run_time_options import RUN_TIME_OPTIONS, field_names
from curate.stage import Gather, Partitioner, ProcessingStage, Source, Stage, Writer

_ROLES: tuple[tuple[type[Stage], str], ...] = (
    (Source, "reads records"),
    (Partitioner, "cuts records into batches"),
    (Gather, "sees all records together"),
    (Writer, "publishes files"),
    (CompositeStage, "stands for several stages"),
)


@attrs.frozen
class Setting:
    """One field of a stage: its type as written, its default as a Python expression, and its meaning."""

    name: str
    type: str
    required: bool
    default: str | None
    meaning: str


@attrs.frozen
class StageSheet:
    """The description that `curate stages NAME` shows.

    Args:
        reads: the columns it reads with default settings; None: it has no default settings, so this depends.
        writes: the columns it adds; None: it does not say, or it depends.
    """

    name: str
    qualified_name: str
    summary: str
    description: str
    role: str
    target: str
    extra: str | None
    settings: tuple[Setting, ...]
    run_time_options: dict[str, Any]
    reads: tuple[str, ...] | None
    writes: tuple[str, ...] | None
    example: str


def stage_sheet(reference: StageRef, name: str) -> StageSheet:
    """Import a stage and describe it.

    Args:
        reference: the stage.
        name: what a pipeline calls it: the plain name, or the qualified one if two plugins claim it.
    """
    found: type[Stage] | Stage = reference.load()
    cls = found if isinstance(found, type) else type(found)
    # A decorated function's class has fields too, but the decorator stores its arguments in them.
    settings = _settings(found) if isinstance(found, type) else ()
    reads, writes = _columns(found)
    return StageSheet(
        name=reference.name,
        qualified_name=reference.qualified_name,
        summary=reference.summary,
        description=_description(getattr(found, "function", found)),
        role=next((role for kind, role in _ROLES if issubclass(cls, kind)), _role_of_processing(found)),
        target=reference.target,
        extra=reference.extra,
        settings=settings,
        run_time_options={option: _plain(getattr(found, option)) for option in RUN_TIME_OPTIONS if option != "name"},
        reads=reads,
        writes=writes,
        example=_example(name, settings),
    )


def _role_of_processing(found: type[Stage] | Stage) -> str:
    return f"{getattr(found, 'cardinality', ProcessingStage.cardinality)} records"


def _plain(value: Any) -> Any:
    return {"cpus": value.cpus, **value.to_dict()} if isinstance(value, Resources) else value


def _settings(cls: type[Stage]) -> tuple[Setting, ...]:
    meanings = described_settings(cls)
    fields: dict[str, Any] = {}
    if attrs.has(cls):
        fields = {field.alias: field for field in attrs.fields(cls)}
    elif dataclasses.is_dataclass(cls):
        fields = {field.name: field for field in dataclasses.fields(cls)}
    found: list[Setting] = []
    for name in field_names(cls):
        required, default = _default(fields[name])
        found.append(Setting(name, _type_name(fields[name].type), required, default, meanings.get(name, "")))
    return tuple(found)


def _default(field: Any) -> tuple[bool, str | None]:
    """Return whether a value must be given, and the default as a Python expression."""
    default, factory = field.default, getattr(field, "default_factory", dataclasses.MISSING)
    if isinstance(default, attrs.Factory):  # pyright: ignore[reportArgumentType, reportUnknownArgumentType] (a class)
        made: Any = default
        return False, "(computed)" if made.takes_self else repr(made.factory())
    if default is attrs.NOTHING:
        return True, None
    if default is not dataclasses.MISSING:
        return False, repr(default)
    if factory is not dataclasses.MISSING:
        return False, repr(factory())
    return True, None


def _type_name(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _description(found: Any) -> str:
    """Return the first paragraph of the docstring on one line, unless it is the one that `@dataclass` writes."""
    text = inspect.cleandoc(found.__doc__ or "")
    if text.startswith(f"{getattr(found, '__name__', '')}("):
        return ""
    return " ".join(text.partition("\n\n")[0].split())


_STAND_IN = "required_setting"


def _columns(found: type[Stage] | Stage) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return the columns that a stage reads and writes, as far as they do not depend on required settings."""
    try:
        stage = found(**_stand_ins(found)) if isinstance(found, type) else found
        reads, writes = stage.reads(), stage.writes()
    except Exception:  # noqa: BLE001 (a third-party constructor; without settings it may raise anything)
        return None, None
    if any(_STAND_IN in str(column) for column in (*reads, *(writes or ()))):
        return None, None
    return _names(reads), None if writes is None else _names(writes)


def _stand_ins(cls: type[Stage]) -> dict[str, Any]:
    """Return a string for each required setting; a stage that needs another type raises."""
    return {option.name: _STAND_IN for option in options_of(cls).values() if option.required}


def _names(columns: Collection[str]) -> tuple[str, ...]:
    return tuple(columns) if isinstance(columns, list | tuple) else tuple(sorted(columns))


def _example(name: str, settings: tuple[Setting, ...]) -> str:
    lines = ["stages:", f"  - use: {name}"]
    lines += [f"    {one.name}: {json.dumps(f'<{one.type}>')}" for one in settings if one.required]
    return "\n".join(lines)
