"""Composite stages: a name for several stages, and the way from a composite to its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, cast

from curate.errors import PlanError
from curate.stage import Stage
from curate.suggest import closest

MAX_DEPTH = 32
"""Maximum nesting of composite stages; a composite that contains itself would otherwise never end."""


class CompositeStage(Stage):
    """A name for several stages. Run-time options set on it apply to each of them; `parts=` changes single ones."""

    _part_changes: tuple[Mapping[str, Mapping[str, Any]], ...] = ()

    def decompose(self) -> Sequence[Stage]:
        """Return the stages that this one stands for; they may be composite themselves."""
        raise NotImplementedError(f"{type(self).__name__} must define decompose()")

    def with_(self, *, parts: Mapping[str, Mapping[str, Any]] | None = None, **changes: Any) -> Self:
        """Return a copy with other settings; the original is never touched.

        Args:
            parts: the name of a part → the settings to change on that part, in addition to what applies to all:
                `.with_(parts={"asr": {"batch_size": 32}})`. A part that is composite takes `parts` in turn.
            changes: as for any stage.

        Raises:
            TypeError: an unknown part or option, with the nearest known one.
            ValueError: a value out of range.
        """
        changed = super().with_(**changes)
        given = () if parts is None else (_checked_parts(type(self), parts),)
        object.__setattr__(changed, "_part_changes", (*self._part_changes, *given))
        if given:
            changed.parts()  # finds unknown parts and options now, where the user has written them
        return changed

    def parts(self) -> list[Stage]:
        """Return the stages of the next level, named `<composite>.<part>`, with this one's changes.

        Raises:
            TypeError: a change is for a part or an option that does not exist.
        """
        inherited = {name: value for name, value in self._overrides.items() if name != "name"}
        stages = list(self.decompose())
        names = unique_names([stage.name for stage in stages])
        for changes in self._part_changes:
            for name in changes.keys() - set(names):
                raise TypeError(f"{type(self).__name__} has no part {name!r}: {closest(name, names)}")
        parts: list[Stage] = []
        for name, stage in zip(names, stages, strict=True):
            part = stage.with_(**inherited)
            for changes in self._part_changes:
                part = part.with_(**changes.get(name, {}))
            parts.append(part.with_(name=f"{self.name}.{name}"))
        return parts


def _checked_parts(cls: type, parts: object) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(parts, Mapping):
        raise TypeError(f"{cls.__name__}.with_(parts=…) takes a mapping, part → settings, not {parts!r:.80}")
    for name, changes in cast("Mapping[str, object]", parts).items():
        if not isinstance(changes, Mapping):
            raise TypeError(
                f"{cls.__name__}.with_(parts=…): the changes of {name!r} must be a mapping, not {changes!r:.80}"
            )
        if "name" in changes:
            raise TypeError(f"{cls.__name__}.with_(parts=…): the part {name!r} keeps its name, which addresses it")
    return {name: dict(changes) for name, changes in cast("Mapping[str, Mapping[str, Any]]", parts).items()}


def unique_names(names: Sequence[str]) -> list[str]:
    """Return the names with equal ones numbered: the second `x` becomes `x-2`, unless that name is taken."""
    found: dict[str, None] = {}
    taken = set(names)
    for name in names:
        unique, count = name, 1
        while unique in found or (count > 1 and unique in taken):
            count += 1
            unique = f"{name}-{count}"
        found[unique] = None
    return list(found)


def named(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages with unique names, as a plan and `--set` call them."""
    names = unique_names([stage.name for stage in stages])
    return [stage if stage.name == name else stage.with_(name=name) for stage, name in zip(stages, names, strict=True)]


def leaves(stage: Stage, chain: tuple[Stage, ...] = ()) -> Iterator[Stage]:
    """Yield the stages that work: the stage itself, or the parts of a composite, on all levels.

    Raises:
        PlanError: a composite contains itself.
    """
    if not isinstance(stage, CompositeStage):
        yield stage
        return
    check_depth(stage, chain)
    for part in stage.parts():
        yield from leaves(part, (*chain, stage))


def notes_of(stage: Stage, chain: tuple[Stage, ...] = ()) -> Iterator[str]:
    """Yield the notes of a composite stage and of the composite stages among its parts, each with its name."""
    if isinstance(stage, CompositeStage):
        check_depth(stage, chain)
        yield from (f"{stage.name}: {note}" for note in stage.notes())
        for part in stage.parts():
            yield from notes_of(part, (*chain, stage))


def check_depth(stage: Stage, chain: Sequence[Stage]) -> None:
    """Check that a composite stage, which is inside those of `chain`, is not nested without end.

    Raises:
        PlanError: names the outermost composite stage.
    """
    if len(chain) >= MAX_DEPTH:
        name = type(stage).__name__
        repeated = any(type(other) is type(stage) for other in chain)
        reason = f"{name} contains itself" if repeated else f"composite stages are nested deeper than {MAX_DEPTH} times"
        raise PlanError(f"stage {chain[0].name!r}: {reason}; change what decompose() returns", chain[0].name)


def part_paths(stage: CompositeStage, chain: tuple[Stage, ...] = ()) -> dict[str, tuple[str, ...]]:
    """Return the parts of all levels: the name behind the composite's in a plan, `inner.asr` → the names of the parts
    that lead to it, `("inner", "asr")`.

    Raises:
        PlanError: the composite contains itself.
    """
    check_depth(stage, chain)
    found: dict[str, tuple[str, ...]] = {}
    for part in stage.parts():
        name = part_name(stage, part)
        found[name] = (name,)
        if isinstance(part, CompositeStage):
            inner = part_paths(part, (*chain, stage))
            found |= {f"{name}.{below}": (name, *path) for below, path in inner.items()}
    return found


def part_name(stage: CompositeStage, part: Stage) -> str:
    """Return the name by which `parts=` addresses a part of a composite stage."""
    return part.name.removeprefix(f"{stage.name}.")
