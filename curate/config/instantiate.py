"""Making an object from the options that a configuration gives it: a stage, an executor."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from curate.config.diagnostics import ErrorCollector, config_error, nearest
from curate.config.nodes import MappingNode, Node, blamed, plain
from curate.config.options import options_of
from curate.config.values import convert
from curate.errors import UsageError
from curate.settings import RUN_TIME_OPTIONS, unknown_option
from curate.stage import Stage

USE = "use"


def make_stage(loaded: type[Stage] | Stage, section: MappingNode) -> Stage:
    """Return a stage of a class, or a changed copy of an instance (a decorated function), with the section's options.

    Raises:
        ConfigError: unknown, missing or ill-typed options; or the stage refuses them.
    """
    fields = options_of(loaded) if isinstance(loaded, type) else {}
    mistakes = ErrorCollector()
    overrides: dict[str, Any] = {}
    own: dict[str, Node] = {}
    for name, node in section.entries.items():
        if name in fields:
            own[name] = node
        elif name in RUN_TIME_OPTIONS:
            with mistakes.collected(), located(node, f"`{name}`"):
                overrides[name] = RUN_TIME_OPTIONS[name](plain(node))
        elif name != USE:
            mistakes.messages.append(str(config_error(section.keys[name], _unknown(loaded, name))))
    stage = loaded
    with mistakes.collected():
        if isinstance(loaded, type):
            stage = _made(loaded, own, section)
    mistakes.end()
    assert isinstance(stage, Stage)
    with located(section, stage.name):
        return stage.with_(**overrides) if overrides else stage


def make_executor(loaded: type, section: MappingNode) -> Any:
    """Return an executor of a class, with the section's options.

    Raises:
        ConfigError: unknown, missing or ill-typed options; or the executor refuses them.
    """
    known = options_of(loaded)
    mistakes = ErrorCollector()
    own = {name: node for name, node in section.entries.items() if name in known}
    for name, place in section.keys.items():
        if name not in known and name != USE:
            message = f"{loaded.__name__} has no option {name!r}: {nearest(name, known)}"
            mistakes.messages.append(str(config_error(place, message)))
    executor: Any = None
    with mistakes.collected():
        executor = _made(loaded, own, section)
    mistakes.end()
    return executor


@contextmanager
def located(node: Node, what: str) -> Generator[None, None, None]:
    """Turn what a stage or executor says against its options into a ConfigError at the place of the one it names."""
    try:
        yield
    except (ValueError, TypeError, UsageError) as error:
        text = str(error) or type(error).__name__
        raise config_error(blamed(node, text), f"{what}: {text}{node.origin}") from error


def _made(cls: type, own: Mapping[str, Node], section: MappingNode) -> Any:
    """Return an instance of a class from those of the section's options that are its fields."""
    mistakes = ErrorCollector()
    values: dict[str, Any] = {}
    for name, option in options_of(cls).items():
        if name in own:
            with mistakes.collected():
                values[name] = convert(own[name], option.kind, name)
        elif option.required:
            mistakes.messages.append(
                str(config_error(section.place, f"{cls.__name__} needs {name!r}: write `{name}: …`"))
            )
    mistakes.end()
    with located(section, cls.__name__):
        return cls(**values)


def _unknown(loaded: type[Stage] | Stage, name: str) -> str:
    if isinstance(loaded, type):
        return unknown_option(loaded, name)
    return f"{loaded.name!r} is a decorated function and takes run-time options only: {unknown_option(Stage, name)}"
