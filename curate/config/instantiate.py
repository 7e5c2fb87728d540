"""Making an object from the options that a configuration gives it: a stage, an executor."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from curate.composite import CompositeStage, part_name
from curate.config.diagnostics import ErrorCollector, config_error
from curate.config.nodes import MappingNode, Node, SequenceNode, blamed, describe, plain, require_mapping
from curate.config.options import is_list_of_stages, options_of
from curate.config.values import convert
from curate.errors import ConfigError, UsageError
from curate.run_time_options import RUN_TIME_OPTIONS, unknown_option
from curate.stage import Stage
from curate.suggest import closest, nearest

USE = "use"
PARTS = "parts"


def make_stage(
    loaded: type[Stage] | Stage, section: MappingNode, nested: Callable[[Node], Stage] | None = None
) -> Stage:
    """Return a stage of a class, or a changed copy of an instance (a decorated function), with the section's options.

    Args:
        loaded: the class or instance.
        section: the options.
        nested: makes a stage inside an option whose type is a list of stages.

    Raises:
        ConfigError: unknown, missing or ill-typed options; or the stage refuses them.
    """
    mistakes = ErrorCollector()
    own, overrides, parts = _sorted_options(loaded, section, mistakes)
    stage = loaded
    with mistakes.collected():
        if isinstance(loaded, type):
            stage = _made(loaded, own, section, nested)
    mistakes.end()
    assert isinstance(stage, Stage)
    with located(section, stage.name):
        stage = stage.with_(**overrides) if overrides else stage
    if parts is None or not isinstance(stage, CompositeStage):
        return stage
    changes = _part_changes(stage, parts)
    with located(parts, stage.name):
        return stage.with_(parts=changes)


def _sorted_options(
    loaded: type[Stage] | Stage, section: MappingNode, mistakes: ErrorCollector
) -> tuple[dict[str, Node], dict[str, Any], Node | None]:
    """Return the section's fields of the stage, its run-time options, checked, and its `parts`."""
    fields = options_of(loaded) if isinstance(loaded, type) else {}
    has_parts = isinstance(loaded, type) and issubclass(loaded, CompositeStage)
    own: dict[str, Node] = {}
    overrides: dict[str, Any] = {}
    parts: Node | None = None
    for name, node in section.entries.items():
        if name in fields:
            own[name] = node
        elif name in RUN_TIME_OPTIONS:
            with mistakes.collected(), located(node, f"`{name}`"):
                overrides[name] = RUN_TIME_OPTIONS[name].check(plain(node))
        elif name == PARTS and has_parts:
            parts = node
        elif name != USE:
            mistakes.messages.append(str(config_error(section.keys[name], _unknown(loaded, name))))
            meant = nearest(name, fields)
            if meant is not None and meant not in section.entries:  # so that it is not reported as missing too
                own[meant] = node
    return own, overrides, parts


def _part_changes(stage: CompositeStage, node: Node) -> dict[str, dict[str, Any]]:
    """Return the changes that `parts:` makes, by the name of the part."""
    section = require_mapping(node, "`parts`", "`parts:` and below it `<part>: {batch_size: 32}`")
    try:
        parts = {part_name(stage, part): part for part in stage.parts()}
    except Exception as error:  # third-party code may raise anything
        raise config_error(node.place, f"{stage.name}: decompose() raised {type(error).__name__}: {error}") from error
    mistakes = ErrorCollector()
    changes: dict[str, dict[str, Any]] = {}
    for name, place in section.keys.items():
        with mistakes.collected():
            if name not in parts:
                raise config_error(place, f"{stage.name} has no part {name!r}: {closest(name, parts)}")
            changes[name] = _changes(parts[name], section.entries[name])
    mistakes.end()
    return changes


def _changes(part: Stage, node: Node) -> dict[str, Any]:
    """Return the settings of one part in a form that `with_` takes."""
    section = require_mapping(node, f"the part `{part.name}`", "`{batch_size: 32}`")
    mistakes = ErrorCollector()
    own, changes, parts = _sorted_options(type(part), section, mistakes)
    options = options_of(type(part))
    for name, value in own.items():
        with mistakes.collected():
            changes[name] = convert(value, options[name].kind, name)
    if parts is not None and isinstance(part, CompositeStage):
        with mistakes.collected():
            changes[PARTS] = _part_changes(part, parts)
    mistakes.end()
    return changes


def make_instance(loaded: type, section: MappingNode) -> Any:
    """Return an instance of a class with the section's options: an executor, or the settings of audio.

    Raises:
        ConfigError: unknown, missing or ill-typed options; or the class refuses them.
    """
    known = options_of(loaded)
    mistakes = ErrorCollector()
    own = {name: node for name, node in section.entries.items() if name in known}
    for name, place in section.keys.items():
        if name not in known and name != USE:
            message = f"{loaded.__name__} has no option {name!r}: {closest(name, known)}"
            mistakes.messages.append(str(config_error(place, message)))
    made: Any = None
    with mistakes.collected():
        made = _made(loaded, own, section)
    mistakes.end()
    return made


@contextmanager
def located(node: Node, what: str) -> Generator[None, None, None]:
    """Turn an error about options into a ConfigError at the place of the option that its message names."""
    try:
        yield
    except ConfigError:  # it has its place
        raise
    except (ValueError, TypeError, UsageError) as error:
        text = str(error) or type(error).__name__
        raise config_error(blamed(node, text), f"{what}: {text}{node.origin}") from error


def _made(
    cls: type, own: Mapping[str, Node], section: MappingNode, nested: Callable[[Node], Stage] | None = None
) -> Any:
    """Return an instance of a class from those of the section's options that are its fields."""
    mistakes = ErrorCollector()
    values: dict[str, Any] = {}
    for name, option in options_of(cls).items():
        if name in own:
            with mistakes.collected():
                if nested is not None and is_list_of_stages(option.kind):
                    values[name] = _nested_stages(own[name], name, nested)
                else:
                    values[name] = convert(own[name], option.kind, name)
        elif option.required:
            mistakes.messages.append(
                str(config_error(section.place, f"{cls.__name__} needs {name!r}: write `{name}: …`"))
            )
    mistakes.end()
    with located(section, cls.__name__):
        return cls(**values)


def _nested_stages(node: Node, name: str, nested: Callable[[Node], Stage]) -> list[Stage]:
    if not isinstance(node, SequenceNode):
        raise config_error(node.place, f"`{name}` must be a list, not {describe(node)}: below it `- use: <name>`")
    mistakes = ErrorCollector()
    stages: list[Stage] = []
    for item in node.items:
        with mistakes.collected():
            stages.append(nested(item))
    mistakes.end()
    return stages


def _unknown(loaded: type[Stage] | Stage, name: str) -> str:
    if isinstance(loaded, type):
        return unknown_option(loaded, name)
    return f"{loaded.name!r} is a decorated function and takes run-time options only: {unknown_option(Stage, name)}"
