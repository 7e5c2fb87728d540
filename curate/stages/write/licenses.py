"""Licenses that a writer does not publish."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from curate.errors import PlanError
from curate.stage import Source


def is_denied(license: object, denied: Sequence[str]) -> bool:
    """Return whether a license fits one of the patterns, such as `CC-BY-NC*`; case makes no difference."""
    return isinstance(license, str) and any(fnmatchcase(license.casefold(), each.casefold()) for each in denied)


def check_licenses(writer: str, denied: Sequence[str], sources: Sequence[Source]) -> None:
    """Check that no source declares a denied license in its settings.

    Raises:
        PlanError: one does; the message names it.
    """
    if not denied:
        return
    for source in sources:
        for license in source.licenses():
            if is_denied(license, denied):
                raise PlanError(
                    f"stage {writer!r} denies the license {license!r}, which {source.name!r} has: "
                    "leave that source out, or change deny_licenses"
                )
