"""Which packages of an extra are not installed, found out without importing any."""

from __future__ import annotations

import re
from importlib import metadata

from curate.plugin.references import Reference
from curate.versions import installed_versions

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


def missing_packages(reference: Reference) -> list[str]:
    """Return the distributions of a reference's extra that are not installed, by name; none if that is not known."""
    if reference.extra is None or not reference.distribution:
        return []
    try:
        requirements = metadata.requires(reference.distribution) or []
    except metadata.PackageNotFoundError:  # a plugins-file, or a checkout on the path
        return []
    wanted = [text for text in requirements if reference.extra in _EXTRA.findall(text)]
    names = {match.group() for text in wanted if (match := _NAME.match(text))}
    return sorted(names - installed_versions(names).keys())
