"""Trials of a benchmark: one setting of a stage, run several times over the same records on the chosen executor."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import attrs

from curate.batching import balance
from curate.errors import InfrastructureError, UsageError
from curate.gpu_errors import is_oom
from curate.monitoring.process import ProcessMemory
from curate.pipeline import Pipeline
from curate.records import ID, AudioBatch, Record, audio_ms
from curate.stage import Partitioner, ProcessingStage, Source, called_method

if TYPE_CHECKING:
    from curate.engine import Executor, RunResult
    from curate.plugin import PluginHost

_DOES_NOT_FIT = "does not fit into memory with this setting"


class DoesNotFit(Exception):
    """A setting that needs more memory than there is."""


@attrs.frozen
class Trial:
    """The measurements of one setting. Times and rates are None if the setting did not fit into memory.

    Args:
        setting: run-time options or settings of the stage.
        replicas: the number of workers of the stage.
        records: the number of records that succeed in a pass; a record that fails does so with every setting.
        audio_s: the length of these records, by the column `duration`.
        total_s: the time from the start to the end of the first pass: starting, loading the model, warming up.
        transcription_s: the median time of the later passes.
        spread: the difference between the slowest and the fastest of them, as a share of the median; None after a
            single one.
        rtfx: `audio_s` per second of such a pass.
        records_per_s: records per second of such a pass.
        waste: padding as a share of the audio; None if the stage does not report it.
        peak_bytes: the peak memory of a worker: the GPU's, or else the process's.
        peak_of: the kind of `peak_bytes`, `gpu` or `process`.
        ooms: the number of OOMs, after each of which the stage continued with smaller batches.
        ram_bytes: the peak memory of a worker's process.
        idle: the number of workers without work, because they were ready too late or do not fit on the machine; such a
            trial does not measure `replicas` workers.
    """

    setting: Mapping[str, Any]
    replicas: int
    records: int = 0
    audio_s: float = 0.0
    total_s: float | None = None
    transcription_s: float | None = None
    rtfx: float | None = None
    records_per_s: float | None = None
    waste: float | None = None
    peak_bytes: int | None = None
    peak_of: str | None = None
    ooms: int = 0
    idle: int = 0
    spread: float | None = None
    ram_bytes: int | None = None

    @property
    def fits(self) -> bool:
        return self.transcription_s is not None

    @property
    def name(self) -> str:
        """A short description of the setting, without the values that follow from others."""
        shown = {name: value for name, value in self.setting.items() if name not in ("batching", "initial_batch_size")}
        name = ", ".join(f"{name}={value:g}" for name, value in shown.items()) or "as in the pipeline"
        return name if self.replicas == 1 else f"{name}, {self.replicas} workers"


@attrs.frozen
class Bench:
    """The common ground of all trials of a benchmark: stage, records and executor.

    Args:
        stage: the measured stage, with its settings in the pipeline.
        records: the records of each pass.
        roots: the folders that audio may be read from.
        executor: the executor of all trials.
        repeats: the number of passes after the first, which warms up.
        host: the plugins.
    """

    stage: ProcessingStage
    records: Sequence[Record]
    roots: tuple[str, ...] | None
    executor: Executor
    repeats: int
    host: PluginHost

    def rehearse(self, setting: Mapping[str, Any]) -> None:
        """Process one record, so that caches are as warm for the first measured setting as for the others."""
        probe = self._probe(setting, 1)
        pipeline = Pipeline("rehearsal", [RepeatedRecords(self.records[:1], 1, self.roots), probe])
        with contextlib.suppress(DoesNotFit):
            self._run(pipeline)

    def run(self, setting: Mapping[str, Any], replicas: int) -> Trial:
        """Measure one setting; errors are those of `measure`."""
        return self.measure(setting, replicas)[0]

    def measure(self, setting: Mapping[str, Any], replicas: int) -> tuple[Trial, list[Record]]:
        """Measure one setting, and return the records of all passes as well.

        Raises:
            UsageError: the stage has no such setting, or every record failed.
        """
        probe = self._probe(setting, replicas)
        source = RepeatedRecords(self.records, 1 + self.repeats, self.roots)
        pipeline = Pipeline("bench", [source, OnePartPerWorker(len(self.records), replicas), probe])
        began = time.monotonic()
        try:
            result = self._run(pipeline)
        except DoesNotFit:
            return Trial(setting, replicas), []
        if not result.summary["kept"]:
            raise UsageError("every record failed; run the pipeline and see its quarantine")
        kept = list(result.records())
        figures = result.summary["by_stage"][probe.name]["performance"]
        audio_s = sum(map(audio_ms, kept)) / 1000 / (1 + self.repeats)
        return self._trial(setting, replicas, figures, audio_s, len(kept) // (1 + self.repeats), began), kept

    def _run(self, pipeline: Pipeline) -> RunResult:
        try:
            return pipeline.run(self.executor, host=self.host)
        except InfrastructureError as error:
            if _DOES_NOT_FIT in str(error):  # an error from another process may carry its cause in the message only
                raise DoesNotFit(str(error)) from None
            raise

    def _probe(self, setting: Mapping[str, Any], replicas: int) -> MeasuredStage:
        stage = self.stage
        try:
            changed = stage.with_(**setting)
        except (TypeError, ValueError) as error:
            raise UsageError(f"stage {stage.name!r} cannot be measured with {dict(setting)}: {error}") from None
        return MeasuredStage(changed).with_(
            name=stage.name, resources=changed.resources, workers=replicas, prefetch_batches=changed.prefetch_batches
        )

    def _trial(
        self,
        setting: Mapping[str, Any],
        replicas: int,
        figures: Mapping[str, Any],
        audio_s: float,
        records: int,
        began: float,
    ) -> Trial:
        ends = [figures["passes"][str(number)]["max_ended"] for number in range(1 + self.repeats)]
        passes_s = [end - before for before, end in pairwise(ends)]
        transcription_s = max(1e-6, statistics.median(passes_s))
        spread = round((max(passes_s) - min(passes_s)) / transcription_s, 6) if len(passes_s) > 1 else None
        of_stage: Mapping[str, Any] = figures["stage"]
        gpu, process = of_stage.get("peak_bytes"), figures.get("max_process_bytes")
        return Trial(
            setting=setting,
            replicas=replicas,
            records=records,
            audio_s=round(audio_s, 3),
            total_s=round(ends[0] - began, 6),
            transcription_s=round(transcription_s, 6),
            rtfx=round(audio_s / transcription_s, 6),
            records_per_s=round(records / transcription_s, 6),
            waste=of_stage.get("waste"),
            peak_bytes=gpu if gpu is not None else process,
            peak_of="gpu" if gpu is not None else "process" if process is not None else None,
            ooms=of_stage.get("ooms", 0),
            idle=replicas - len(figures["workers"]),
            spread=spread,
            ram_bytes=process,
        )


@dataclass
class RepeatedRecords(Source):
    """A source that yields the same records several times."""

    records: Sequence[Record] = field(repr=False)
    passes: int
    roots: tuple[str, ...] | None

    name = "records"
    tuning = frozenset({"records"})

    def read(self, after: str | None = None) -> Iterator[Record]:
        for number in range(self.passes):
            for position, record in enumerate(self.records):
                yield {**record, ID: f"{number}:{position}"}

    def audio_roots(self) -> tuple[str, ...] | None:
        return self.roots


@dataclass
class OnePartPerWorker(Partitioner):
    """A partitioner that cuts each pass into one part per worker, of about equal duration, named after the pass."""

    records: int
    parts: int

    def partition(self, records: Iterator[Record]) -> Iterator[AudioBatch]:
        number = 0
        while data := list(islice(records, self.records)):
            for indices in balance((audio_ms(record) for record in data), min(self.parts, len(data))):
                yield AudioBatch([data[index] for index in indices], task_id=str(number))
            number += 1


@dataclass
class MeasuredStage(ProcessingStage):
    """A wrapper of a stage that measures the end of each pass and the peak memory of its process, and reports OOMs.

    Times are of the monotonic clock, which all processes of a machine share.
    """

    stage: ProcessingStage

    tuning = frozenset({"stage"})

    def __post_init__(self) -> None:
        self.cardinality = self.stage.cardinality
        self.retries = self.stage.retries
        self.corrects_duration = self.stage.corrects_duration
        self._worker = ""
        self._ended: dict[str, float] = {}
        self._memory = ProcessMemory()

    def reads(self) -> Any:
        return self.stage.reads()

    def writes(self) -> Any:
        return self.stage.writes()

    def check(self) -> None:
        self.stage.check()

    def setup(self) -> None:
        object.__setattr__(self.stage, "context", self.context)
        message = ""
        try:
            self.stage.setup()
        except Exception as error:
            if not is_oom(error):
                raise
            message = str(error)
        if message:
            raise InfrastructureError(f"the stage {_DOES_NOT_FIT}: {message}")
        self._worker = f"{os.getpid()}-{id(self)}"
        self._memory.reset()

    def teardown(self) -> None:
        self.stage.teardown()

    def stream(self, batch: AudioBatch) -> Iterator[AudioBatch]:
        message: str | None = None
        try:
            for done in self._outputs(batch):
                self._ended[batch.task_id] = time.monotonic()
                yield done
        except Exception as error:
            if not is_oom(error):
                raise
            message = str(error)  # the error itself would hold the memory
        if message is not None:
            raise InfrastructureError(f"the stage {_DOES_NOT_FIT}: {message}")

    def _outputs(self, batch: AudioBatch) -> Iterable[AudioBatch]:
        if called_method(self.stage) == "stream":
            return self.stage.stream(batch)
        done = self.stage.process(batch)
        return done if isinstance(done, list) else [done]

    def take_measures(self) -> Mapping[str, Any]:
        taken: dict[str, Any] = {
            "workers": {self._worker: 1},
            "passes": {number: {"max_ended": end} for number, end in self._ended.items()},
        }
        stage = self.stage.take_measures()
        if stage:
            taken["stage"] = stage
        peak = self._memory.peak_bytes()
        if peak is not None:
            taken["max_process_bytes"] = peak
        return taken

    def describe_measures(self, measures: Mapping[str, Any]) -> Mapping[str, Any]:
        stage = measures.get("stage", {})
        return {**measures, "stage": self.stage.describe_measures(stage) if stage else {}}
