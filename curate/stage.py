"""The kinds of stage that a pipeline is composed of, and `.with_()`, which changes one.

    Stage                   settings, columns, name: the base of all kinds
    ├── Source              read(after) → records           runs in the driver, metadata only
    ├── Partitioner         partition(records) → batches    runs in the driver
    ├── ProcessingStage     process(batch) → batch          runs in workers
    │   └── RecordStage     process_record(record) → record
    │       └── AudioStage  process_audio(record, audio) → record (in `audio_stage`)
    ├── Gather              gather(records) → records       sees everything, runs in the driver
    │   └── KeyGather       decide(keys) → decisions        decides from columns of keys (in `corpus`)
    ├── Writer              write(records, directory)       publishes files
    └── CompositeStage      decompose() → stages            a name for several (in `composite`)

A stage is an ordinary dataclass of settings (attrs classes work as well). What a run changes about it without changing
its results, such as the number of workers, is not a field but a run-time option, and set through `.with_()`.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias, cast, overload

import attrs

from curate.errors import InfrastructureError
from curate.records import ID, AudioBatch, Failed, Record, RecordReader
from curate.resolution import PluginLookup, Resolved
from curate.resources import Resources
from curate.run_time_options import RUN_TIME_OPTIONS, field_names, unknown_option, unknown_setting
from curate.storage import Scheme
from curate.suggest import unknown_keyword

if TYPE_CHECKING:
    from curate.audio import AudioLength, AudioSettings, RecordingCache

Cardinality: TypeAlias = Literal["maps", "filters", "splits"]


DEFAULT_AUDIO_MEMORY_BYTES = 256 * 1024 * 1024
"""The decoded audio that a worker holds at most, in bytes, unless a run sets another bound."""


DEFAULT_SPOOL_BYTES = 32 * 10**9
"""The decoded audio on the disk of a node at most, in bytes: 50 hours of mono at 44.1 kHz with 32 bits."""


def _announce_nothing(records: Sequence[Record]) -> None:
    """Used without an engine, a stage announces to no one."""


def _no_new_audio(record: Record, samples: Any, rate_hz: int) -> Record:
    """Used without a run directory, a stage has no place for new audio."""
    raise InfrastructureError(
        "context.new_audio needs a run directory to write to: run the stage in a pipeline with run_dir=…"
    )


def _no_new_shard(path: str, size: int, sha256: str) -> None:
    """Used without a run directory, a stage has no place for shards."""
    raise InfrastructureError(
        "context.new_shard needs a run directory to write to: run the stage in a pipeline with run_dir=…"
    )


@attrs.frozen
class WorkerContext:
    """What a worker offers its stages, from `setup()` on, as `self.context`.

    Args:
        audio_roots: the folders that audio may be read from; None: anywhere (eager use).
        schemes: the stores of the plugins by URL scheme, which a worker registers with `curate.storage`.
        announce: `announce(records)` names the records of the batch that the stage is about to touch: a crash or an
            exception is then blamed on these and not on the rest of the batch.
        audio: how audio is decoded, the pipeline's `audio` block (`curate.audio.AudioSettings`); None: the defaults.
        audio_memory_bytes: the decoded audio that the worker holds at most; it changes the speed and no result.
        run_directory: the run directory, an absolute path; None: the run has none.
        spool_directory: where decoded recordings lie that are too long for memory, shared by the workers of a node;
            None: each worker has a temporary folder for them.
        spool_bytes: the size of these recordings on each node, at most.
        recordings: `recordings(filepath_key)` returns the worker's decoded recordings by the column of their path, a
            `curate.audio.RecordingCache`, which is closed with the worker; None: each stage decodes for itself.
        correct_duration: `correct_duration(record, length)` writes the decoded length of a record without `offset` to
            its `duration`, counts a mismatch with what was claimed, and raises `RecordError` if the settings ask for
            that; None: each stage does it without counting.
        new_audio: `new_audio(record, samples, rate_hz)` writes samples, float32 of shape (n,) or (frames, channels),
            as a file of the run and returns the record with this file as its audio; see `curate.audio_stage`.
        new_shard: `new_shard(path, size, sha256)` names a durable file below the run directory that holds the batch at
            work, so that its commit names it as well; see `curate.stages.write.shards`.
    """

    audio_roots: tuple[str, ...] | None = None
    schemes: Mapping[str, Scheme] = attrs.field(factory=dict[str, Scheme], eq=False, repr=False)
    announce: Callable[[Sequence[Record]], None] = attrs.field(default=_announce_nothing, eq=False, repr=False)
    audio: AudioSettings | None = None
    audio_memory_bytes: int = DEFAULT_AUDIO_MEMORY_BYTES
    run_directory: str | None = None
    spool_directory: str | None = None
    spool_bytes: int = DEFAULT_SPOOL_BYTES
    recordings: Callable[[str], RecordingCache] | None = attrs.field(default=None, eq=False, repr=False)
    correct_duration: Callable[[Record, AudioLength], None] | None = attrs.field(default=None, eq=False, repr=False)
    new_audio: Callable[[Record, Any, int], Record] = attrs.field(default=_no_new_audio, eq=False, repr=False)
    new_shard: Callable[[str, int, str], None] = attrs.field(default=_no_new_shard, eq=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class Reject:
    """A record that a stage leaves out, and why.

    A filter's `process_record` returns `Reject(reason)` for the record that it was given; a gather, which is given all
    records, yields `Reject(record, reason)`.

    Raises:
        TypeError: the reason is not a string.
    """

    reason: str
    record: Record | None

    @overload
    def __init__(self, reason: str, /) -> None: ...
    @overload
    def __init__(self, *, reason: str) -> None: ...
    @overload
    def __init__(self, record: Record, reason: str) -> None: ...
    def __init__(self, record: Any = None, reason: Any = None) -> None:
        if reason is None and not isinstance(record, dict):
            record, reason = None, record
        if not isinstance(reason, str):
            raise TypeError(f"Reject(reason): the reason must be a string, not {reason!r:.80}")
        object.__setattr__(self, "record", record)
        object.__setattr__(self, "reason", reason)


@dataclasses.dataclass(frozen=True, slots=True)
class Joined:
    """The value that a gather yields for records that it joins to one: they are counted as joined parts.

    Args:
        record: the new record, whose `_id` no other record has at the same time.
        parts: the records that were given to the gather, at least one.

    Raises:
        ValueError: there are no parts.
    """

    record: Record
    parts: Sequence[Record]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("Joined(record, parts): there are no parts")


class Stage:
    """The base of all kinds of stage. It has no fields of its own, so that subclasses are free dataclasses."""

    # The run-time options: their defaults are set below, from RUN_TIME_OPTIONS.
    name: str
    batch_size: int
    resources: Resources
    workers: int | None
    prefetch_batches: int
    timeout_s: float | None
    retries: int
    checkpoint: bool
    fuse: bool

    tuning: ClassVar[frozenset[str]] = frozenset()
    """Own fields that change the speed and not the results: they stay out of the fingerprint."""

    _overrides: Mapping[str, Any] = {}
    _resolved: Mapping[str, Resolved] = {}

    def __new__(cls, *_: Any, **settings: Any) -> Self:
        """Answer a setting that the class does not have before Python does, which only says that it is unexpected.

        Raises:
            TypeError: with the nearest setting, or the run-time option that `.with_()` takes.
        """
        unknown = unknown_keyword(cls.__init__, settings) if settings else None
        if unknown is not None:
            raise TypeError(unknown_setting(cls, unknown))
        return super().__new__(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls) and "name" not in vars(cls).get("__annotations__", {}):
            words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__.removesuffix("Stage") or cls.__name__)
            cls.name = words.lower().strip("_")
        if "__attrs_attrs__" in vars(cls) and "__getstate__" in vars(cls):
            cls.__reduce_ex__ = _reduce_with_options

    def with_(self, **changes: Any) -> Self:
        """Return a copy with other settings; the original is never touched.

        The stage's own fields are changed through its class, so its validators and `__post_init__` run again. Run-time
        options (`RUN_TIME_OPTIONS`) are kept apart from them and read back as attributes.

        Raises:
            TypeError: an option that the stage does not have, with the nearest one.
            ValueError: a value out of range.
        """
        own = set(field_names(type(self)))
        fields = {name: value for name, value in changes.items() if name in own}
        options = {name: value for name, value in changes.items() if name not in own}
        overrides = {**self._overrides, **_checked_options(type(self), options)}
        changed = self._rebuilt(fields)
        for name, value in overrides.items():
            object.__setattr__(changed, name, value)
        object.__setattr__(changed, "_overrides", overrides)
        kept = {name: found for name, found in self._resolved.items() if name not in fields}
        object.__setattr__(changed, "_resolved", kept)
        return changed

    def _rebuilt(self, fields: Mapping[str, Any]) -> Self:
        me: Any = self
        if attrs.has(type(self)):
            return attrs.evolve(me, **fields)
        if dataclasses.is_dataclass(self):
            return dataclasses.replace(me, **fields)
        return copy.copy(self)

    def as_configured(self) -> Self:
        """Return a copy with the same settings and without what `setup()` and work have left on this one.

        The planner calls it, so that a stage which was used by itself, in a notebook for instance, goes into a pipeline
        as it is.
        """
        has_fields = attrs.has(type(self)) or dataclasses.is_dataclass(self)
        copied = self._rebuilt({}) if has_fields else type(self).__new__(type(self))
        for name in {*RUN_TIME_OPTIONS, "_overrides", "_resolved"} & vars(self).keys():
            object.__setattr__(copied, name, vars(self)[name])
        return copied

    def settings(self) -> dict[str, Any]:
        """Return the stage's own fields and their values, in order of declaration."""
        if attrs.has(type(self)):
            return {field.alias: getattr(self, field.name) for field in attrs.fields(type(self)) if field.init}
        return {name: getattr(self, name) for name in field_names(type(self))}

    def shown_settings(self) -> dict[str, Any]:
        """Return the settings to show to a person: those that are in the `repr`."""
        if attrs.has(type(self)):
            hidden = {field.alias for field in attrs.fields(type(self)) if field.repr is False}
        elif dataclasses.is_dataclass(self):
            hidden = {field.name for field in dataclasses.fields(self) if not field.repr}
        else:
            hidden = set[str]()
        return {name: value for name, value in self.settings().items() if name not in hidden}

    @property
    def overrides(self) -> Mapping[str, Any]:
        """The run-time options that were set through `.with_()`."""
        return dict(self._overrides)

    def resolve(self, host: PluginLookup) -> Self:
        """Return this stage with the names in its settings looked up; itself if it names nothing.

        The planner calls it once, in the driver. Workers get what it returns and look nothing up, because only the
        driver knows the plugins that the user has chosen. Keep the targets with `with_resolved`.

        Raises:
            PluginError: a name that no plugin announces, or whose owner cannot be imported.
        """
        return self

    def with_resolved(self, **found: Resolved) -> Self:
        """Return a copy that carries the values which settings of these names stand for.

        `.with_()` keeps them, except for a setting that it changes.
        """
        changed = self.with_()
        object.__setattr__(changed, "_resolved", {**self._resolved, **found})
        return changed

    @property
    def resolved(self) -> Mapping[str, Resolved]:
        """The values that were looked up, by the name of their setting."""
        return dict(self._resolved)

    def reads(self) -> Collection[str]:
        """Return the columns that a record must have before this stage."""
        return ()

    def writes(self) -> Collection[str] | None:
        """Return the columns that a record has after this stage in addition; None: the stage does not say."""
        return None

    def drops(self) -> Collection[str]:
        """Return the columns that a record no longer has after this stage."""
        return ()

    def check(self) -> None:
        """Check the settings before work starts, without importing anything heavy.

        Raises:
            PlanError: the mistake, and the remedy.
        """

    def check_sources(self, sources: Sequence[Source]) -> None:
        """Check, before work starts, what the sources of the pipeline say of their records.

        Raises:
            PlanError: this stage must not process them; the message names the remedy.
        """

    def fingerprint(self) -> Mapping[str, Any]:
        """Return values that determine the results in addition to the fields, such as a model file's sha256."""
        return {}

    def notes(self) -> Sequence[str]:
        """Return sentences for `curate plan`, such as that the results are not reproducible."""
        return ()


def _reduce_with_options(self: Stage, protocol: Any) -> tuple[Any, ...]:
    """Copy and pickle an attrs class with slots: its `__getstate__` knows the fields alone, and would lose the run-time
    options, which are in the instance's dict.
    """
    _, _, state, *_ = object.__reduce_ex__(self, protocol)
    return _with_attributes, (type(self), dict(vars(self))), state


def _with_attributes(cls: type[Stage], attributes: Mapping[str, Any]) -> Stage:
    stage = cls.__new__(cls)
    for name, value in attributes.items():
        object.__setattr__(stage, name, value)
    return stage


for _option in RUN_TIME_OPTIONS.values():
    setattr(Stage, _option.name, _option.default)


def _checked_options(cls: type, options: Mapping[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for name, value in options.items():
        if name not in RUN_TIME_OPTIONS:
            raise TypeError(unknown_option(cls, name))
        try:
            checked[name] = RUN_TIME_OPTIONS[name].check(value)
        except ValueError as error:
            raise ValueError(f"{cls.__name__}.with_({name}=…): {error}") from None
    return checked


class Source(Stage):
    """Where records come from. Runs in the driver, so it reads metadata and never audio."""

    def read(self, after: str | None = None) -> Iterator[Record | Failed]:
        """Yield every record with its `_id`, in order, from the one behind the id `after`.

        A row that cannot be a record is yielded as `Failed`, under its `_id`: it goes to quarantine.
        """
        raise NotImplementedError(f"{type(self).__name__} must define read(after)")

    def count(self) -> int | None:
        """Return how many records there are, about, for progress and estimates; None: unknown. May take a while."""
        return None

    def record_columns(self) -> Collection[str] | None:
        """Return the columns that the records have, as far as the input declares them; None: unknown."""
        return None

    def audio_roots(self) -> tuple[str, ...] | None:
        """Return the folders under which the records' audio must lie; None: anywhere."""
        return None

    def inputs(self) -> Sequence[Path]:
        """Return the files that are read; a resumed run is refused when one of them has changed."""
        return ()

    lists: bool = False
    """Whether folders or patterns of the settings are looked into; where not, the settings name all inputs."""

    listing_may_grow: ClassVar[bool] = True
    """Whether files that have appeared since may be read behind those of the run's list (`--grown`)."""

    def listing(self) -> Iterator[str] | None:
        """Yield the names of what folders and patterns of the settings hold now, in the order in which they are read.

        None: there are none. A run lists once, and every attempt reads the files of that list.
        """
        return None

    def use_listing(self, names: Iterable[str] | None) -> None:
        """Read the files of these names, in this order, instead of those there now; None: again those there now.

        The names can be iterated again.
        """

    def licenses(self) -> Collection[str]:
        """Return the licenses that the settings give to records, for writers that deny some."""
        license = getattr(self, "license", "")
        return (license,) if isinstance(license, str) and license else ()

    def can_grow(self, path: Path) -> bool:
        """Return whether bytes added to the end of an input only add records behind the last one (`--grown`)."""
        return False

    def describe_reading(self) -> Mapping[str, Any]:
        """Return the figures that `summary.json` shows as this source's `performance`; called when all is read."""
        return {}


class Partitioner(Stage):
    """Cuts the stream of records into the batches that travel. Runs in the driver."""

    def partition(self, records: Iterator[Record]) -> Iterator[AudioBatch]:
        """Yield batches so that every record is in exactly one of them."""
        raise NotImplementedError(f"{type(self).__name__} must define partition(records)")

    def writes(self) -> Collection[str] | None:
        return ()


class ProcessingStage(Stage):
    """One step of work on a batch. Define `process(batch)`, or `stream(batch)` to hand records on as they are done.

    It *maps* (every record comes out exactly once) unless it declares that it *filters* (may leave records out;
    `batch.reject(record, reason)` says why) or *splits* (one record becomes several, each a copy with its parent's
    `_id`; a record that has no parts is rejected).
    """

    cardinality: Cardinality = "maps"
    thread_safe: bool = True
    whole_batches: bool = False
    """Whether the stage gets each batch of the partitioner whole and alone: it is never split, merged or handed on in
    part, as a shard must not be. Such a stage announces each record that it works on; where a worker dies, the
    announced records are tried alone, without keeping their results, and the batch is processed again without those
    that are convicted. It reports a record that is bad with `batch.fail`; an exception that it raises stops the run.
    """
    takes_audio: ClassVar[bool] = False
    """Whether the engine calls `process_audio`: so it does where an `AudioStage` does not define its work otherwise."""
    corrects_duration: bool = False
    """Whether the decoded length is written to `duration` before the stage sees a record: where it decodes audio."""
    may_overwrite: ClassVar[bool] = True
    """Whether the stage may write a column that an earlier stage has written; where not, the plan is an error."""
    context: WorkerContext = WorkerContext()

    def setup(self) -> None:
        """Load what the work needs. Called once in every worker, on the worker's own copy of the stage."""

    def teardown(self) -> None:
        """Release what `setup` has loaded."""

    def process(self, batch: AudioBatch) -> AudioBatch | list[AudioBatch]:
        """Work on all records of a batch and return them, in the batch's order.

        Raises:
            RecordError: a record is bad; the engine finds out which.
            InfrastructureError: the run cannot continue.
        """
        if type(self).stream is ProcessingStage.stream:
            raise NotImplementedError(f"{type(self).__name__} must define process(batch) or stream(batch)")
        return _collect_stream(self, batch)

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        """Yield the records of a batch in parts, as they are done, in any order."""
        raise NotImplementedError

    def take_measures(self) -> Mapping[str, Any]:
        """Return the measurements since the last call, of records that have been handed on; empty if there are none.

        Called in the worker when finished records leave it, and committed with them, so that over any number of
        workers and resumed runs each record is measured as often as it is in the result. The data must be fit for JSON
        and for `curate.monitoring.add_measures`, which adds it up.
        """
        return {}

    def describe_measures(self, measures: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the figures that `summary.json` shows as this stage's `performance`.

        Args:
            measures: the sum of all that `take_measures` has returned. Called on a stage that was not set up.
        """
        return measures


class RecordStage(ProcessingStage):
    """A step that looks at one record at a time: define `process_record(record)`."""

    def process_record(self, record: Record) -> Record | Reject | Iterable[Record] | None:
        """Return the record, changed or not.

        A stage that filters may return `Reject(reason)`; one that splits returns or yields several records.

        Raises:
            RecordError: this record is bad.
            InfrastructureError: the run cannot continue.
        """
        raise NotImplementedError(f"{type(self).__name__} must define process_record(record)")

    def process(self, batch: AudioBatch) -> AudioBatch | list[AudioBatch]:
        from curate.errors import RecordError

        done = batch.with_data([])
        for record in batch.data:
            try:
                result = self.process_record(record)
                if isinstance(result, Reject):
                    done.reject(record, result.reason)
                elif result is not None:
                    done.data.extend(children_of(result, self))
            except RecordError as error:
                done.fail(record, error)
        return done


def children_of(result: object, stage: Stage) -> list[Record]:
    """Return the records that `process_record` has returned or yielded, as copies, because a generator may change one
    dict and yield it again.

    Raises:
        TypeError: it is something else than records.
    """
    if isinstance(result, dict):
        return [cast("Record", result)]
    if not isinstance(result, Iterable) or isinstance(result, str | bytes):
        raise TypeError(f"stage {stage.name!r} returned a {type(result).__name__}; return a record, or several")
    children: list[Record] = []
    for child in cast("Iterable[Any]", result):
        if not isinstance(child, dict):
            raise TypeError(f"stage {stage.name!r} yielded a {type(child).__name__}: {child!r:.80}; yield dicts")
        children.append({**cast("Record", child)})
    return children


class Gather(Stage):
    """A step that needs to see every record before it yields the first: a shuffle, a global deduplication.

    Define `gather(records)`, or `gather_again(records, scratch)` if once through the records is not enough. A resumed
    run gathers again, so the same records must give the same result in the same order.
    """

    only_orders: ClassVar[bool] = False
    """Whether it changes nothing but the order, so that a plan leaves it out where no stage comes behind."""

    def for_sample(self) -> Self:
        """Return this stage as it works on a sample of the records, by which a run is estimated.

        A stage that raises where a whole corpus is not as it was asked for tolerates that in a sample.
        """
        return self

    def gather(self, records: Iterator[Record]) -> Iterator[Record | Reject | Joined]:
        """Yield the records, in any order, and `Reject(record, reason)` for those left out. Memory must stay bounded.

        Records that become one are yielded as `Joined(record, parts)`.

        A record of which nothing is yielded counts as filtered too, with the stage's name as the reason.
        """
        raise NotImplementedError(f"{type(self).__name__} must define gather(records)")

    def gather_again(self, records: Iterable[Record], scratch: Path) -> Iterator[Record | Reject | Joined]:
        """As `gather`, where the records can be read more than once.

        Args:
            records: every iteration begins anew, gives the same records in the same order, and reads them from disk.
            scratch: an empty folder for temporary files, inside the run directory if there is one; it is removed when
                the phase ends, or when the run is resumed.
        """
        return self.gather(iter(records))


RUN_FOLDERS = frozenset(
    {
        "audio",
        "commits",
        "copies",
        "damaged",
        "data",
        "filtered",
        "logs",
        "metrics",
        "quarantine",
        "scratch",
        "shards",
        "spool",
    }
)
"""Folders of the run directory that are the engine's; writers publish elsewhere."""


SHARD_MEMBERS = ".files"
"""The suffix of a folder with files of single records, which belongs to the shard of the same name."""


@attrs.frozen
class ShardFile:
    """A shard that a phase has committed, before it is published.

    Args:
        path: where it lies; it must not be changed, but may be linked.
        folder: the folders between the run's own and the file's name, from the stage's name on.
        position: the position of its first record in the order of the output.
        size: in bytes.
        sha256: of the content, in hexadecimal digits.
    """

    path: Path
    folder: str
    position: int
    size: int
    sha256: str


class Writer(Stage):
    """Publishes the records as files that the user asked for; later stages get the records unchanged."""

    outcomes: Mapping[str, Any] = MappingProxyType({})
    """How many records and hours were read, filtered and failed before this stage, by reason; set by the engine."""
    planned_columns: Sequence[str] = ()
    """The columns that the plan knows of the records, in alphabetical order; set by the engine."""

    def outputs(self) -> Sequence[str]:
        """Return the paths that will be written, as the user gave them; no two writers may share one."""
        return ()

    def check_place(self, directory: Path) -> None:
        """Check, before work starts, that what lies at the outputs may be replaced.

        Args:
            directory: the run directory.

        Raises:
            PlanError: it is not this run's; the message names the remedy.
        """

    def write(self, records: RecordReader, directory: Path) -> list[Path]:
        """Write the files, each under a temporary name and then renamed, and return their paths.

        Args:
            records: all kept records, in the order of the input; can be read more than once.
            directory: the run directory, where relative paths lie.
        """
        raise NotImplementedError(f"{type(self).__name__} must define write(records, directory)")

    def writes(self) -> Collection[str] | None:
        return ()


class ShardPublisher(Writer):
    """Publishes the shards that the stage before it has made in workers."""

    def publish(self, shards: Sequence[ShardFile], directory: Path) -> list[Path]:
        """Publish the shards under their final names, whole and the index last, and return the paths to name.

        Args:
            shards: those of the phase, in the order of the output.
            directory: the run directory, where relative paths lie.
        """
        raise NotImplementedError(f"{type(self).__name__} must define publish(shards, directory)")


WORKING_METHODS = frozenset({"stream", "process", "process_record"})
"""The methods that a stage defines its work in."""


def called_method(stage: ProcessingStage) -> Literal["stream", "process", "process_record"] | None:
    """Return which method of a stage the engine calls: the one that its most derived class defines.

    Where one class defines several, `stream` goes before `process`, and `process` before `process_record`.
    """
    for cls in type(stage).__mro__:
        if cls.__module__ != __name__:
            for method in ("stream", "process", "process_record"):
                if method in vars(cls):
                    return method
    return None


def _collect_stream(stage: ProcessingStage, batch: AudioBatch) -> AudioBatch:
    """Run `stream` to its end and put the records back into the batch's order."""
    lent = {f"eager:{number}": record for number, record in enumerate(batch.data) if ID not in record}
    for identity, record in lent.items():
        record[ID] = identity
    order = {record[ID]: position for position, record in enumerate(batch.data)}
    result = batch.with_data(())
    try:
        for part in stage.stream(batch):
            result.data.extend(part.data)
            _hand_over(part, result)
        _hand_over(batch, result)
    finally:
        left = [note.record for note in (*result.rejected, *result.failed)]
        result.data.sort(key=lambda record: order.get(record.get(ID), len(order)))
        for record in (*batch.data, *result.data, *left):
            if record.get(ID) in lent:
                del record[ID]
    return result


def _hand_over(batch: AudioBatch, result: AudioBatch) -> None:
    """Move the rejects and failures of a batch to another one, so that they count once."""
    result.rejected.extend(batch.rejected)
    result.failed.extend(batch.failed)
    batch.rejected, batch.failed = [], []
