"""The run-time options: what `.with_()` changes on any stage, in addition to the stage's own fields.

A run-time option changes how a stage runs and never what it produces, so it is in no fingerprint. This table is the
only declaration of an option: the attributes of `Stage`, the checks of `.with_()` and of configuration files, the JSON
schema and the table in docs/pipelines.md are made from it or compared with it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

import attrs

from curate.resources import Resources
from curate.suggest import closest

_ANSWERED_DIFFERENTLY: Mapping[str, str] = {
    "device_id": "the executor assigns GPUs to workers; use `.with_(workers=<GPUs>)`",
    "pipeline_parallel": "stage groups always overlap; use `.with_(fuse=False)` to give a stage a group of its own",
    "async_processing": "stage groups always overlap; use `.with_(fuse=False)` to give a stage a group of its own, "
    "and `.with_(prefetch_batches=…)` to load further ahead",
    "num_workers": "the option is called `workers`; in Python, `.with_(workers=…)`",
    "num_workers_per_node": "the option is called `workers`; in Python, `.with_(workers=…)`",
    "max_retries": "the option is called `retries`; in Python, `.with_(retries=…)`",
    "num_prefetch": "the option is called `prefetch_batches`; in Python, `.with_(prefetch_batches=…)`",
    "resources_per_worker": "the option is called `resources`; in Python, `.with_(resources=Resources(…))`",
}
"""Options of other frameworks, and the option of curate that does the same."""


@attrs.frozen
class RunTimeOption:
    """One option that every stage has.

    Args:
        name: the keyword of `.with_()`, the key in a configuration file, and the attribute of a stage.
        check: returns the value as it is kept; raises ValueError for a value that is out of range.
        default: the value of a stage that sets none.
        schema: the JSON schema of a value.
        meaning: what the option does, in one line of Markdown.
    """

    name: str
    check: Callable[[Any], Any]
    default: Any
    schema: Mapping[str, Any]
    meaning: str


def _check_name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", value):
        raise ValueError(f"name={value!r}: a stage's name is made of letters, digits, '_', '-' and '.'")
    return value


def _check_count(minimum: int, *, optional: bool = False) -> Callable[[Any], int | None]:
    def check(value: Any) -> int | None:
        if value is None and optional:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(f"{value!r} is not a whole number of at least {minimum}")
        return value

    return check


def _check_timeout(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{value!r} is not a number of seconds above 0")
    return float(value)


def _check_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is not True or False")
    return value


def _check_resources(value: Any) -> Resources:
    if isinstance(value, Mapping):
        return Resources(**cast("Mapping[str, Any]", value))
    if not isinstance(value, Resources):
        raise ValueError(f"{value!r} is not a Resources(…)")
    return value


_OPTIONS = (
    RunTimeOption(
        "name",
        _check_name,
        "stage",
        {"type": "string", "pattern": r"^[A-Za-z0-9][\w.-]*$"},
        "the stage's name in plans, reports and `--set`; the second stage of a name `x` is `x-2`",
    ),
    RunTimeOption(
        "batch_size",
        _check_count(1),
        1,
        {"type": "integer", "minimum": 1},
        "the number of records that the stage processes together; for ASR, the model's batch",
    ),
    RunTimeOption(
        "resources",
        _check_resources,
        Resources(),
        {"$ref": "#/definitions/resources"},
        "the needs of one worker: `cpus`, `gpus`, `gpu_memory_gb`, `memory`, `custom`",
    ),
    RunTimeOption(
        "workers",
        _check_count(1, optional=True),
        None,
        {"type": ["integer", "null"], "minimum": 1},
        "the number of workers; for executors with several",
    ),
    RunTimeOption(
        "prefetch_batches",
        _check_count(0),
        1,
        {"type": "integer", "minimum": 0},
        "the number of batches whose audio is loaded ahead of the model",
    ),
    RunTimeOption(
        "timeout_s",
        _check_timeout,
        None,
        {"type": ["number", "null"], "exclusiveMinimum": 0},
        "how long a worker may make no progress; for executors that can end a hang",
    ),
    RunTimeOption(
        "retries",
        _check_count(0),
        0,
        {"type": "integer", "minimum": 0},
        "the number of times a failing record is retried",
    ),
    RunTimeOption(
        "checkpoint",
        _check_bool,
        False,
        {"type": "boolean"},
        "whether the phase ends after this stage; the default for ASR stages",
    ),
    RunTimeOption(
        "fuse",
        _check_bool,
        True,
        {"type": "boolean"},
        "whether the stage may share workers with neighbours that ask for the same resources; without, the stage has "
        "workers of its own and overlaps with its neighbours",
    ),
)

RUN_TIME_OPTIONS: Mapping[str, RunTimeOption] = MappingProxyType({option.name: option for option in _OPTIONS})


def field_names(cls: type) -> tuple[str, ...]:
    """Return the names of a stage class's own settings, in order of declaration."""
    if attrs.has(cls):
        return tuple(field.alias for field in attrs.fields(cls) if field.init)
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls) if field.init)
    return ()


def unknown_option(cls: type, name: str) -> str:
    """Return the message for an option that `cls` does not have, with the nearest one that it has."""
    if name in _ANSWERED_DIFFERENTLY:
        return f"{cls.__name__} has no option {name!r}: {_ANSWERED_DIFFERENTLY[name]}"
    return f"{cls.__name__} has no option {name!r}: {closest(name, [*field_names(cls), *RUN_TIME_OPTIONS])}"


def unknown_setting(cls: type, name: str) -> str:
    """Return the message for a keyword that the constructor of `cls` does not take."""
    if name in RUN_TIME_OPTIONS:
        return f"{cls.__name__}({name}=…): {name} is an option that every stage has: use .with_({name}=…)"
    return unknown_option(cls, name)
