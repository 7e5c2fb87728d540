"""The plan of a pipeline: its stages, checked and arranged into hops and phases. Pure data, can be printed.

A *phase* ends with committed shards on disk: at a gather, before a partitioner in mid-pipeline, and after a stage with
`checkpoint=True`. A *hop* is a group of neighbouring stages that ask for the same resources and share workers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeGuard, TypeVar, get_args

import attrs

from curate._version import __version__
from curate.audio import AudioSettings
from curate.audio_stage import AUDIO_COLUMNS
from curate.composite import CompositeStage, check_depth, named, notes_of
from curate.errors import CurateError, PlanError, PluginError
from curate.fingerprint import describe_code, describe_value, distributions
from curate.resolution import PluginLookup
from curate.resources import Resources
from curate.run_time_options import RUN_TIME_OPTIONS
from curate.stage import (
    RUN_FOLDERS,
    Cardinality,
    Gather,
    Partitioner,
    ProcessingStage,
    Source,
    Stage,
    Writer,
    called_method,
)
from curate.storage import Scheme, is_url

KEPT_BY_THE_RUN = RUN_FOLDERS | {
    "claims.json",
    "inputs.jsonl",
    "listing.jsonl",
    "run.json",
    "state.json",
    "summary.json",
    "report.html",
}

_KINDS: tuple[tuple[type[Stage], str], ...] = (
    (Source, "source"),
    (Partitioner, "partitioner"),
    (ProcessingStage, "processing"),
    (Gather, "gather"),
    (Writer, "writer"),
)


S = TypeVar("S", bound=Stage)
S_co = TypeVar("S_co", bound=Stage, covariant=True)


@attrs.frozen
class PlannedStage(Generic[S_co]):
    """A stage with its name and columns in the plan.

    Args:
        name: unique in the plan.
        kind: `source`, `partitioner`, `processing`, `gather` or `writer`.
        stage: the settings, with names resolved; workers get copies of it.
        columns: the columns that a record has after this stage; None: an earlier stage does not declare what it writes.
        overwrites: column → the stage that has written it before; the source, for a column of the input.
    """

    name: str
    kind: str
    stage: S_co
    columns: frozenset[str] | None
    overwrites: Mapping[str, str] = attrs.field(factory=dict[str, str])

    def to_dict(self) -> dict[str, Any]:
        """Return the stage as `curate plan --json` shows it."""
        stage = self.stage
        written = stage.writes()
        shown: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "class": f"{type(stage).__module__}:{type(stage).__qualname__}",
            "settings": {name: describe_value(value) for name, value in stage.shown_settings().items()},
            "reads": sorted(stage.reads()),
            "writes": None if written is None else sorted(written),
            "columns": None if self.columns is None else sorted(self.columns),
            "overwrites": dict(self.overwrites),
        }
        if isinstance(stage, ProcessingStage):
            shown |= {
                "cardinality": stage.cardinality,
                "resources": stage.resources.to_dict(),
                "workers": stage.workers,
            }
        return shown


@attrs.frozen
class Hop:
    """Fused stages, and the resources of one worker for them."""

    stages: tuple[PlannedStage[ProcessingStage], ...]
    resources: Resources
    workers: int | None

    @property
    def name(self) -> str:
        return "+".join(stage.name for stage in self.stages)


@attrs.frozen
class Phase:
    """A part of the pipeline that starts from a source, a gather or the phase before, and ends in committed shards."""

    number: int
    source: PlannedStage[Source] | None
    gather: PlannedStage[Gather] | None
    partitioner: PlannedStage[Partitioner] | None
    hops: tuple[Hop, ...]
    writers: tuple[PlannedStage[Writer], ...]

    def stages(self) -> Iterator[PlannedStage[Stage]]:
        """Yield the stages in the order in which a record meets them."""
        beginning: tuple[PlannedStage[Stage] | None, ...] = (self.source, self.gather, self.partitioner)
        yield from filter(None, beginning)
        for hop in self.hops:
            yield from hop.stages
        yield from self.writers

    def blamed(self) -> dict[str, str]:
        """Return for each column the stage that writes it last, and under "" the stage to name for any other one.

        That is the last stage that declares no columns; where all of them do, the last one.
        """
        first = self.source or self.gather
        owners = {} if first is None else dict.fromkeys(first.columns or (), first.name)
        stages = [stage for hop in self.hops for stage in hop.stages]
        for planned in stages:
            owners |= dict.fromkeys(planned.stage.writes() or (), planned.name)
        unsaid = [planned.name for planned in stages if planned.stage.writes() is None]
        named = unsaid or [planned.name for planned in stages] or [planned.name for planned in self.stages()][:1]
        return {**owners, "": named[-1] if named else ""}


@attrs.frozen
class Plan:
    """A checked pipeline.

    Args:
        name: the pipeline's.
        phases: in order.
        audio_roots: the folders that audio may be read from; None: anywhere.
        settings: stage name → everything that changes results, for the fingerprint.
        audio: how every stage reads audio: the pipeline's `audio` block.
        schemes: the stores of the plugins, by URL scheme.
        choices: the notes of the stages.
    """

    name: str
    phases: tuple[Phase, ...]
    audio_roots: tuple[str, ...] | None
    settings: Mapping[str, Mapping[str, Any]]
    audio: AudioSettings = attrs.field(factory=AudioSettings)
    schemes: Mapping[str, Scheme] = attrs.field(factory=dict[str, Scheme], eq=False, repr=False)
    choices: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """The sha256 of everything that changes results, and of nothing else."""
        text = json.dumps([self.layout, self.settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def layout(self) -> list[list[str]]:
        """The names of the stages in every phase, without the partitioners: they cut batches, and change no result."""
        return [[stage.name for stage in phase.stages() if stage.kind != "partitioner"] for phase in self.phases]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know and is not a mistake, one sentence each: choices, and overwritten columns."""
        sources = {stage.name for stage in self.stages if stage.kind == "source"}
        overwritten = (
            f"{stage.name} overwrites {column!r}, "
            + ("a column of the input" if origin in sources else f"which {origin} has written")
            for stage in self.stages
            for column, origin in sorted(stage.overwrites.items())
        )
        return (*self.choices, *filter(None, (self.without_output,)), *overwritten)

    @property
    def without_output(self) -> str:
        """A sentence about a pipeline whose stages write no file; "" if one does."""
        kinds = {stage.kind for stage in self.stages}
        if "writer" in kinds or "source" not in kinds:
            return ""
        return "no stage publishes the kept records: add an output stage, such as merge, at the end"

    @property
    def stages(self) -> tuple[PlannedStage[Stage], ...]:
        """All stages, in the order in which a record meets them."""
        return tuple(stage for phase in self.phases for stage in phase.stages())

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-ready data."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "audio": attrs.asdict(self.audio),
            "notes": list(self.notes),
            "stages": [stage.to_dict() for stage in self.stages],
            "phases": [
                {
                    "number": phase.number,
                    "stages": [stage.name for stage in phase.stages()],
                    "hops": [
                        {
                            "stages": [stage.name for stage in hop.stages],
                            "resources": attrs.asdict(hop.resources),
                            "workers": hop.workers,
                        }
                        for hop in phase.hops
                    ],
                }
                for phase in self.phases
            ],
        }


def make_plan(
    name: str,
    stages: Sequence[Stage],
    *,
    host: PluginLookup | None = None,
    streaming: bool = False,
    audio: AudioSettings | None = None,
) -> Plan:
    """Check that stages fit together and arrange them into phases and hops.

    Args:
        name: the pipeline's.
        stages: as the user composed them; composite stages are replaced by their parts here.
        host: the plugins in which names are looked up; None: names stay as they are.
        streaming: the batches come from the caller: there is no source, and nothing that needs a run directory.
        audio: how stages read audio; None: the defaults.

    Raises:
        PlanError: the first mistake, and the remedy.
    """
    audio = audio or AudioSettings()
    flat = _flattened(stages, host)
    _check_order(name, flat, streaming=streaming)
    for stage_name, stage in flat:
        _check_stage(stage_name, stage)
    _check_outputs(flat)
    _check_channels(flat, audio)
    _check_sources(flat)
    planned = _with_columns(flat)
    source = flat[0][1] if flat and isinstance(flat[0][1], Source) else None
    return Plan(
        name=name,
        phases=(_phase(0, planned),) if streaming else _phases(planned),
        audio_roots=None if source is None else source.audio_roots(),
        settings={
            stage_name: _result_settings(stage_name, stage, audio)
            for stage_name, stage in flat
            if not isinstance(stage, Partitioner)
        },
        audio=audio,
        choices=(
            *(note for stage in named(stages) for note in notes_of(stage)),
            *(f"{stage_name}: {note}" for stage_name, stage in flat for note in stage.notes()),
        ),
    )


def _flattened(stages: Sequence[Stage], host: PluginLookup | None) -> list[tuple[str, Stage]]:
    """Return all stages that work, with unique names, and with the names in their settings looked up."""
    flat = [part for stage in named(stages) for part in _decomposed(stage, host, ())]
    while flat and isinstance(flat[-1], Gather) and flat[-1].only_orders:
        flat.pop()
    return [(stage.name, stage) for stage in named(flat)]


def _decomposed(stage: Stage, host: PluginLookup | None, chain: tuple[Stage, ...]) -> Iterator[Stage]:
    if isinstance(stage, ProcessingStage):
        with _asked(stage.name, "a copy of the stage"):
            stage = stage.as_configured()
    stage = _resolved(stage, host)
    if not isinstance(stage, CompositeStage):
        yield stage
        return
    check_depth(stage, chain)
    _check_stage(stage.name, stage)
    with _asked(stage.name, "decompose()"):
        parts = stage.parts()
    for part in parts:
        yield from _decomposed(part, host, (*chain, stage))


def _resolved(stage: Stage, host: PluginLookup | None) -> Stage:
    if host is None:
        return stage
    try:
        with _asked(stage.name, "resolve()"):
            return stage.resolve(host)
    except PluginError as error:
        raise PlanError(f"stage {stage.name!r}: {error}", stage.name) from error


def _check_order(pipeline: str, stages: Sequence[tuple[str, Stage]], *, streaming: bool) -> None:
    if not stages:
        raise PlanError(f"pipeline {pipeline!r} has no stages: add some with .add_stage(…)")
    for position, (name, stage) in enumerate(stages):
        if streaming and not isinstance(stage, ProcessingStage):
            raise PlanError(
                f"stage {name!r} is a {_kind(stage)}, and Pipeline.stream takes processing stages only; "
                "leave it out, or use Pipeline.run",
                name,
            )
        if isinstance(stage, Source) and position > 0:
            raise PlanError(
                f"stage {name!r} is a source, and a source comes first; merge the inputs in one source", name
            )
    if not streaming and not isinstance(stages[0][1], Source):
        raise PlanError(
            f"pipeline {pipeline!r} begins with {stages[0][0]!r}, which is not a source: begin with "
            "ReadManifest(…) or ReadRecords(…), or feed batches with Pipeline.stream(batches)"
        )


def _check_stage(name: str, stage: Stage) -> None:
    _check_init(name, type(stage))
    if isinstance(stage, ProcessingStage):
        _check_processing(name, stage)
    _check_options(name, stage)
    _check_columns(name, stage)
    try:
        with _asked(name, "check()"):
            stage.check()
    except PlanError as error:
        raise error if error.__cause__ else PlanError(f"stage {name!r}: {error}", name) from None


def _check_sources(stages: Sequence[tuple[str, Stage]]) -> None:
    sources = [stage for _, stage in stages if isinstance(stage, Source)]
    for name, stage in stages:
        with _asked(name, "check_sources()"):
            stage.check_sources(sources)


def _check_init(name: str, cls: type[Stage]) -> None:
    """Check that all settings of a stage are fields, so that `.with_()` and the fingerprint know them."""
    for base in cls.__mro__:
        if base.__module__ == Stage.__module__:
            break
        described = "__dataclass_fields__" in vars(base) or "__attrs_attrs__" in vars(base)
        if "__init__" in vars(base) and not described:
            raise PlanError(
                f"stage {name!r}: {base.__qualname__} has an __init__ of its own, so its settings cannot be seen; "
                "make it a @dataclass and put what __init__ computes into __post_init__ or setup()",
                name,
            )


def _check_processing(name: str, stage: ProcessingStage) -> None:
    if called_method(stage) is None:
        cls = type(stage).__qualname__
        raise PlanError(f"stage {name!r}: {cls} defines none of process, stream, process_record", name)
    if stage.cardinality not in get_args(Cardinality):
        raise PlanError(
            f"stage {name!r}: cardinality={stage.cardinality!r} is none of {', '.join(get_args(Cardinality))}", name
        )


def _check_options(name: str, stage: Stage) -> None:
    """Check the run-time options that a class sets as attributes, past `.with_()`."""
    for option in RUN_TIME_OPTIONS.values():
        value = getattr(stage, option.name)
        try:
            checked = option.check(value)
            if checked != value:
                raise ValueError(f"{value!r} is not a {type(checked).__name__}")
        except ValueError as error:
            raise PlanError(f"stage {name!r}: {option.name}: {error}", name) from None


def _check_columns(name: str, stage: Stage) -> None:
    for method in (stage.reads, stage.writes, stage.drops):
        with _asked(name, f"{method.__name__}()"):
            columns = method()
        if isinstance(columns, str):
            raise PlanError(
                f"stage {name!r}: {method.__name__}() returns the string {columns!r}; return a list: [{columns!r}]",
                name,
            )


@contextlib.contextmanager
def _asked(name: str, what: str) -> Generator[None]:
    """Call a method of a stage that may raise anything.

    Raises:
        PlanError: names the stage and the method.
    """
    try:
        yield
    except CurateError:
        raise
    except Exception as error:
        raise PlanError(f"stage {name!r}: {what} raised {type(error).__name__}: {error}", name) from error


def _check_channels(stages: Sequence[tuple[str, Stage]], audio: AudioSettings) -> None:
    """Check that the channels into which a stage splits recordings are the ones that later stages receive."""
    for name, stage in stages:
        splits = isinstance(stage, ProcessingStage) and stage.takes_audio and stage.cardinality == "splits"
        if splits and "channel" in (stage.writes() or ()) and audio.channel != "record":
            raise PlanError(
                f"stage {name!r} writes the channel of each record, but `audio: channel: {audio.channel}` disregards "
                "it, so later stages would get the same audio for all of them; leave `channel` at its default, record",
                name,
            )


def _check_outputs(stages: Sequence[tuple[str, Stage]]) -> None:
    inputs = {str(path.resolve()) for _, stage in stages if isinstance(stage, Source) for path in stage.inputs()}
    owners: dict[str, str] = {}
    for name, stage in stages:
        for output in stage.outputs() if isinstance(stage, Writer) else ():
            _check_output(name, output, inputs, owners)
            owners[_normal(output)] = name


def _check_output(name: str, output: str, inputs: set[str], owners: Mapping[str, str]) -> None:
    if _normal(output) in owners:
        raise PlanError(
            f"stages {owners[_normal(output)]!r} and {name!r} both write {output}; change one of the paths", name
        )
    path = Path(os.path.normpath(output))
    if output in inputs or (path.is_absolute() and str(path.resolve()) in inputs):
        raise PlanError(f"stage {name!r} would overwrite {output}, which is read; change the path", name)
    if path.parts[:1] and path.parts[0] in KEPT_BY_THE_RUN:
        raise PlanError(
            f"stage {name!r} writes {output}, a path that the run directory reserves for itself; change the path", name
        )


def _normal(output: str) -> str:
    return output if is_url(output) else os.path.normpath(output)


def _with_columns(stages: Sequence[tuple[str, Stage]]) -> list[PlannedStage[Stage]]:
    """Follow the columns through the stages, and find the first stage that reads a column that none before writes."""
    columns: frozenset[str] | None = None
    origins: dict[str, str] = {}
    planned: list[PlannedStage[Stage]] = []
    source = stages[0][0] if isinstance(stages[0][1], Source) else ""
    for position, (name, stage) in enumerate(stages):
        if isinstance(stage, Source):
            known = stage.record_columns()
            columns = None if known is None else frozenset(known)
            origins = dict.fromkeys(columns or (), name)
            planned.append(PlannedStage(name, _kind(stage), stage, columns))
        else:
            if columns is not None:
                _check_reads(name, stage, columns, stages[position - 1][0])
            written = stage.writes()
            corrects = isinstance(stage, ProcessingStage) and stage.corrects_duration
            measured = AUDIO_COLUMNS if corrects else frozenset[str]()
            if columns is not None:
                columns = None if written is None else (columns | {*written, *measured}) - frozenset(stage.drops())
            overwritten = {column: origins[column] for column in written or () if column in origins}
            _check_overwritten(name, stage, overwritten, source)
            origins |= dict.fromkeys(written or (), name)
            for column in stage.drops():
                origins.pop(column, None)
            planned.append(PlannedStage(name, _kind(stage), stage, columns, overwritten))
    return planned


def _check_reads(name: str, stage: Stage, columns: frozenset[str], before: str) -> None:
    missing = sorted(set(stage.reads()) - columns)
    if missing:
        from curate.missing_column import column_excerpt, missing_column_advice  # asked for in errors alone

        advice = missing_column_advice(stage, missing[0], columns)
        raise PlanError(
            f"stage {name!r} reads column {missing[0]!r}, which no earlier stage writes; "
            + (f"{advice}; " if advice else "")
            + f"{before!r} hands on {', '.join(sorted(columns)) or 'no columns'}"
            + column_excerpt(stage, missing[0]),
            name,
        )


def _check_overwritten(name: str, stage: Stage, overwritten: Mapping[str, str], source: str) -> None:
    """Check that a stage keeps the columns of other stages, where it must; those of the input may be replaced."""
    lost = sorted(column for column, origin in overwritten.items() if origin != source)
    if lost and isinstance(stage, ProcessingStage) and not stage.may_overwrite:
        raise PlanError(
            f"stage {name!r} would overwrite column {lost[0]!r}, which {overwritten[lost[0]]!r} has written; give it "
            "columns of its own: `prefix:`, or the setting that names the column",
            name,
        )


def _kind(stage: Stage) -> str:
    for cls, kind in _KINDS:
        if isinstance(stage, cls):
            return kind
    raise PlanError(
        f"stage {stage.name!r}: {type(stage).__qualname__} is none of "
        f"{', '.join(cls.__name__ for cls, _ in _KINDS)}; derive it from one of them",
        stage.name,
    )


def _phases(stages: Sequence[PlannedStage[Stage]]) -> tuple[Phase, ...]:
    groups: list[list[PlannedStage[Stage]]] = [[]]
    for stage in stages:
        before = groups[-1][-1] if groups[-1] else None
        starts = stage.kind == "gather" or (
            stage.kind == "partitioner" and before is not None and before.kind not in ("source", "gather")
        )
        ended = before is not None and (before.kind == "writer" or before.stage.checkpoint) and stage.kind != "writer"
        if groups[-1] and (starts or ended):
            groups.append([])
        groups[-1].append(stage)
    return tuple(_phase(number, group) for number, group in enumerate(groups))


def _phase(number: int, stages: Sequence[PlannedStage[Stage]]) -> Phase:
    return Phase(
        number=number,
        source=next(_of_kind(stages, Source), None),
        gather=next(_of_kind(stages, Gather), None),
        partitioner=next(_of_kind(stages, Partitioner), None),
        hops=_hops(_of_kind(stages, ProcessingStage)),
        writers=tuple(_of_kind(stages, Writer)),
    )


def _of_kind(stages: Sequence[PlannedStage[Stage]], cls: type[S]) -> Iterator[PlannedStage[S]]:
    kind = dict(_KINDS)[cls]

    def fits(planned: PlannedStage[Stage]) -> TypeGuard[PlannedStage[S]]:
        return planned.kind == kind

    return filter(fits, stages)


def _hops(stages: Iterator[PlannedStage[ProcessingStage]]) -> tuple[Hop, ...]:
    hops: list[Hop] = []
    for planned in stages:
        if hops and _fuse(hops[-1], planned.stage):
            hops[-1] = attrs.evolve(hops[-1], stages=(*hops[-1].stages, planned))
        else:
            hops.append(Hop((planned,), planned.stage.resources, planned.stage.workers))
    return tuple(hops)


def _fuse(hop: Hop, stage: ProcessingStage) -> bool:
    """Return whether a stage shares the workers of the hop before it."""
    alike = (hop.resources, hop.workers) == (stage.resources, stage.workers)
    before = hop.stages[-1].stage
    return alike and stage.fuse and before.fuse and not (stage.whole_batches or before.whole_batches)


def _result_settings(name: str, stage: Stage, audio: AudioSettings) -> dict[str, Any]:
    """Return the settings that determine a stage's results: its class, fields and model, but no run-time option."""
    cls = type(stage)
    ignored = stage.tuning | RUN_TIME_OPTIONS.keys()
    described: dict[str, Any] = {"class": f"{cls.__module__}:{cls.__qualname__}", "code": _versions_of(cls)}
    with _asked(name, "fingerprint()"):
        determining = stage.fingerprint()
    for setting, value in (*stage.settings().items(), *determining.items()):
        if setting not in ignored:
            try:
                described[setting] = describe_value(value)
            except TypeError as error:
                raise PlanError(f"stage {name!r}: field {setting!r} is not serializable: {error}", name) from None
    if isinstance(stage, ProcessingStage) and audio != AudioSettings():  # any of them may decode
        described["audio:"] = attrs.asdict(audio)
    return described


def _versions_of(cls: type) -> list[Any]:
    """Return the origin of a stage's code: distributions with versions, and the source of code that is in none."""
    versions: dict[str, Any] = {}
    for base in cls.__mro__[:-1]:
        top = base.__module__.partition(".")[0]
        names = distributions().get(top, [])
        if top in sys.stdlib_module_names and top != "__main__":
            continue
        if top == "curate":
            version = f"curate-speech {__version__}"
        elif names:
            version = f"{names[0]} {metadata.version(names[0])}"
        else:  # a script, a notebook, a plugins-file
            version = describe_code(base)
        versions[str(version)] = version
    return list(versions.values())
