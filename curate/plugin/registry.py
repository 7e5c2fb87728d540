"""Resolves names: one table for each kind of reference that plugins announce."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Generic, TypeVar

from curate.errors import PluginError
from curate.plugin.discovery import BUILTIN
from curate.plugin.references import Reference, canonical
from curate.plugin.status import PluginStatus
from curate.suggest import closest, nearest

R = TypeVar("R", bound=Reference)

_SHORT_NAMES = {
    "wer": "word_error_rate",
    "cer": "character_error_rate",
    "vad": "voice_activity",
    "dedup": "deduplicate",
    "filter": "quality_filter",
    "write_manifest": "merge",
    "manifest": "read_manifest",
}
"""Short name in the field → name of the stage, which is rarely spelt like it."""

FIRST_PARTY: Mapping[str, str] = MappingProxyType(
    {
        "openai_whisper": "curate-whisper[torch]",
        "pocketsphinx": "curate-pocketsphinx",
        "transformers": "curate-transformers",
        "whisper": "curate-whisper",
    }
)
"""Recognisers that come in distributions of this project → what is installed for them."""


class Registry(Generic[R]):
    """The references of one kind, found by `name` or `distribution/name`.

    Args:
        kind: which references this table takes from the rows.
        rows: all plugins, also those that failed or are switched off: they explain why a name is unknown.
        belongs: whether a reference of this kind belongs into this table; None: each does.
    """

    def __init__(self, kind: type[R], rows: Sequence[PluginStatus], belongs: Callable[[R], bool] | None = None) -> None:
        self._kind = kind
        self._rows = rows
        self._owners: dict[str, list[R]] = defaultdict(list)
        for row in rows:
            for reference in row.references:
                if isinstance(reference, kind) and (belongs is None or belongs(reference)):
                    self._owners[reference.name].append(reference)

    def __iter__(self) -> Iterator[R]:
        """Yield all references, by name."""
        for name in sorted(self._owners):
            yield from self._owners[name]

    def shortest_name(self, reference: R) -> str:
        """Return the plain name if it is unique, and otherwise the qualified one."""
        return reference.name if len(self._owners[reference.name]) == 1 else reference.qualified_name

    def resolve(self, name: str) -> R:
        """Return the reference of a plain or a qualified name.

        Raises:
            PluginError: no plugin announces it (with the nearest names, and plugins that might have), or two do.
        """
        distribution, _, plain = name.rpartition("/")
        owners = self._owners.get(plain, [])
        if distribution:
            owners = [one for one in owners if canonical(one.distribution) == canonical(distribution)]
        if not owners:
            raise PluginError(self._unknown(name, distribution, plain))
        if len(owners) > 1:
            raise PluginError(self.clash(name, owners))
        return owners[0]

    def clash(self, name: str, owners: Sequence[R]) -> str:
        """Return the error of a name that several references answer to."""
        qualified = sorted({one.qualified_name for one in owners})
        if len(qualified) == 1:
            targets = " and ".join(one.target for one in owners)
            return f"{self._kind.kind} {name!r} is announced twice by one distribution, as {targets}: that is its bug"
        files = {row.distribution for row in self._rows if row.is_file}
        off = sorted({one.distribution for one in owners} - files - {BUILTIN})
        hint = f", or switch one off (--no-plugin {' or '.join(off)})" if off else ""
        return (
            f"{self._kind.kind} {name!r} is announced by {len(qualified)} plugins: write {' or '.join(qualified)}{hint}"
        )

    def _unknown(self, name: str, distribution: str, plain: str) -> str:
        kind = self._kind.kind
        known = [self.shortest_name(reference) for reference in self]
        near = _SHORT_NAMES.get(plain) if _SHORT_NAMES.get(plain) in known else nearest(plain, known)
        hint = closest(near or plain, known) if known else f"no plugin announces any {kind}"
        if distribution and plain in self._owners:  # the name is right, and its distribution wrong
            near = " or ".join(repr(reference.qualified_name) for reference in self._owners[plain])
            hint = f"did you mean {near}?"
        lines = [f"unknown {kind} {name!r}: {hint}"]
        package = FIRST_PARTY.get(plain) if kind == "recogniser" else None
        if package is not None and package.partition("[")[0] not in {canonical(row.distribution) for row in self._rows}:
            lines = [f"recogniser {name!r} is not installed: pip install {package}"]
        if near is None:
            lines.append("a plugins-file has to be named: curate --plugins-file FILE …")
        for row in self._rows:
            if distribution and canonical(row.distribution) != canonical(distribution):
                continue
            if row.status == "failed":
                lines.append(f"It may belong to the plugin {row.distribution}, which failed to load: {row.error}")
            elif row.status == "disabled":
                lines.append(f"It may belong to the plugin {row.distribution}, which is off: {row.error}")
        return "\n".join(lines)
