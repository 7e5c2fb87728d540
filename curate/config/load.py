"""From a configuration file to a checked pipeline: read, override, put variables in, make each stage."""

from __future__ import annotations

import importlib
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from curate.audio import AudioSettings
from curate.config.addresses import StageAddresses
from curate.config.diagnostics import ErrorCollector, SourceLocation, config_error
from curate.config.instantiate import USE, located, make_instance, make_stage
from curate.config.nodes import MappingNode, Node, ScalarNode, SequenceNode, describe, require_mapping, require_text
from curate.config.overrides import TOP_LEVEL, override, replace_executor
from curate.config.stage_locations import places_in_plan
from curate.config.values import convert
from curate.config.variables import interpolate
from curate.config.yaml_reader import read_document
from curate.engine import ErrorBudget
from curate.errors import PlanError, PluginError
from curate.stage import DEFAULT_AUDIO_MEMORY_BYTES, DEFAULT_SPOOL_BYTES, Stage
from curate.suggest import closest, nearest

if TYPE_CHECKING:
    from curate.pipeline import Pipeline


class Reference(Protocol):
    """A stage or executor that a plugin has announced by name."""

    def load(self) -> Any:
        """Import it and return it; PluginError if that fails."""
        ...


class Host(Protocol):
    """The lookup of stages and executors by name: `curate.plugin`'s host."""

    def stage(self, name: str) -> Reference:
        """Return the stage of this name; PluginError if there is none."""
        ...

    def executor(self, name: str) -> Reference:
        """Return the executor of this name; PluginError if there is none."""
        ...


@attrs.frozen
class Configured:
    """The checked content of a configuration file.

    Args:
        pipeline: the pipeline with all its stages.
        executor: the executor object; None if neither the file nor the caller names one.
        run_dir: where the run is kept, as written (relative to the current folder); None if not given.
        budget: how many records may fail.
        source: the file.
        places: where each stage of the pipeline stands in the file.
        audio_memory_bytes: the decoded audio that each worker may hold.
        spool_directory: where the spools of runs lie, as written; None: in the run directory.
        spool_bytes: the decoded audio in the spool of each node at most.
    """

    pipeline: Pipeline
    executor: Any
    run_dir: Path | None
    source: Path
    budget: ErrorBudget = attrs.field(factory=ErrorBudget)
    places: tuple[SourceLocation, ...] = ()
    audio_memory_bytes: int = DEFAULT_AUDIO_MEMORY_BYTES
    spool_directory: Path | None = None
    spool_bytes: int = DEFAULT_SPOOL_BYTES

    @contextmanager
    def located(self) -> Generator[None]:
        """Prefix the errors of planning with the place of their stage in the file."""
        try:
            yield
        except PlanError as error:
            places = places_in_plan(self.pipeline.stages, self.places)
            place = places.get(error.stage or "", SourceLocation(str(self.source)))
            raise PlanError(f"{place}: {error}", error.stage) from error


def load_pipeline(
    path: str | Path,
    *,
    host: Host,
    sets: Iterable[str] = (),
    executor: str | None = None,
    run_dir: str | Path | None = None,
    allow_imports: bool = False,
) -> Configured:
    """Read a configuration file and make its pipeline and executor.

    Args:
        path: the YAML file.
        host: finds stages and executors by name.
        sets: overrides, `path=value`, applied before variables are put in.
        executor: replaces the file's executor; the file's options for another one are then dropped.
        run_dir: replaces the file's `run_dir`.
        allow_imports: whether `use:` may name any importable class, `package.module:Class`. Only the command line can
            say so, since a file from elsewhere would otherwise run what it likes.

    Raises:
        ConfigError: everything that is wrong with the file, one mistake a line, each beginning with its place.
    """
    _refuse_other_files(Path(path))
    document = read_document(path)
    if executor is not None:
        document = replace_executor(document, executor)
    builder, folder = _Builder(host, allow_imports), Path(path).parent.resolve()
    document = override(document, sets, StageAddresses(builder.stage_class, builder.stage, folder))
    document = interpolate(document, folder)
    mistakes = ErrorCollector()
    for name, place in document.keys.items():
        if name not in TOP_LEVEL:
            mistakes.messages.append(str(config_error(place, f"unknown key {name!r}: {closest(name, TOP_LEVEL)}")))
    name, made_executor, directory = _name_after(Path(path)), None, None
    with mistakes.collected():
        if "name" in document.entries:
            name = _checked_name(document.entries["name"])
    with mistakes.collected():
        if "run_dir" in document.entries and not _is_null(document.entries["run_dir"]):
            directory = Path(require_text(document.entries["run_dir"], "`run_dir`"))
    pipeline = None
    with mistakes.collected():
        pipeline = builder.pipeline(name, document)
    with mistakes.collected():
        if "executor" in document.entries and not _is_null(document.entries["executor"]):
            made_executor = builder.executor(document.entries["executor"])
    budget = ErrorBudget()
    with mistakes.collected():
        budget = _budget(document)
    audio_memory_bytes = DEFAULT_AUDIO_MEMORY_BYTES
    with mistakes.collected():
        audio_memory_bytes = _audio_memory(document)
    spool_directory, spool_bytes = None, DEFAULT_SPOOL_BYTES
    with mistakes.collected():
        if "spool_dir" in document.entries and not _is_null(document.entries["spool_dir"]):
            spool_directory = Path(require_text(document.entries["spool_dir"], "`spool_dir`"))
    with mistakes.collected():
        spool_bytes = _spool_bytes(document)
    mistakes.end()
    assert pipeline is not None
    return Configured(
        pipeline,
        made_executor,
        directory if run_dir is None else Path(run_dir),
        Path(path),
        budget,
        tuple(node.place for node in _stages(document)),
        audio_memory_bytes,
        spool_directory,
        spool_bytes,
    )


_TABLES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".gz", ".zst", ".bz2", ".xz")


def _refuse_other_files(path: Path) -> None:
    """Refuse a folder, a manifest or a Python file that is given as a pipeline, and a misspelt name.

    Raises:
        ConfigError: names the command that takes it.
    """
    where = SourceLocation(str(path))
    if path.is_dir():
        if (path / "run.json").exists():
            raise config_error(
                where,
                "this is a run directory, and not a pipeline: run the pipeline's file with "
                f"`--run-dir {path}` to resume it, or look at it with `curate report {path}`",
            )
        raise config_error(where, "this is a folder, and not a pipeline: name the YAML file in it")
    if not path.exists():
        files = (each.name for each in path.parent.glob("*.y*ml")) if path.parent.is_dir() else ()
        near = nearest(path.name, files)
        if near is not None:
            raise config_error(where, f"the file does not exist: did you mean {path.with_name(near)}?")
    if not path.is_file():
        return
    if path.suffix == ".py":
        raise config_error(
            where,
            f"this is a Python file, and not a pipeline: run it with `python {path}`, or name it as "
            f"`--plugins-file {path}` before a pipeline that uses its stages",
        )
    if path.suffix.lower() in _TABLES:
        raise config_error(
            where, f"this is a manifest, and not a pipeline: `curate init {path}` writes a pipeline for it"
        )


def _audio(document: MappingNode) -> AudioSettings:
    node = document.entries.get("audio")
    if node is None or _is_null(node):
        return AudioSettings()
    return make_instance(AudioSettings, require_mapping(node, "`audio`", "`audio:` and below it `channel: loudest`"))


def _audio_memory(document: MappingNode) -> int:
    node = document.entries.get("audio_memory")
    if node is None or _is_null(node):
        return DEFAULT_AUDIO_MEMORY_BYTES
    from curate.pipeline import parse_audio_memory

    with located(node, "`audio_memory`"):
        return parse_audio_memory(convert(node, int | str, "audio_memory"))


def _spool_bytes(document: MappingNode) -> int:
    node = document.entries.get("spool_gb")
    if node is None or _is_null(node):
        return DEFAULT_SPOOL_BYTES
    from curate.pipeline import parse_spool_gb

    with located(node, "`spool_gb`"):
        return parse_spool_gb(convert(node, float, "spool_gb"))


def _budget(document: MappingNode) -> ErrorBudget:
    budget = ErrorBudget()
    for name, kind in (("max_failures", int | None), ("max_failure_ratio", float | None)):
        node = document.entries.get(name)
        if node is not None:
            with located(node, f"`{name}`"):
                budget = attrs.evolve(budget, **{name: convert(node, kind, name)})
    return budget


@attrs.frozen
class _Builder:
    host: Host
    allow_imports: bool

    def pipeline(self, name: str, document: MappingNode) -> Pipeline:
        from curate.pipeline import Pipeline

        mistakes = ErrorCollector()
        pipeline = Pipeline(name=name)
        with mistakes.collected():
            pipeline.audio = _audio(document)
        for node in _stages(document):
            with mistakes.collected():
                stage = self.stage(node)
                with located(node, stage.name):
                    pipeline.add_stage(stage)
        mistakes.end()
        return pipeline

    def stage(self, node: Node) -> Stage:
        return make_stage(self.stage_class(node), _stage_section(node), self.stage)

    def stage_class(self, node: Node) -> type[Stage] | Stage:
        """Return the class of a stage, or the instance that a decorated function is."""
        section = _stage_section(node)
        loaded = self.loaded(section, "stage")
        if isinstance(loaded, Stage) or (isinstance(loaded, type) and issubclass(loaded, Stage)):
            return loaded
        raise config_error(
            section.entries[USE].place, f"{loaded!r:.80} is not a stage: name a subclass of curate's ProcessingStage"
        )

    def executor(self, node: Node) -> Any:
        if isinstance(node, ScalarNode):
            require_text(node, "`executor`")
            node = MappingNode(node.place, {USE: node}, {USE: node.place})
        section = require_mapping(node, "`executor`", "`executor: local`, or `executor: {use: local}`")
        loaded = self.loaded(section, "executor")
        if not isinstance(loaded, type):
            raise config_error(section.entries[USE].place, f"{loaded!r:.80} is not an executor: name a class")
        return make_instance(loaded, section)

    def loaded(self, section: MappingNode, kind: str) -> Any:
        """Return the class or instance that `use:` names."""
        node = section.entries.get(USE)
        if node is None:
            near = nearest(USE, section.entries)
            if near is not None:
                raise config_error(section.keys[near], f"the {kind} lacks `use`: write `use` instead of {near!r}")
            raise config_error(section.place, f"the {kind} lacks `use`: write `use: <name of the {kind}>`")
        name = require_text(node, "`use`")
        if ":" in name:
            return self.imported(name, node.place, kind)
        try:
            return (self.host.stage if kind == "stage" else self.host.executor)(name).load()
        except PluginError as error:
            message = "; ".join(str(error).splitlines())
            raise config_error(node.place, f"{message}{node.origin}") from error

    def imported(self, name: str, place: SourceLocation, kind: str) -> Any:
        if not self.allow_imports:
            raise config_error(
                place,
                f"`use: {name}` imports and runs code that no plugin has registered: write the name of a registered "
                f"{kind}, or allow it on the command line with --allow-imports",
            )
        module_name, _, path = name.partition(":")
        if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", name):
            raise config_error(place, f"`use: {name}` is not of the form package.module:Class: write it so")
        try:
            found: Any = importlib.import_module(module_name)
        except (Exception, SystemExit) as error:  # third-party code may raise anything
            reason = f"{type(error).__name__}: {error}"
            raise config_error(
                place, f"`use: {name}` cannot be imported ({reason}): check it, and PYTHONPATH"
            ) from error
        try:
            for part in path.split("."):
                found = getattr(found, part)
        except AttributeError as error:
            raise config_error(place, f"`use: {name}`: {error}: check the name behind the colon") from error
        return found


def _stage_section(node: Node) -> MappingNode:
    return require_mapping(node, "a stage", "`use: <name>` and its options below")


def _checked_name(node: Node) -> str:
    """Return the pipeline's name; it becomes a folder's name, so it must not lead elsewhere."""
    name = require_text(node, "`name`")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        remedy = "write letters, digits, '_', '-' and '.', beginning with a letter or digit"
        raise config_error(node.place, f"{name!r:.80} cannot be a pipeline's name{node.origin}: {remedy}")
    return name


def _name_after(path: Path) -> str:
    """Return the name of a pipeline that has none: the file's, as far as it can be one."""
    return re.sub(r"[^\w.-]+", "-", path.stem).strip("_.-") or "pipeline"


def _stages(document: MappingNode) -> tuple[Node, ...]:
    node = document.entries.get("stages")
    form = "write `stages:` and below it `- use: <name>`"
    if node is None:
        raise config_error(document.place, f"there are no `stages`: {form}")
    if _is_null(node) or (isinstance(node, SequenceNode) and not node.items):
        raise config_error(document.keys["stages"], f"`stages` is empty: {form}")
    if not isinstance(node, SequenceNode):
        raise config_error(node.place, f"`stages` must be a list, not {describe(node)}: {form}")
    return node.items


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value is None
