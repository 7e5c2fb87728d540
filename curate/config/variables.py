"""Putting `${vars.name}` and `${here}` into the values of a configuration.

    ${vars.name}    the value under `vars:`; standing alone it keeps its type, inside a string it is written out
    ${here}         the folder of the configuration file
    $${             the two characters ${

The environment is not read: a run must be explained by its file and its command line. The shell does it in the open,
with `--set vars.name="$NAME"`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from curate.config.diagnostics import ErrorCollector, SourceLocation, config_error
from curate.config.nodes import (
    MAX_DEPTH,
    MAX_VALUES,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    children,
    describe,
    require_mapping,
    shortened,
)
from curate.suggest import closest, nearest

MAX_TEXT = 100_000
"""Maximum length of a string, so that variables made of variables cannot fill the memory."""

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")


def references(node: Node) -> Iterator[str]:
    """Yield the names of the variables that a value refers to, such as `vars.manifest`."""
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        yield from (match[1].strip() for match in _REFERENCE.finditer(node.value) if match[1] is not None)
    for child in children(node):
        yield from references(child)


def interpolate(document: MappingNode, folder: Path) -> MappingNode:
    """Return the document with its variables put in, and without `vars`.

    Args:
        document: the top of a configuration, overrides applied.
        folder: what `${here}` stands for.

    Raises:
        ConfigError: unknown or circular variables, all of them; or values that grow beyond all bounds.
    """
    empty = MappingNode(document.place, {}, {})
    variables = document.entries.get("vars", empty)
    if isinstance(variables, ScalarNode) and variables.value is None:
        variables = empty
    variables = require_mapping(variables, "`vars`", "`vars:` and below it `  name: value`")
    values = _Variables(variables, folder)
    mistakes = ErrorCollector()
    for name, place in variables.keys.items():
        with mistakes.collected():
            if "." in name:
                raise config_error(place, f"the variable {name!r} has a '.' in its name: write it without, or nest it")
            values.looked_up(f"vars.{name}", place, 0, ())
    mistakes.end()
    done: dict[str, Node] = {}
    for name, node in document.entries.items():
        if name == "vars":
            continue
        with mistakes.collected():
            if isinstance(node, SequenceNode):
                items: list[Node] = []
                for item in node.items:
                    with mistakes.collected():
                        items.append(values.replaced(item, 1, ()))
                done[name] = attrs.evolve(node, items=tuple(items))
            else:
                done[name] = values.replaced(node, 0, ())
    mistakes.end()
    return attrs.evolve(document, entries=done, keys={name: document.keys[name] for name in done})


@attrs.define
class _Variables:
    declared: MappingNode
    folder: Path
    known: dict[str, Node] = attrs.field(factory=dict[str, Node])
    spent: int = 0

    def replaced(self, node: Node, depth: int, within: tuple[str, ...]) -> Node:
        """Return the value with variables put in; `within` names those whose value is being worked out."""
        if depth > MAX_DEPTH:
            raise config_error(node.place, f"variables make values nested deeper than {MAX_DEPTH}: write them out")
        if isinstance(node, SequenceNode):
            return attrs.evolve(node, items=tuple(self.replaced(item, depth + 1, within) for item in node.items))
        if isinstance(node, MappingNode):
            entries = {name: self.replaced(value, depth + 1, within) for name, value in node.entries.items()}
            return attrs.evolve(node, entries=entries)
        if isinstance(node.value, str) and "${" in node.value:
            return self.replaced_scalar(node, node.value, depth, within)
        return node

    def replaced_scalar(self, node: ScalarNode, text: str, depth: int, within: tuple[str, ...]) -> Node:
        alone = _REFERENCE.fullmatch(text)
        if alone is not None and alone[1] is not None:
            name = alone[1].strip()
            value = self.looked_up(name, node.place, depth, within)
            self.measure(value, depth, node.place)
            return attrs.evolve(value, place=node.place, origin=_origin(name, value))
        whole = ""
        origin = node.origin
        end = 0
        for match in _REFERENCE.finditer(text):
            whole += text[end : match.start()]
            end = match.end()
            if match[0] == "$${":
                whole += "${"
            elif match[1] is None:
                raise config_error(
                    node.place, f"`${{` is never closed in {shortened(text)!r}: write `}}`, or $${{ for ${{"
                )
            else:
                name = match[1].strip()
                value = self.looked_up(name, node.place, depth, within)
                origin = _origin(name, value)
                whole += self.written(name, value, node.place)
            if len(whole) > MAX_TEXT:
                raise config_error(
                    node.place, f"variables make a string longer than {MAX_TEXT:,} characters: shorten it"
                )
        whole += text[end:]
        self.spend(len(whole) // 100, node.place)
        return attrs.evolve(node, value=whole, text=whole, origin=origin)

    def looked_up(self, name: str, place: SourceLocation, depth: int, within: tuple[str, ...]) -> Node:
        if name == "here":
            return ScalarNode(place, str(self.folder), str(self.folder))
        if name in within:
            circle = [*reversed(within[: within.index(name) + 1]), name]
            raise config_error(place, f"variables refer to each other in a circle, {' → '.join(circle)}: break it")
        if name in self.known:
            return self.known[name]
        self.known[name] = self.replaced(self.found(name, place), depth + 1, (name, *within))
        return self.known[name]

    def found(self, name: str, place: SourceLocation) -> Node:
        node: Node = self.declared
        head, *path = name.split(".")
        for number, step in enumerate(path if head == "vars" else []):
            if not isinstance(node, MappingNode):
                raise config_error(place, f"`{'.'.join([head, *path[:number]])}` is {describe(node)}: remove `.{step}`")
            if step not in node.entries:
                break
            node = node.entries[step]
        else:
            if head == "vars" and path:
                return node
        if name.startswith("env:") or name == "env":
            raise config_error(
                place, f'`${{{name}}}`: the environment is not read: write ${{vars.x}} and pass --set vars.x="$X"'
            )
        known = ["here", *(f"vars.{known}" for known in self.declared.entries)]
        remedy = closest(name, known)
        if head == "vars" and path and nearest(name, known) is None:
            remedy = f"set it under `vars:`, or pass --set {name}=…"
        raise config_error(place, f"unknown variable `${{{shortened(name)}}}`: {remedy}")

    def measure(self, node: Node, depth: int, place: SourceLocation) -> None:
        if depth > MAX_DEPTH:
            raise config_error(place, f"variables make values nested deeper than {MAX_DEPTH}: write them out")
        self.spend(1, place)
        for child in children(node):
            self.measure(child, depth + 1, place)

    def spend(self, amount: int, place: SourceLocation) -> None:
        self.spent += amount
        if self.spent > MAX_VALUES:
            raise config_error(place, f"variables make more than {MAX_VALUES:,} values: put data into a manifest")

    def written(self, name: str, value: Node, place: SourceLocation) -> str:
        if not isinstance(value, ScalarNode) or value.value is None:
            raise config_error(
                place, f"`${{{name}}}` is {describe(value)} and cannot stand inside a string: give it a string"
            )
        return value.text


def _origin(name: str, value: Node) -> str:
    return value.origin or (f" (`${{{name}}}`)" if name == "here" else f" (`${{{name}}}` from {value.place})")
