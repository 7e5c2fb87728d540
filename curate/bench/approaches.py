"""Approaches to transcription, compared on the user's own records: one clip at a time, batches, processes, packed."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from curate.bench.batch_size import input_of
from curate.bench.history import basis_of, remember
from curate.bench.packing import pack_records
from curate.bench.trial import Bench, Trial
from curate.errors import UsageError
from curate.machine import Machine
from curate.models import AudioModelStage
from curate.pipeline import Pipeline
from curate.records import DEFAULT_FILEPATH_KEY, ID, Record, audio_ms
from curate.text import corpus_rate, normaliser, word_errors

if TYPE_CHECKING:
    from curate.plugin import PluginHost

APPROACHES = ("sequential", "batched", "processes", "packed")

FASTER = 1.1
"""How much faster than one clip at a time an approach has to be, to be recommended instead of it."""

WORSE_WER = 0.02
"""How much higher the word error rate of a recommended approach may be than that of one clip at a time."""

_BETWEEN_DIGITS = re.compile(r"(?<=\d)(?=\d)")
_SEQUENTIAL: Mapping[str, Any] = {"batching": "static", "batch_size": 1}


@attrs.frozen
class ApproachTrial:
    """The measurements of one approach.

    Args:
        approach: one of `APPROACHES`.
        trial: times, padding and memory.
        audio_s: the length of the records, without what packing adds: the basis of `rtfx` for every approach.
        ram_bytes: the peak memory of all workers' processes together.
        vram_bytes: the peak memory of the GPU in all workers together, as torch measures it.
        wer: word error rate of all records together; None without references.
        equal_texts: the share of texts that are those of one clip at a time; of windows, if it is packed.
        windows: how many clips the model was given.
        across_recordings: whether some of them join clips of several recordings, as no stage of a pipeline does.
    """

    approach: str
    trial: Trial
    audio_s: float
    ram_bytes: int | None = None
    vram_bytes: int | None = None
    wer: float | None = None
    equal_texts: float | None = None
    windows: int = 0
    across_recordings: bool = False

    @property
    def name(self) -> str:
        """The approach, and how many workers it has."""
        return self.approach if self.trial.replicas == 1 else f"{self.approach} ({self.trial.replicas})"

    @property
    def fits(self) -> bool:
        return self.trial.fits

    @property
    def rtfx(self) -> float | None:
        """Seconds of the records' audio per second of a pass."""
        seconds = self.trial.transcription_s
        return None if seconds is None else self.audio_s / seconds

    @property
    def records_per_s(self) -> float | None:
        return self.trial.records_per_s

    @property
    def waste(self) -> float | None:
        return self.trial.waste


@attrs.frozen
class ApproachReport:
    """The result of `bench_approaches`; its arguments are those of `BatchSizeReport`, with trials of approaches."""

    pipeline: str
    stage: str
    executor: str
    records: int
    audio_s: float
    basis: str
    when: str
    trials: tuple[ApproachTrial, ...]
    before: ApproachReport | None = None

    @property
    def sequential(self) -> ApproachTrial:
        """One clip at a time, which the others are compared with."""
        return self.trials[0]

    @property
    def best(self) -> ApproachTrial:
        """The fastest approach without a higher word error rate; one clip at a time if none is clearly faster.

        What no pipeline does is not recommended, however fast it is; see `out_of_reach`.

        Raises:
            UsageError: not even one clip at a time fits into memory.
        """
        within_reach = [one for one in self._faster() if not one.across_recordings]
        return max(within_reach, key=lambda one: one.rtfx or 0.0, default=self.sequential)

    @property
    def out_of_reach(self) -> ApproachTrial | None:
        """The packed windows, if they are faster than the best approach and join clips of several recordings."""
        fastest = max(self._faster(), key=lambda one: one.rtfx or 0.0, default=None)
        return fastest if fastest is not None and fastest.across_recordings else None

    def _faster(self) -> list[ApproachTrial]:
        """Return the approaches that are faster than one clip at a time beyond the noise, without more errors."""
        baseline = self.sequential
        if baseline.rtfx is None:
            raise UsageError("one record at a time does not fit into memory; a smaller model is needed")
        needed = (FASTER + (baseline.trial.spread or 0.0)) * baseline.rtfx
        return [
            one
            for one in self.trials[1:]
            if (one.rtfx or 0.0) > needed and not one.trial.idle and not _is_worse(one, baseline)
        ]

    @property
    def yaml(self) -> str:
        """The lines of the pipeline file that choose the best approach."""
        best = self.best
        lines = [f"    {name}: {value}" for name, value in best.trial.setting.items()]
        if best.trial.replicas > 1:
            lines.append(f"    workers: {best.trial.replicas}")
        if best.approach == "packed":
            pack = ["  # on the recordings, behind voice_activity:", "  - use: split_speech", "    mode: pack"]
            lines = [*pack, f"  # then, at the stage {self.stage}:", *lines]
        return "\n".join(lines)

    def change_of(self, trial: ApproachTrial) -> float | None:
        """Return the change of speed against one clip at a time: 0.5 is half as fast again, -0.1 a tenth slower."""
        ours, baseline = trial.rtfx, self.sequential.rtfx
        return None if ours is None or not baseline else ours / baseline - 1

    def before_of(self, trial: ApproachTrial) -> ApproachTrial | None:
        """Return the trial of the same approach in the previous report, None if there is none."""
        earlier = self.before.trials if self.before is not None else ()
        return next((one for one in earlier if one.name == trial.name), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready data, without the previous report."""
        return attrs.asdict(self, filter=lambda field, _: field.name != "before")

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> ApproachReport:
        """Return the report from the data of `to_dict`."""
        fields = {name: value for name, value in described.items() if name != "trials"}
        trials = [
            ApproachTrial(
                **{name: value for name, value in one.items() if name != "trial"}, trial=Trial(**one["trial"])
            )
            for one in described["trials"]
        ]
        return cls(**fields, trials=tuple(trials))


def bench_approaches(
    pipeline: Pipeline,
    *,
    approaches: Sequence[str] = APPROACHES,
    batch_size: int = 8,
    workers: int = 2,
    recogniser: str | None = None,
    options: Mapping[str, Any] | None = None,
    stage: str | None = None,
    limit: int = 200,
    repeats: int = 3,
    history: Path | None = None,
    host: PluginHost | None = None,
    on_trial: Callable[[ApproachTrial], None] | None = None,
) -> ApproachReport:
    """Transcribe the pipeline's own records by each approach, and compare.

    `sequential` is one clip at a time in one worker, and always included: it is what the others are compared with.
    `batched` is `batch_size` clips of similar length at a time. `processes` is `sequential` in several processes, each
    with a model of its own. `packed` is `sequential` on windows of up to 30 s, into which neighbouring clips of one
    speaker and language are joined with half a second of silence between them. In a pipeline, only clips of one
    recording can be packed, so packed windows of several recordings are measured and not recommended.

    Args:
        pipeline: the pipeline; the stages before the ASR stage run once, to make its input.
        approaches: those to try.
        batch_size: the clips of a batch.
        workers: the processes of `processes`.
        recogniser: transcribe with this recogniser instead of the pipeline's.
        options: its settings.
        stage: the ASR stage's name; None: the first.
        limit: the maximum number of input records.
        repeats: the number of measured passes, after one to warm up.
        history: a file of JSON lines to which the report is appended, and from which the previous report is read.
        host: the plugins; None: those that are installed.
        on_trial: called with each trial when it is finished.

    Raises:
        UsageError: there is no ASR stage, an approach is unknown, or nothing can be measured.
    """
    from curate.plugin import current_host, use_host

    if unknown := set(approaches) - set(APPROACHES):
        raise UsageError(f"unknown approach {min(unknown)!r}: choose from {', '.join(APPROACHES)}")
    host = current_host() if host is None else host
    local = host.executor("local").load()()
    plan = pipeline.plan(local, host=host)
    stages = [one.stage for one in plan.stages if isinstance(one.stage, AudioModelStage)]
    chosen = next((one for one in stages if stage in (None, one.name) and hasattr(one, "pred_text_key")), None)
    if chosen is None:
        raise UsageError("this pipeline has no ASR stage" + (f" {stage!r}" if stage else ""))
    with use_host(host):
        records = input_of(plan, chosen, limit, host)
    asr = chosen
    if recogniser is not None:
        made: Any = host.stage("asr").load()(recogniser, options=dict(options or {}))
        asr = made.with_(name=chosen.name, resources=chosen.resources).resolve(host)
    trials: list[ApproachTrial] = []
    bench = Bench(asr, records, plan.audio_roots, local, repeats, host)
    bench.rehearse(_SEQUENTIAL)
    comparison = _Comparison(bench, batch_size, workers)
    for approach in ("sequential", *(one for one in APPROACHES[1:] if one in approaches)):
        trials.append(comparison.run(approach))
        if on_trial is not None:
            on_trial(trials[-1])
        if not trials[0].fits:  # nothing fits that is larger
            break
    report = ApproachReport(
        pipeline=plan.name,
        stage=asr.name,
        executor="local",
        records=len(records),
        audio_s=round(sum(map(audio_ms, records)) / 1000, 3),
        basis="approaches-" + basis_of(asr, records, f"{batch_size} {workers}", Machine.here()),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        trials=tuple(trials),
    )
    return remember(report, history, ApproachReport.from_dict)


class _Comparison:
    """Runs one approach after the other, and compares their texts with those of the first."""

    def __init__(self, bench: Bench, batch_size: int, workers: int) -> None:
        self._bench = bench
        self._batch_size = batch_size
        self._workers = workers
        self._normaliser = normaliser("auto" if _has_languages(bench.records) else "whisper-english")
        self._texts: list[str | None] = []

    def _normalise(self, text: str) -> str:
        # The normaliser joins numbers that follow each other, such as "in 1813" and "eight" at the border of two clips.
        return _BETWEEN_DIGITS.sub(" ", self._normaliser(text))

    def run(self, approach: str) -> ApproachTrial:
        if approach == "packed":
            with tempfile.TemporaryDirectory(prefix="curate-bench-") as folder:
                windows, members = pack_records(self._bench.records, Path(folder), self._bench.roots)
                bench = attrs.evolve(self._bench, records=windows, roots=None)
                return self._measured(approach, bench, _SEQUENTIAL, 1, members)
        each = [[place] for place in range(len(self._bench.records))]
        if approach == "processes":
            executor = self._bench.host.executor("multiprocessing").load()()
            return self._measured(
                approach, attrs.evolve(self._bench, executor=executor), _SEQUENTIAL, self._workers, each
            )
        return self._measured(approach, self._bench, self._setting(approach), 1, each)

    def _setting(self, approach: str) -> Mapping[str, Any]:
        if approach == "sequential":
            return _SEQUENTIAL
        stage: Any = self._bench.stage
        longest_s = max(map(audio_ms, self._bench.records)) / 1000
        window_s = stage.make_model().window_s or longest_s or 30.0
        return {"batching": "length", "batch_size": self._batch_size, "max_batch_s": round(self._batch_size * window_s)}

    def _measured(
        self, approach: str, bench: Bench, setting: Mapping[str, Any], replicas: int, members: Sequence[Sequence[int]]
    ) -> ApproachTrial:
        trial, kept = bench.measure(setting, replicas)
        audio_s = round(sum(map(audio_ms, self._bench.records)) / 1000, 3)
        if not trial.fits:
            return ApproachTrial(approach, trial, audio_s, windows=len(members))
        stage: Any = self._bench.stage
        key = f"{stage.prefix}{stage.pred_text_key}"
        texts: list[str | None] = [None] * len(members)
        for record in kept:
            number, _, place = str(record[ID]).partition(":")
            if number == "0":
                texts[int(place.partition("/")[0])] = self._normalise(str(record[key]))
        if approach == "sequential":
            self._texts = texts
        memory = trial.peak_bytes
        return ApproachTrial(
            approach,
            trial,
            audio_s,
            ram_bytes=None if trial.ram_bytes is None else trial.ram_bytes * replicas,
            vram_bytes=memory * replicas if memory is not None and trial.peak_of == "gpu" else None,
            wer=self._wer(texts, members),
            equal_texts=self._equal(texts, members),
            windows=len(members),
            across_recordings=any(len({self._recording(place) for place in group}) > 1 for group in members),
        )

    def _recording(self, place: int) -> Any:
        stage: Any = self._bench.stage
        return self._bench.records[place].get(stage.filepath_key or DEFAULT_FILEPATH_KEY)

    def _wer(self, texts: Sequence[str | None], members: Sequence[Sequence[int]]) -> float | None:
        records = self._bench.records
        pairs = [
            (self._normalise(" ".join(str(records[place]["text"]) for place in group)), text)
            for group, text in zip(members, texts, strict=True)
            if text is not None and all(records[place].get("text") for place in group)
        ]
        return corpus_rate(word_errors(reference, text) for reference, text in pairs) if pairs else None

    def _equal(self, texts: Sequence[str | None], members: Sequence[Sequence[int]]) -> float:
        alone = [" ".join(filter(None, (self._texts[place] for place in group))) for group in members]
        return sum(one == other for one, other in zip(alone, texts, strict=True)) / len(texts)


def _has_languages(records: Sequence[Record]) -> bool:
    return any(not str(record.get("lang") or "en").startswith("en") for record in records)


def _is_worse(trial: ApproachTrial, baseline: ApproachTrial) -> bool:
    return trial.wer is not None and baseline.wer is not None and trial.wer > baseline.wer + WORSE_WER
