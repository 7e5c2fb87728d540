"""The versions of packages that results depend on, as runs and published sets report them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import metadata


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of the distributions that are installed, by name."""
    versions = {name: _version(name) for name in distributions}
    return {name: version for name, version in versions.items() if version is not None}


@cache  # a distribution's metadata takes half a millisecond to read, and a run reports fourteen
def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
