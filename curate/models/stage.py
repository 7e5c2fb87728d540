"""The stage that runs an `AudioModel`: planned batches, loading ahead, splitting on OOM, measurements."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, ClassVar

from loguru import logger

from curate.errors import CurateError, InfrastructureError, PlanError
from curate.fingerprint import describe_code
from curate.gpu_errors import is_oom
from curate.models.inference import InferenceFailed
from curate.models.micro_batches import (
    DEFAULT_MAX_BATCH_ON_CPU_S,
    DEFAULT_MAX_BATCH_S,
    DEFAULT_SATURATION_S,
    MicroBatches,
)
from curate.models.model import AudioModel, Row, describe_misfit
from curate.models.resources import ModelResources
from curate.models.rows import RowContract
from curate.models.runner import Inferred, ModelRunner, OutOfRange
from curate.monitoring import counted_use, statistics_of
from curate.records import DEFAULT_FILEPATH_KEY, AudioBatch, Record
from curate.run_time_options import field_names
from curate.stage import ProcessingStage

_STAGE_SETTINGS = ("min_s", "max_s", "max_batch_s", "batch_size", "assumed_s", "cost", "scale")
"""Options of the batchers that are fields of the stage, or that the stage sets itself."""


@dataclass
class AudioModelStage(ProcessingStage):
    """Runs an `AudioModel` on every record, and writes the columns of its rows.

    A subclass names the class of its model, and has the model's settings as fields; or it defines `make_model()`::

        @dataclass
        class Loudness(AudioModelStage):
            model_class = LoudnessModel
            threshold: float = 0.01

    The model's device and threads follow from the stage's `resources`: with `gpus`, CUDA; otherwise as many threads as
    `cpus`. A field `dtype` of the stage, if it has one, is the number format.

    Args:
        filepath_key: the column with the path of the audio; None: the batch's, `audio_filepath` in a run.
        batching: `length` (records of similar length, at most `max_batch_s` padded seconds together, and at most
            `batch_size` records where that is set), `memory` (records of similar length, as many as fit into the GPU's
            memory; `length` where the memory cannot be measured), `static` (`batch_size` records, in arrival order),
            `duration` or `bucket`.
        max_batch_s: the budget of a batch in seconds of audio, padding included, also in place of `memory`; not for
            `static`. None: 200 on a GPU, 30 on the CPU.
        memory_share: with `memory`, the share of the free memory that a batch may need, None: 0.8. When it is given,
            batches also grow towards that share of the GPU's memory, as far as measured peaks leave room.
        saturation_s: with `memory`, the padded seconds that saturate the GPU: larger batches are not planned. None: as
            large as the memory allows.
        min_s: shorter records are filtered.
        max_s: longer records are filtered.
        batching_options: further options of the batcher, such as `max_items` or `multiple_of`.
    """

    filepath_key: str | None = field(default=None, kw_only=True)
    batching: str = field(default="length", kw_only=True)
    max_batch_s: float | None = field(default=None, kw_only=True)
    memory_share: float | None = field(default=None, kw_only=True)
    saturation_s: float | None = field(default=DEFAULT_SATURATION_S, kw_only=True)
    min_s: float | None = field(default=None, kw_only=True)
    max_s: float | None = field(default=None, kw_only=True)
    batching_options: Mapping[str, Any] = field(default_factory=dict[str, Any], kw_only=True)

    batch_size = 16
    prefetch_batches = 2
    checkpoint = True
    thread_safe = False
    corrects_duration = True
    may_overwrite = False
    tuning = frozenset({"batching", "max_batch_s", "memory_share", "saturation_s", "batching_options"})

    model_class: ClassVar[type[AudioModel] | None] = None
    """The class of the model; it gets the fields that the subclass adds, by name."""

    def __post_init__(self) -> None:
        self._runner: ModelRunner | None = None
        has_bounds = self.min_s is not None or self.max_s is not None
        self.cardinality = "filters" if has_bounds else "maps"

    def make_model(self) -> AudioModel:
        """Return the model of one worker, not yet set up."""
        if self.model_class is None:
            raise NotImplementedError(f"{type(self).__name__} must name its model_class, or define make_model()")
        names = set(field_names(type(self))) - set(field_names(AudioModelStage))
        settings = {name: getattr(self, name) for name in names}
        return build_model(self.model_class, settings, f"the model {self.model_class.__name__}")

    def model_resources(self) -> ModelResources:
        """Return where and how the model runs."""
        return ModelResources.of(self.resources, getattr(self, "dtype", "auto"))

    def model_columns(self, model: AudioModel) -> Sequence[str]:
        """Return the columns that the stage writes from a model's rows."""
        return tuple(model.writes)

    def row_contract(self, model: AudioModel) -> RowContract:
        """Return the columns that the model's rows must have."""
        return RowContract(type(model).__name__, model.writes)

    def write_row(self, record: Record, row: Row) -> None:
        """Write a row to its record."""
        record.update(row)

    def is_oom(self, error: BaseException) -> bool:
        """Return whether an error of the model means that the stage should try a smaller batch.

        With `static` batches none does: the error is raised, and the engine isolates the record that causes it.
        """
        return self.batching != "static" and is_oom(error)

    def check(self) -> None:
        if self.batching_options.get("drop_remainder"):
            raise PlanError("drop_remainder would make the output depend on the batches; it is for training")
        for name in _STAGE_SETTINGS:
            if name in self.batching_options:
                raise PlanError(f"stage {self.name!r}: {name} is a setting of the stage, not a batching option")
        if self.saturation_s is not None and not self.saturation_s > 0:
            raise PlanError(f"stage {self.name!r}: saturation_s must be above 0, or null, not {self.saturation_s:g}")
        self.make_batches()
        self.checked_model()

    def checked_model(self) -> AudioModel:
        """Return the model, not yet set up.

        Raises:
            PlanError: it is not an `AudioModel`, or it declares no columns.
        """
        model = self.make_model()
        if misfit := describe_misfit(model):
            raise PlanError(f"stage {self.name!r}: {misfit}", self.name)
        if isinstance(model.writes, str):
            raise PlanError(
                f"{type(model).__name__}.writes must be a tuple of columns, not {model.writes!r}", self.name
            )
        return model

    def make_batches(self) -> MicroBatches:
        """Return the planner of the micro-batches."""
        strategy = self.batching
        if strategy == "memory" and self.max_batch_s is not None:
            strategy = "length"
        if strategy == "bucket" and self.max_s is None:
            raise PlanError(f"stage {self.name!r}: batching 'bucket' needs max_s, the length of its longest bucket")
        resources = self.model_resources()
        is_small = not resources.on_gpu and strategy != "bucket"  # a bucket holds at least one record of max_s
        default_s = DEFAULT_MAX_BATCH_ON_CPU_S if is_small else DEFAULT_MAX_BATCH_S
        return MicroBatches(
            strategy,
            self.batcher_options(strategy),
            max_batch_s=default_s if self.max_batch_s is None else self.max_batch_s,
            batch_size=self.batch_size,
            memory_share=self.memory_share,
            device_share=resources.gpu_share,
            device_bytes=None if resources.gpu_memory_gb is None else resources.gpu_memory_gb * 1e9,
            saturation_s=self.saturation_s,
        )

    def batcher_options(self, strategy: str) -> dict[str, Any]:
        """Return the options of the batcher of a strategy, as the stage's settings say."""
        options: dict[str, Any] = {"min_s": self.min_s, "max_s": self.max_s, **self.batching_options}
        if strategy not in ("length", "memory"):
            return options
        if self.model_resources().on_gpu and "batch_shuffle_window" not in options:
            options.setdefault("largest_first", True)  # CUDA graphs of one batch are then large enough for the next
        if "batch_size" in self.overrides or type(self).batch_size != AudioModelStage.batch_size:
            options.setdefault("max_items", self.batch_size)
        return options

    def batching_report(self) -> dict[str, Any]:
        """Return this worker's batching strategy, the changes of its budget, and the figures of `PerformanceMonitor`.

        Empty before `setup`, and after `teardown`, which logs the report.
        """
        if self._runner is None:
            return {}
        return {
            **self._runner.batches.report(),
            "model": self._runner.runtime_info(),
            "performance": self._runner.monitor.get_statistics(),
        }

    def take_measures(self) -> Mapping[str, Any]:
        if self._runner is None:
            return {}
        measures = self._runner.monitor.take_measures()
        return measures | counted_use(self._runner.runtime_info()) if measures else {}

    def describe_measures(self, measures: Mapping[str, Any]) -> Mapping[str, Any]:
        return statistics_of(measures)

    def reads(self) -> Sequence[str]:
        return (self.filepath_key or DEFAULT_FILEPATH_KEY,)

    def writes(self) -> Sequence[str]:
        return self.model_columns(self.checked_model())

    def fingerprint(self) -> Mapping[str, Any]:
        return {} if self.model_class is None else {"model_code": describe_code(self.model_class)}

    def setup(self) -> None:
        if self._runner is None:
            model = self.checked_model()
            runner = ModelRunner(
                model,
                self.make_batches(),
                contract=self.row_contract(model),
                resources=self.model_resources(),
                is_oom=self.is_oom,
                prefetch=self.prefetch_batches,
                out_of_range=self._out_of_range,
            )
            runner.setup()
            self._runner = runner

    def teardown(self) -> None:
        if self._runner is not None:
            self._log(self.batching_report())
            runner, self._runner = self._runner, None
            runner.close()

    def _log(self, report: Mapping[str, Any]) -> None:
        figures = report["performance"]
        if figures:
            logger.info(
                "{}: {} records, {:.0f} s, in {} batches by {} ({:g} {}), {:.1%} padding; {:.1f} times real time, "
                "{:.1f} s in the model, {:.1f} s waiting for audio, out of memory {} times",
                self.name,
                figures["total_samples"],
                figures["audio_s"],
                figures["batches"],
                report["strategy"],
                report["budget"],
                report["unit"],
                figures["waste"],
                figures.get("rtfx", math.nan),
                figures["model_s"],
                figures["load_wait_s"],
                report["ooms"],
            )

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        """Yield the records with the columns of their rows in parts, as the model finishes them, in any order."""
        if self._runner is None:
            raise InfrastructureError(f"stage {self.name!r} is not set up: call setup() before process(batch)")
        outcomes = self._runner.run(
            batch.data, filepath_key=self.filepath_key or batch.filepath_key, context=self.context
        )
        with closing(outcomes):
            for outcome in outcomes:
                match outcome:
                    case InferenceFailed(record, error):
                        batch.fail(record, error)
                    case OutOfRange(record, reason):
                        batch.reject(record, reason)
                    case Inferred(records, rows):
                        for record, row in zip(records, rows, strict=True):
                            self.write_row(record, row)
                        yield batch.with_data(records)

    def _out_of_range(self, seconds: float) -> str:
        """Return the reason to filter a record of this length, empty to keep it."""
        if self.min_s is not None and seconds < self.min_s:
            return f"shorter than {self.min_s:g} s"
        if self.max_s is not None and seconds > self.max_s:
            return f"longer than {self.max_s:g} s"
        return ""


def build_model(cls: Any, settings: Mapping[str, Any], what: str) -> Any:
    """Return a model made of its settings.

    Args:
        what: the model, for messages.

    Raises:
        PlanError: it does not take these settings, or it cannot be made; the message has the reason.
    """
    try:
        inspect.signature(cls).bind(**settings)
    except TypeError as error:
        raise PlanError(f"{what} does not take these options: {error}") from None
    try:
        return cls(**settings)
    except CurateError:
        raise
    except ModuleNotFoundError as error:
        raise PlanError(
            f"{what} needs the package {error.name!r}, which is not installed: pip install {error.name}"
        ) from error
    except Exception as error:
        raise PlanError(f"{what} cannot be made ({type(error).__name__}: {error})") from error
