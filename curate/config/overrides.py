"""`--set path=value`: changing single values of a configuration from the command line, before variables are put in.

    --set vars.manifest=/data/mine.jsonl        --set stages.asr.batch_size=32
    --set executor.use=ray                      --set stages.0.resources.gpus=1

A stage is addressed by its name in the plan, else by the last part of its `use:`, else by its position from 0; a part
of a composite stage by its name in the plan, `stages.asr_and_wer.asr.batch_size`. A new value is parsed as strictly as
the file, and its mistakes carry the place `--set <path>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import attrs

from curate.config.addresses import StageAddresses, stage_nodes, used_name
from curate.config.diagnostics import ErrorCollector, SourceLocation, config_error
from curate.config.nodes import MappingNode, Node, ScalarNode, SequenceNode, describe, shortened
from curate.config.variables import references
from curate.config.yaml_reader import parse_value
from curate.suggest import closest

TOP_LEVEL = (
    "name",
    "vars",
    "stages",
    "audio",
    "executor",
    "run_dir",
    "audio_memory",
    "spool_dir",
    "spool_gb",
    "max_failures",
    "max_failure_ratio",
)

_FORM = "write --set path=value, such as --set stages.asr.batch_size=32"


def override(document: MappingNode, sets: Iterable[str], addresses: StageAddresses) -> MappingNode:
    """Return the document with all overrides applied, in order; the last of two for the same path wins.

    Args:
        document: the top of a configuration.
        sets: the overrides, `path=value`.
        addresses: finds the names of the document's stages.

    Raises:
        ConfigError: paths that lead nowhere, or bad values, all of them.
    """
    mistakes = ErrorCollector()
    for text in sets:
        with mistakes.collected():
            document = _overridden(document, text, addresses)
    mistakes.end()
    return document


def replace_executor(document: MappingNode, name: str) -> MappingNode:
    """Return the document with another executor; options that the file gives to a different one are dropped."""
    place = SourceLocation(f"--executor {name}")
    given = document.entries.get("executor")
    if isinstance(given, MappingNode):
        used = given.entries.get("use")
        if isinstance(used, ScalarNode) and used.value == name:
            return document
    use = ScalarNode(place, name, name)
    return document.replacing("executor", MappingNode(place, {"use": use}, {"use": place}), place)


def _overridden(document: MappingNode, text: str, addresses: StageAddresses) -> MappingNode:
    path, equals, value_text = text.partition("=")
    path = path.strip()
    place = SourceLocation(f"--set {shortened(path)}")
    if not equals or not path:
        raise config_error(SourceLocation(f"--set {shortened(text)}"), f"no {'path' if equals else '='}: {_FORM}")
    top, _, rest = path.partition(".")
    if top not in TOP_LEVEL:
        if top in addresses.names(document):
            raise config_error(place, f"unknown setting {top!r}: did you mean stages.{path}?")
        raise config_error(place, f"unknown setting {top!r}: {closest(top, TOP_LEVEL)}")
    value = parse_value(value_text, str(place))
    if top == "stages":
        steps = _stage_steps(document, rest, place, addresses)
    elif top == "vars":
        steps = _variable_steps(document, rest, place)
    else:
        steps = rest.split(".") if rest else []
    if not all(steps):
        raise config_error(place, f"the path has an empty part: {_FORM}")
    return document.replacing(top, _placed(_start(document, top, place), steps, value, place), place)


def _start(document: MappingNode, top: str, place: SourceLocation) -> Node:
    node = document.entries.get(top, ScalarNode(place, None, ""))
    if top == "executor" and isinstance(node, ScalarNode) and isinstance(node.value, str):
        return MappingNode(node.place, {"use": node}, {"use": document.keys[top]})
    return node


def _placed(node: Node, steps: Sequence[str], value: Node, place: SourceLocation) -> Node:
    """Return `node` with `value` at the end of the path; missing mappings on the way are made."""
    if not steps:
        return value
    step, *further = steps
    if isinstance(node, SequenceNode):
        if not re.fullmatch(r"[0-9]{1,9}", step) or int(step) >= len(node.items):
            raise config_error(
                place, f"{step!r} is not a position of the list: write one from 0 to {len(node.items) - 1}"
            )
        items = list(node.items)
        items[int(step)] = _placed(items[int(step)], further, value, place)
        return attrs.evolve(node, items=tuple(items))
    if isinstance(node, ScalarNode) and node.value is None:
        node = MappingNode(place, {}, {})
    if not isinstance(node, MappingNode):
        raise config_error(place, f"{step!r} cannot be set in {describe(node)}: set the whole value, {{{step}: …}}")
    return node.replacing(
        step, _placed(node.entries.get(step, ScalarNode(place, None, "")), further, value, place), place
    )


def _stage_steps(document: MappingNode, rest: str, place: SourceLocation, addresses: StageAddresses) -> list[str]:
    """Return the path below `stages`, with positions and `parts` in place of names, which may hold dots."""
    name, position = _find_stage(document, rest, place, addresses)
    option = rest[len(name) + 1 :]
    if not option:
        raise config_error(
            place, f"a stage is not set as a whole: name an option, such as --set stages.{name}.workers=2"
        )
    parts = addresses.parts(document, position)
    part = _longest(parts, option)
    if part and option != part:  # an option of the composite itself may have the name of a part
        above = [step for each in parts[part] for step in ("parts", each)]
        return [str(position), *above, *option[len(part) + 1 :].split(".")]
    return [str(position), *option.split(".")]


def _find_stage(document: MappingNode, rest: str, place: SourceLocation, addresses: StageAddresses) -> tuple[str, int]:
    """Return the part of a path that addresses a stage, and the position of that stage."""
    names, used = addresses.names(document), [used_name(stage) for stage in stage_nodes(document)]
    name = _longest(filter(None, names), rest)
    if name:
        return name, names.index(name)
    name = _longest(filter(None, used), rest)
    positions = [number for number, other in enumerate(used) if other == name]
    if name and len(positions) > 1:
        ways = " or ".join(f"stages.{names[number]}" for number in positions)
        raise config_error(place, f"{len(positions)} stages use {name!r}: write {ways}")
    if name:
        return name, positions[0]
    name = rest.partition(".")[0]
    if not re.fullmatch(r"[0-9]{1,9}", name) or int(name) >= len(names):
        raise config_error(place, f"unknown stage {name!r}: {closest(name, filter(None, names))}")
    return name, int(name)


def _longest(names: Iterable[str], path: str) -> str:
    """Return the longest of the names with which a path begins; empty if there is none."""
    return max((name for name in names if path == name or path.startswith(f"{name}.")), key=len, default="")


def _variable_steps(document: MappingNode, rest: str, place: SourceLocation) -> list[str]:
    """Return the path below `vars`, if the file knows the variable: a misspelt one would change nothing."""
    if not rest:
        raise config_error(place, "variables are set one by one: write --set vars.name=value")
    declared = document.entries.get("vars")
    known = list(declared.entries) if isinstance(declared, MappingNode) else []
    known += [name.split(".")[1] for name in references(document) if re.fullmatch(r"vars\.[^.]+.*", name)]
    first = rest.split(".")[0]
    if first not in known:
        names = [f"vars.{name}" for name in dict.fromkeys(known)]
        raise config_error(place, f"the file has no variable `vars.{first}`: {closest(f'vars.{first}', names)}")
    return rest.split(".")
