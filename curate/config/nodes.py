"""A configuration as a tree of values that know where they were written.

Node
├── ScalarNode      text, number, true/false or null
├── SequenceNode    [a, b]
└── MappingNode     {key: value}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, cast

import attrs

from curate.config.diagnostics import SourceLocation, config_error

MAX_DEPTH = 50
"""How deep values may be nested; no pipeline needs a tenth of it, and recursion stays far from Python's limit."""

MAX_VALUES = 20_000
"""How many values a configuration may hold; longer lists are data and belong into a manifest."""

Scalar: TypeAlias = str | int | float | bool | None


@attrs.frozen
class ScalarNode:
    """One value.

    Args:
        place: where it was written.
        value: what it means.
        text: how it was written, without quotes: `1e3` rather than 1000.0.
        origin: where the value comes from if a variable stands at its place, as a remark for messages.
    """

    place: SourceLocation
    value: Scalar
    text: str
    origin: str = ""


@attrs.frozen
class SequenceNode:
    """A list of values."""

    place: SourceLocation
    items: tuple[Node, ...]
    origin: str = ""


@attrs.frozen
class MappingNode:
    """Values by name. `keys` holds the place of each key, since a mistake is often in the key."""

    place: SourceLocation
    entries: Mapping[str, Node]
    keys: Mapping[str, SourceLocation]
    origin: str = ""

    def replacing(self, name: str, value: Node, place: SourceLocation) -> MappingNode:
        """Return a copy in which `name` has this value and was written at `place`."""
        return attrs.evolve(self, entries={**self.entries, name: value}, keys={**self.keys, name: place})


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


def plain(node: Node) -> Any:
    """Return the value as Python's own lists, dicts and scalars."""
    if isinstance(node, ScalarNode):
        return node.value
    if isinstance(node, SequenceNode):
        return [plain(item) for item in node.items]
    return {name: plain(value) for name, value in node.entries.items()}


def children(node: Node) -> Iterator[Node]:
    """Yield the values directly inside a value."""
    if isinstance(node, SequenceNode):
        yield from node.items
    elif isinstance(node, MappingNode):
        yield from node.entries.values()


def at(node: Node, path: tuple[Any, ...]) -> Node:
    """Return the value at a path of keys and positions, or the last one on the way that exists."""
    for step in path:
        if isinstance(node, MappingNode) and step in node.entries:
            node = node.entries[cast("str", step)]
        elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            break
    return node


def blamed(node: Node, message: str) -> SourceLocation:
    """Return the place of the one value inside a mapping that a message names, or of the mapping if it names none.

    Stages and converters know nothing of places; most of them name the option, or quote its value.
    """
    if not isinstance(node, MappingNode):
        return node.place
    for pattern in (r"['\"`]{}['\"`]", r"(?<![\w.]){}(?!\w)"):
        named = [name for name in node.entries if re.search(pattern.format(re.escape(name)), message)]
        if len(named) == 1:
            return blamed(node.entries[named[0]], message)
    scalars = [value for value in node.entries.values() if isinstance(value, ScalarNode) and value.text]
    quoted = [value.place for value in scalars if repr(value.text) in message]
    return quoted[0] if len(quoted) == 1 else node.place


def describe(node: Node) -> str:
    """Return a short description of a value, for messages."""
    if isinstance(node, SequenceNode):
        return "a list"
    if isinstance(node, MappingNode):
        return "a mapping"
    if node.value is None:
        return "nothing (null)"
    if isinstance(node.value, str):
        return f"the string {shortened(node.value)!r}"
    return shortened(node.text)


def shortened(text: str) -> str:
    """Return a string, cut to a length that fits into a message."""
    return text if len(text) <= 60 else f"{text[:57]}…"


def require_mapping(node: Node, what: str, example: str) -> MappingNode:
    """Return the node if it is a mapping.

    Raises:
        ConfigError: it is not; the message shows the example.
    """
    if not isinstance(node, MappingNode):
        raise config_error(node.place, f"{what} must be a mapping, not {describe(node)}{node.origin}: write {example}")
    return node


def require_text(node: Node, what: str) -> str:
    """Return the text of a node.

    Raises:
        ConfigError: it is something else, or empty.
    """
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str) or not node.value.strip():
        remedy = (
            f"write it in quotes, '{node.text}'" if isinstance(node, ScalarNode) and node.text else "write a string"
        )
        raise config_error(node.place, f"{what} must be a string, not {describe(node)}{node.origin}: {remedy}")
    return node.value
