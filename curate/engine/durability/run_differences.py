"""The differences between two runs, from their `run.json` alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import attrs

NOT_SET = "(not set)"
"""Stands for the value of a setting that one of the runs does not have."""


@attrs.frozen
class RunDifference:
    """A setting in which two runs differ.

    Args:
        stage: the stage's name; "" for what belongs to the whole run.
        name: the setting; `stage` if only one of the runs has the stage.
        a, b: the value in the first and in the second run.
    """

    stage: str
    name: str
    a: Any
    b: Any


def run_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[RunDifference]:
    """Yield the settings in which two runs differ, in the order of the stages; then the order, phases and inputs."""
    old, new = (cast("Mapping[str, Mapping[str, Any]]", run["settings"]) for run in (a, b))
    for stage in dict.fromkeys((*old, *new)):
        if stage not in old or stage not in new:
            yield RunDifference(stage, "stage", _presence(old.get(stage)), _presence(new.get(stage)))
            continue
        for name in dict.fromkeys((*old[stage], *new[stage])):
            was, is_now = old[stage].get(name, NOT_SET), new[stage].get(name, NOT_SET)
            if was != is_now:
                yield RunDifference(stage, name, was, is_now)
    if old.keys() == new.keys() and list(old) != list(new):
        yield RunDifference("", "stages", list(old), list(new))
    elif list(old) == list(new) and a["layout"] != b["layout"]:
        yield RunDifference("", "phases", a["layout"], b["layout"])
    if a["inputs"] != b["inputs"]:
        yield RunDifference("", "inputs", a["inputs"], b["inputs"])


def describe_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return a clause about the first difference between the settings of a run, before and now."""
    old, new = list(before["settings"]), list(now["settings"])
    if old != new:
        return f"its stages were {', '.join(old)}, and now they are {', '.join(new)}"
    first = next((each for each in run_differences(before, now) if each.name != "inputs"), None)
    if first is None:
        return f"its fingerprint was {before['fingerprint']}, and now it is {now['fingerprint']}"
    if not first.stage:
        return f"its phases were {_phases(first.a)}, and now they are {_phases(first.b)} (see `checkpoint`)"
    return f"stage {first.stage!r} {_change(first.name, first.a, first.b)}"


_CODE = re.compile(r"(?P<name>[^:]*:[^:]+):[0-9a-f]{16}")
"""How the settings name a piece of code: module, qualified name and a checksum."""


def _change(name: str, was: Any, is_now: Any) -> str:
    """Describe the change of a setting: the innermost value that differs, and of code only that it has changed."""
    if isinstance(was, dict) and isinstance(is_now, dict):
        old, new = cast("dict[str, Any]", was), cast("dict[str, Any]", is_now)
        if old.keys() == new.keys():
            return next(_change(key, old[key], new[key]) for key in old if old[key] != new[key])
        if "function" in old and "function" in new and old["function"] != new["function"]:
            return _change(name, old["function"], new["function"])
    if isinstance(was, list) and isinstance(is_now, list):
        pairs = list(zip(cast("list[Any]", was), cast("list[Any]", is_now), strict=False))
        if len(was) == len(is_now) and any(isinstance(item, dict) or _CODE.fullmatch(str(item)) for item, _ in pairs):  # pyright: ignore[reportUnknownArgumentType]
            return next(_change(name, item, now) for item, now in pairs if item != now)
    old_code, new_code = _CODE.fullmatch(str(was)), _CODE.fullmatch(str(is_now))  # pyright: ignore[reportUnknownArgumentType]
    if old_code and new_code and old_code["name"] == new_code["name"]:
        return f"is not what it was: the code of {old_code['name'].partition(':')[2]} has changed"
    return f"had {name} = {_value(was)}, and now it is {_value(is_now)}"


def _value(value: Any) -> str:
    return NOT_SET if value == NOT_SET else repr(value)


def _presence(settings: Mapping[str, Any] | None) -> str:
    return "(absent)" if settings is None else str(settings.get("class", "present"))


def _phases(layout: Sequence[Sequence[str]]) -> str:
    return " | ".join(", ".join(phase) for phase in layout)
