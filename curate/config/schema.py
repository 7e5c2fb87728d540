"""The form of a pipeline file as a JSON schema, for editors: as far as it can express `load_pipeline`."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Literal, TypeAlias, get_args, get_origin

from curate.audio import AudioSettings
from curate.composite import CompositeStage
from curate.config.instantiate import PARTS, USE
from curate.config.options import is_list_of_stages, options_of
from curate.config.overrides import TOP_LEVEL
from curate.errors import PluginError
from curate.plugin import PluginHost, StageRef
from curate.resources import Resources
from curate.run_time_options import RUN_TIME_OPTIONS
from curate.stage import Stage

Schema: TypeAlias = "dict[str, Any]"

_VARIABLE: Schema = {"type": "string", "pattern": r"\$\{"}
"""A variable, which may stand for a value of any type."""

_SCALARS: Mapping[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
}

_PARTS: Schema = {
    "type": "object",
    "description": "settings of single parts, by the part's name",
    "additionalProperties": {"type": "object"},
}


def pipeline_schema(host: PluginHost) -> Schema:
    """Return the JSON schema (draft 7) of pipeline files that use the stages and executors of these plugins.

    A stage that cannot be imported here, because an extra is missing, is known by name; its settings are not checked.
    """
    stages = {host.stages.shortest_name(reference): reference for reference in host.stages}
    executors = {host.executors.shortest_name(reference): reference.summary for reference in host.executors}
    loaded = {name: _loaded(reference) for name, reference in stages.items()}
    definitions = {f"stage.{name}": _stage(name, stages[name], found) for name, found in loaded.items() if found}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A pipeline of curate",
        "type": "object",
        "additionalProperties": False,
        "required": ["stages"],
        "properties": {name: _top_level(name, executors) for name in TOP_LEVEL},
        "definitions": {
            "resources": _resources(),
            "stage": {
                "type": "object",
                "required": [USE],
                "properties": {
                    USE: {
                        "description": "the name of a stage, or distribution/name",
                        "anyOf": [
                            *({"const": name, "description": stages[name].summary} for name in stages),
                            {"type": "string"},
                        ],
                    }
                },
                "allOf": [
                    {
                        "if": {"properties": {USE: {"enum": [name, stages[name].qualified_name]}}, "required": [USE]},
                        "then": {"$ref": f"#/definitions/stage.{name}"},
                    }
                    for name, found in loaded.items()
                    if found
                ],
            },
            **definitions,
        },
    }


def _audio() -> Schema:
    meanings = described_settings(AudioSettings)
    properties: Schema = {
        option.name: {**schema_of(option.kind), "description": meanings[option.name]}
        for option in options_of(AudioSettings).values()
    }
    return {
        "description": "how every stage reads audio",
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": properties,
    }


_LIMITS: Mapping[str, Schema] = {
    "audio_memory": {
        "type": ["integer", "string", "null"],
        "minimum": 0,
        "description": "the decoded audio that each worker holds at most, such as 256MB",
    },
    "spool_dir": {
        "type": ["string", "null"],
        "description": "where decoded recordings lie that are too long for memory; null: in the run directory",
    },
    "spool_gb": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "description": "their size on each node at most, in GB; 32 by default",
    },
    "max_failures": {
        "type": ["integer", "null"],
        "minimum": 0,
        "description": "stop when more records have failed",
    },
    "max_failure_ratio": {
        "type": ["number", "null"],
        "minimum": 0,
        "maximum": 1,
        "description": "stop when a larger share has failed, of 200 records or more",
    },
}


def _top_level(name: str, executors: Mapping[str, str]) -> Schema:
    match name:
        case "name":
            return {"description": "also the default run directory, runs/<name>", **RUN_TIME_OPTIONS["name"].schema}
        case "vars":
            return {"type": "object", "description": "values of your own, used as ${vars.<name>}"}
        case "stages":
            return {"type": "array", "minItems": 1, "items": {"$ref": "#/definitions/stage"}}
        case "executor":
            known: list[Schema] = [{"const": one, "description": summary} for one, summary in executors.items()]
            named: Schema = {"anyOf": [*known, {"type": "string"}]}
            with_options = {"type": "object", "required": [USE], "properties": {USE: named}}
            return {"description": "where to run", "anyOf": [*named["anyOf"], with_options, {"type": "null"}]}
        case "run_dir":
            return {"type": ["string", "null"], "description": "where results lie"}
        case "audio":
            return _audio()
        case _:
            return _LIMITS.get(name, {})


def _loaded(reference: StageRef) -> type[Stage] | Stage | None:
    try:
        return reference.load()
    except PluginError:
        return None


def _stage(name: str, reference: StageRef, found: type[Stage] | Stage) -> Schema:
    # a decorated function takes run-time options only: its fields are how the decorator stores what it was given
    options = options_of(found) if isinstance(found, type) else {}
    meanings = described_settings(found) if isinstance(found, type) else {}
    properties: Schema = {USE: {"type": "string"}}
    for option in options.values():
        properties[option.name] = {**schema_of(option.kind), "description": meanings.get(option.name, "")}
        if not properties[option.name]["description"]:
            del properties[option.name]["description"]
    for option in RUN_TIME_OPTIONS.values():
        described: Schema = {"anyOf": [dict(option.schema), _VARIABLE], "description": option.meaning}
        properties.setdefault(option.name, described)
    if isinstance(found, type) and issubclass(found, CompositeStage):
        properties.setdefault(PARTS, _PARTS)
    return {
        "title": name,
        "description": reference.summary,
        "type": "object",
        "additionalProperties": False,
        "required": [USE, *(option.name for option in options.values() if option.required)],
        "properties": properties,
    }


def _resources() -> Schema:
    number = {"anyOf": [{"type": "number", "minimum": 0}, _VARIABLE]}
    memory = {"type": ["integer", "string", "null"], "description": "bytes, or a string such as 6.5GB"}
    properties = dict.fromkeys(inspect.signature(Resources).parameters, number)
    properties |= {"memory": memory, "custom": {"type": "object"}}
    return {"anyOf": [{"type": "object", "additionalProperties": False, "properties": properties}, _VARIABLE]}


def schema_of(kind: Any) -> Schema:
    """Return the schema of an annotation; what no schema can say is left open."""
    form = _form_of(kind)
    if not form or (form.get("type") == "string" and len(form) == 1):
        return form
    return {"anyOf": [*form.get("anyOf", [form]), _VARIABLE]}


def _form_of(kind: Any) -> Schema:
    origin, arguments = get_origin(kind), get_args(kind)
    if is_list_of_stages(kind):
        return {"type": "array", "minItems": 1, "items": {"$ref": "#/definitions/stage"}}
    if isinstance(kind, type) and kind in _SCALARS:
        return dict(_SCALARS[kind])
    if isinstance(kind, type) and issubclass(kind, PurePath):
        return {"type": "string"}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        forms = [_form_of(one) for one in arguments]
        return {"anyOf": forms} if all(forms) else {}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        inner = _form_of(arguments[1])
        return {"type": "object", "additionalProperties": inner} if inner else {"type": "object"}
    if isinstance(origin, type) and issubclass(origin, Sequence | Collection) and arguments:
        inner = _form_of(arguments[0])
        return {"type": "array", "items": inner} if inner else {"type": "array"}
    return {}


def described_settings(cls: type) -> dict[str, str]:
    """Return the description of each field in the `Args:` section of the docstrings; a subclass overrides its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)*)", inspect.cleandoc(vars(base).get("__doc__") or ""), re.M)
        if section is None:
            continue
        for entry in re.finditer(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section[1], re.M):
            found[entry[1]] = " ".join(entry[2].split())
    return found
