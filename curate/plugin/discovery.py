"""Finds plugins among the installed distributions, without importing any of them.

pluggy can load entry points by itself, but it stops at the first broken one and silently skips a second one of the
same name, and `importlib.metadata.entry_points()` raises if a single distribution's file is malformed. So the
distributions are read one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata

import attrs

from curate.errors import PluginError
from curate.plugin.references import canonical
from curate.plugin.spec import PROJECT
from curate.suggest import closest

BUILTIN = "curate-speech"
"""The distribution whose plugins are always on: curate itself."""

ALLOW_LIST = "CURATE_PLUGINS"
"""The environment variable that names the distributions whose plugins may load, separated by commas.

Unset: all. Empty: none but curate's own.
"""


@attrs.frozen
class Candidate:
    """An entry point that announces a plugin, or a distribution whose entry points cannot be read."""

    distribution: str
    version: str | None
    entry: str
    module: str
    entry_point: metadata.EntryPoint | None = None
    error: Exception | None = None

    def load(self) -> object:
        """Import the plugin. This runs third-party code, so anything may be raised."""
        if self.entry_point is None:
            raise self.error or PluginError("it has no entry point")
        return self.entry_point.load()


def find_candidates() -> list[Candidate]:
    """Return the plugins of the installed distributions, curate's own first, the others by name."""
    seen: set[str] = set()
    found: list[Candidate] = []
    for distribution in metadata.distributions():
        text = distribution.read_text("entry_points.txt")
        if text is None or f"[{PROJECT}]" not in text:  # cheap, and there may be hundreds of distributions
            continue
        name = canonical(_name(distribution))
        if name not in seen:  # the same distribution twice on the path: the first one is the one that is imported
            seen.add(name)
            found.extend(_candidates(name, distribution))
    if BUILTIN not in seen:
        missing = PluginError("curate's own entry point is not installed: install curate again (pip install -e .)")
        found.append(Candidate(BUILTIN, None, "builtin", "curate.plugin.builtin", error=missing))
    found.sort(key=lambda candidate: (candidate.distribution != BUILTIN, candidate.distribution, candidate.entry))
    return found


def _name(distribution: metadata.Distribution) -> str:
    try:
        return distribution.name or "(unnamed)"
    except Exception:  # noqa: BLE001 (a damaged METADATA file: what it raises differs between Python versions)
        return "(unnamed)"


def _candidates(name: str, distribution: metadata.Distribution) -> Iterator[Candidate]:
    try:
        version = distribution.version
        entry_points = list(distribution.entry_points.select(group=PROJECT))
    except Exception as error:  # noqa: BLE001 (damaged metadata is one failed plugin, whatever it raises)
        yield Candidate(name, None, "", "", error=error)
        return
    for entry_point in entry_points:
        yield Candidate(name, version, entry_point.name, entry_point.value, entry_point)


@attrs.frozen
class Selection:
    """Which distributions' plugins may load.

    Args:
        allowed: the allow-list; None: all.
        disabled: those switched off for this call.
    """

    allowed: frozenset[str] | None
    disabled: frozenset[str]

    @classmethod
    def of(cls, disabled: Iterable[str], environment: Mapping[str, str]) -> Selection:
        """Read the allow-list from the environment and bring all names into one spelling."""
        listed = environment.get(ALLOW_LIST)
        allowed = None if listed is None else frozenset(canonical(n.strip()) for n in listed.split(",") if n.strip())
        return cls(allowed, frozenset(canonical(name) for name in disabled))

    def check(self, candidates: Iterable[Candidate]) -> None:
        """Find misspelt names among those switched off.

        Raises:
            PluginError: no such plugin, or curate's own.
        """
        known = {candidate.distribution for candidate in candidates} - {BUILTIN}
        for name in sorted(self.disabled - known):
            if name == BUILTIN:
                raise PluginError(f"--no-plugin {name}: curate's own stages cannot be switched off")
            raise PluginError(f"--no-plugin {name}: {_not_installed(name, known)}")

    def why_off(self, distribution: str) -> str | None:
        """Return why the distribution's plugins must not load, or None if they may."""
        if distribution == BUILTIN:
            return None
        if distribution in self.disabled:
            return f"switched off by --no-plugin {distribution}"
        if self.allowed is not None and distribution not in self.allowed:
            return f"not listed in {ALLOW_LIST}"
        return None

    def absent(self, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
        """Yield the plugins that the allow-list names and that are not installed, as candidates that fail to load.

        The list is often set for a whole cluster, so this must not stop a run that does not need them.
        """
        known = {candidate.distribution for candidate in candidates}
        for name in sorted((self.allowed or frozenset()) - known - {BUILTIN}):
            error = PluginError(f"{ALLOW_LIST} lists it, but {_not_installed(name, known)}")
            yield Candidate(name, None, "", "", error=error)


def _not_installed(name: str, known: Iterable[str]) -> str:
    return f"no installed distribution of that name has a curate plugin: {closest(name, sorted(known))}"
