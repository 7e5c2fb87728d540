"""Short forms of record ids: without the folders of their inputs, as far as they stay different from each other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

_POSITION = re.compile(r":\d+(?:#\d+)?(?:/\d+)*$")
"""The line, the repetition in a mixture, and the numbers of a split record's child."""


def short_ids(ids: Iterable[str], inputs: Iterable[str] = ()) -> Mapping[str, str]:
    """Return id → its short form, such as `…/train.jsonl:17`.

    Of the input only the last parts of its path are left: as many as it takes to distinguish it from all other inputs.

    Args:
        ids: the ids to show.
        inputs: further inputs of the run, of which no id may be shown.
    """
    parts = {identity: _parts(identity) for identity in ids}
    paths = {path for path, _ in parts.values()} | {path for path in inputs if path}
    short = _short_paths(paths)
    return {identity: short[path] + position for identity, (path, position) in parts.items()}


def _parts(identity: str) -> tuple[str, str]:
    found = _POSITION.search(identity)
    return (identity, "") if found is None else (identity[: found.start()], found[0])


def _short_paths(paths: Iterable[str]) -> dict[str, str]:
    short: dict[str, str] = {}
    left = {path: path.split("/") for path in paths}
    depth = 1
    while left:
        tails = {path: "/".join(names[-depth:]) for path, names in left.items()}
        times = Counter(tails.values())
        for path, tail in tails.items():
            if times[tail] == 1 or depth >= len(left[path]):
                short[path] = path if tail == path else f"…/{tail}"
        left = {path: names for path, names in left.items() if path not in short}
        depth += 1
    return short
