"""Reading YAML strictly: every value keeps its place, and whatever could mean something else is refused.

PyYAML scans and parses; the tree is built here, from its events, since its own constructor forgets places, lets the
last of two equal keys win, reads `no` as false, and follows aliases that grow without bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import attrs
import yaml
from yaml import events

from curate.config.diagnostics import Source, SourceLocation, config_error
from curate.config.nodes import MAX_DEPTH, MAX_VALUES, MappingNode, Node, ScalarNode, SequenceNode, describe, shortened
from curate.config.scalars import read_scalar

MAX_BYTES = 1_000_000
_CORE = "tag:yaml.org,2002:"


def read_document(path: str | Path) -> MappingNode:
    """Read a YAML file whose top is a mapping.

    Raises:
        ConfigError: the file cannot be read, or `parse` refuses it.
    """
    place = SourceLocation(str(path))
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise config_error(place, "the file does not exist: check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise config_error(place, f"the file cannot be read ({reason}): give a readable YAML file") from None
    root = parse(data, str(path))
    if not isinstance(root, MappingNode):
        raise config_error(root.place, "the file must hold a mapping: begin with `name:` and `stages:`")
    return root


def parse(data: bytes | str, name: str) -> Node:
    """Return the one YAML document in `data`.

    Args:
        data: the YAML; bytes must be UTF-8.
        name: what messages call it, usually the file's path.

    Raises:
        ConfigError: bad YAML, or YAML that is refused: duplicate keys, old booleans, anchors, tags, and so on.
    """
    source = Source(name)
    if len(data) > MAX_BYTES:
        raise config_error(source.place(1, 1), f"the file is larger than {MAX_BYTES:,} bytes: put data into a manifest")
    root, _ = _parsed(_decoded(data, source) if isinstance(data, bytes) else data, source)
    if root is None:
        raise config_error(source.place(1, 1), "the file is empty: begin with `name:` and `stages:`")
    return root


def parse_value(text: str, name: str) -> Node:
    """Return one value that was given on the command line: a scalar, `[a, b]` or `{key: value}`.

    Args:
        text: the value; what follows a `#` is part of a path there and never a comment, so it must be quoted.
        name: what messages call it.

    Raises:
        ConfigError: as `parse`; no value; or a value that YAML would end early.
    """
    source = Source(name, has_lines=False)
    place = source.place(1, 1)
    if len(text) > MAX_BYTES:
        raise config_error(place, "the value is too long: put it into the file")
    root, end = _parsed(text, source)
    quoted = f"quote it for YAML too, '{shortened(text.strip())}'"
    if root is None:
        remedy = quoted if text.strip() else "write null, or '' for an empty text"
        raise config_error(place, f"the value is missing: {remedy}")
    if end < len(text.rstrip()):
        raise config_error(place, f"YAML reads only {shortened(text[:end].strip())!r} of the value: {quoted}")
    if not isinstance(root, ScalarNode) and not text.lstrip().startswith(("[", "{")):
        raise config_error(
            place, f"YAML reads the value as {describe(root)}: {quoted}, or write [a, b] or {{key: value}}"
        )
    return root


def _parsed(text: str, source: Source) -> tuple[Node | None, int]:
    """Return the document's value, None if there is none, and the index at which it ends."""
    try:
        parsed = cast("Iterator[Any]", yaml.parse(text, Loader=yaml.SafeLoader))  # pyright: ignore
        builder = _TreeBuilder(source, parsed)
        return builder.document(), builder.end
    except yaml.reader.ReaderError as error:
        letter = f"U+{ord(text[error.position]):04X}"
        place = _place_of_offset(text, source, error.position)
        raise config_error(
            place, f"the character {letter} is not allowed here: remove it, or write it as \\u…"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise config_error(source.place(line, column), _explained(error, text, line, column)) from None
    except (ValueError, OverflowError) as error:  # PyYAML on "\UFFFFFFFF" and on a %YAML version of 5000 digits
        raise config_error(
            source.place(1, 1), f"the YAML cannot be read ({error}): look for a bad \\U escape"
        ) from None


def _decoded(data: bytes, source: Source) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        place = _place_of_offset(before, source, len(before))
        raise config_error(place, "the file is not UTF-8: save it as UTF-8") from None


def _place_of_offset(text: str, source: Source, offset: int) -> SourceLocation:
    before = text[:offset]
    return source.place(before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)


def _explained(error: yaml.MarkedYAMLError, text: str, line_number: int, column: int) -> str:
    problem = error.problem or "bad YAML"
    lines = text.splitlines()
    line = lines[line_number - 1] if line_number <= len(lines) else ""
    if "'\\t'" in problem or line[column - 1 : column] == "\t":
        return "a tab stands here, which YAML does not take as a space: use spaces, or quotes around the string"
    if "mapping values are not allowed" in problem:
        return f"{problem}: put a string that contains ': ' into quotes, and check the indentation"
    if "${" in line:
        return f"{problem}: put a string with ${{…}} into quotes when it stands inside {{…}} or […]"
    if "cannot start any token" in problem or "chomping or indentation" in problem:
        return f"{problem}: put the text into quotes"
    if "undefined alias" in problem or "alias" in problem or "anchor" in problem:
        return f"{problem}: put a string that begins with * or & into quotes"
    if problem.startswith("expected <block end>") and not line[: column - 1].strip():
        return _misindented(lines[: line_number - 1], column)
    if error.context:
        return f"{problem} {error.context}: check the indentation, the brackets and the quotes"
    return f"{problem}: check the indentation, the brackets and the quotes"


def _misindented(above: Sequence[str], column: int) -> str:
    """Return the message for a line that begins in a column in which no open block does."""
    number, line = max((each for each in enumerate(above, start=1) if each[1].split("#")[0].strip()), default=(1, ""))
    key = line.lstrip(" -")
    begins = len(line) - len(key) + 1
    return (
        f"this line begins in column {column}, where no open block does; "
        f"`{shortened(key.strip())}` on line {number} begins in column {begins}: check the indentation"
    )


@attrs.define
class _TreeBuilder:
    source: Source
    parsed: Iterator[Any]
    values: int = 0
    end: int = 0

    def document(self) -> Node | None:
        root: Node | None = None
        for event in self.parsed:
            if isinstance(event, events.DocumentStartEvent):
                if root is not None:
                    raise config_error(self.place(event), "a second document begins here: keep one, remove the `---`")
                root = self.value(next(self.parsed), 0)
        nothing = isinstance(root, ScalarNode) and root.value is None and not root.text
        return None if nothing else root

    def place(self, event: Any) -> SourceLocation:
        return self.source.place(event.start_mark.line + 1, event.start_mark.column + 1)

    def value(self, event: Any, depth: int) -> Node:
        place = self.place(event)
        self.values += 1
        if self.values > MAX_VALUES:
            raise config_error(place, f"there are more than {MAX_VALUES:,} values: put data into a manifest")
        if depth > MAX_DEPTH:
            raise config_error(place, f"values are nested deeper than {MAX_DEPTH}: flatten them")
        if isinstance(event, events.AliasEvent):
            raise config_error(place, "aliases (*) are not read: put the value under `vars:` and write ${vars.name}")
        if event.anchor is not None:
            raise config_error(place, "anchors (&) are not read: put the value under `vars:` and write ${vars.name}")
        if isinstance(event, events.SequenceStartEvent):
            return self.sequence(event, depth)
        if isinstance(event, events.MappingStartEvent):
            return self.mapping(event, depth)
        return self.scalar(event)

    def sequence(self, event: Any, depth: int) -> SequenceNode:
        self.check_tag(event, "seq")
        items: list[Node] = []
        while not isinstance(following := next(self.parsed), events.SequenceEndEvent):
            items.append(self.value(following, depth + 1))
        self.end = following.end_mark.index
        return SequenceNode(self.place(event), tuple(items))

    def mapping(self, event: Any, depth: int) -> MappingNode:
        self.check_tag(event, "map")
        entries: dict[str, Node] = {}
        keys: dict[str, SourceLocation] = {}
        while not isinstance(following := next(self.parsed), events.MappingEndEvent):
            name, place = self.key(following, depth + 1)
            if name in entries:
                raise config_error(place, f"`{name}` stands here for the second time, first at {keys[name]}: keep one")
            entries[name], keys[name] = self.value(next(self.parsed), depth + 1), place
        self.end = following.end_mark.index
        return MappingNode(self.place(event), entries, keys)

    def key(self, event: Any, depth: int) -> tuple[str, SourceLocation]:
        node = self.value(event, depth)
        if not isinstance(node, ScalarNode):
            raise config_error(node.place, "a list or mapping cannot be a key: write a name")
        if not isinstance(node.value, str):
            raise config_error(node.place, f"the key `{node.text}` is not a string: quote it, '{node.text}'")
        if node.value == "<<" and event.style is None:
            raise config_error(node.place, "merge keys (<<) are not read: write the values out")
        if "${" in node.value:
            raise config_error(node.place, f"variables are not read in keys: write the name itself, not {node.value!r}")
        return node.value, node.place

    def scalar(self, event: Any) -> ScalarNode:
        place, text = self.place(event), cast("str", event.value)
        self.end = event.end_mark.index
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise config_error(place, "the text holds half a surrogate pair: write the character itself, or \\U…")
        if event.tag is None:
            return ScalarNode(place, read_scalar(text, place) if event.style is None else text, text)
        kinds: dict[str, tuple[type, ...]] = {
            "str": (str,),
            "int": (int,),
            "float": (float, int),
            "bool": (bool,),
            "null": (type(None),),
        }
        kind = self.check_tag(event, *kinds)
        value = text if kind == "str" else read_scalar(text, place)
        if type(value) not in kinds[kind]:
            raise config_error(place, f"`{text}` is not what its tag !!{kind} says: leave the tag out")
        return ScalarNode(place, float(cast("float", value)) if kind == "float" else value, text)

    def check_tag(self, event: Any, *kinds: str) -> str:
        if event.tag is None:
            return kinds[0]
        kind = cast("str", event.tag).removeprefix(_CORE)
        if not event.tag.startswith(_CORE) or kind not in kinds:
            shown = event.tag if kind == event.tag else f"!!{kind}"
            raise config_error(self.place(event), f"the tag {shown} is not read: leave it out")
        return kind
