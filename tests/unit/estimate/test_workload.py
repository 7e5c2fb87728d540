"""The work of a whole job from the figures of parts of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from curate import Pipeline, RecordStage
from curate.estimate.figures import PhaseFigures, RunFigures, StageFigures
from curate.estimate.input_size import InputSize
from curate.estimate.schedule import Capacity
from curate.estimate.workload import Workload, extrapolate
from curate.records import Record
from curate.stages import ReadRecords, Shuffle

LOCAL = Capacity(is_serial=True, cpus=1.0, gpus=0.0)
JOB = InputSize(records=1000, amount=10_000.0, unit="seconds", basis="", longest=20.0)


class Listen(RecordStage):
    name = "listen"

    def process_record(self, record: Record) -> Record:
        return record


class Judge(Listen):
    name = "judge"
    max_windows = 7


PIPELINE = Pipeline("p", [ReadRecords([{"duration": 1.0}]), Judge(), Listen(), Shuffle(), Judge().with_(name="later")])


def part(
    records: int, size: float, busy: Sequence[float], *, kept: int | None = None, done: int | None = None, **times: Any
) -> RunFigures:
    """Return the figures of a run of two phases, of which the first keeps `kept` and the second has finished `done`."""
    kept = records if kept is None else kept
    done = kept if done is None else done
    names = ("judge", "listen", "later")
    reached = (records, records, done)
    stages = {name: StageFigures(s, n) for name, s, n in zip(names, busy, reached, strict=True)}
    first_s, loading_s = times.get("first_s", sum(busy[:2])), times.get("loading_s", 0.0)
    first = PhaseFigures(records, kept, size, first_s, loading_s, (1,), 0.0)
    second = PhaseFigures(done, done, size, times.get("second_s", busy[2]), 0.0, (1,), 0.0)
    return RunFigures(stages, (first, second), [["records", "judge", "listen"], ["shuffle", "later"]], size)


def work_of(*parts: RunFigures) -> tuple[Workload, dict[str, float | None]]:
    found = extrapolate(PIPELINE.plan(), JOB, parts, LOCAL)
    return found, {name: stage.work_s for phase in found.phases for name, stage in phase.stages.items()}


def test_work_grows_with_audio_or_by_windows_with_records() -> None:
    _, work = work_of(part(50, 1000.0, (1.0, 8.0, 0.5)))
    assert work == {"judge": 20.0, "listen": 80.0, "later": 5.0}, "20 times the records, 10 times the audio"


def test_parts_of_a_sample_add_up() -> None:
    _, work = work_of(part(50, 1000.0, (1.0, 8.0, 0.5)), part(150, 1000.0, (3.0, 4.0, 0.5)))
    assert work == {"judge": 20.0, "listen": 60.0, "later": 5.0}


def test_constant_is_told_apart_where_parts_differ_in_size() -> None:
    found, work = work_of(
        part(10, 100.0, (0.0, 2.1, 0.0), first_s=2.4, loading_s=0.3),
        part(50, 500.0, (0.0, 2.5, 0.0), first_s=2.8, loading_s=0.3),
        part(100, 1000.0, (0.0, 3.0, 0.0), first_s=3.3, loading_s=0.3),
    )
    assert work["listen"] == pytest.approx(2.0 + 0.001 * 10_000)
    assert found.phases[0].loading_s == pytest.approx(0.3)
    assert found.phases[0].driver_s == pytest.approx(0.0)


def test_gather_grows_with_the_input_where_the_parts_show_it() -> None:
    sizes = (100, 400, 1000)
    found, _ = work_of(*(part(size // 10, size, (0, 0, 0.0), second_s=1 + size / 1000) for size in sizes))
    assert found.phases[1].driver_s == pytest.approx(1.0 + 10.0)


def test_gather_of_a_small_sample_is_a_constant() -> None:
    found, _ = work_of(part(10, 100.0, (0, 0, 0.0), second_s=0.5), part(12, 110.0, (0, 0, 0.0), second_s=0.7))
    assert found.phases[1].driver_s == pytest.approx(0.6)


def test_phase_that_is_half_done_counts_twice() -> None:
    _, work = work_of(part(50, 1000.0, (1.0, 8.0, 0.5), kept=40, done=20))
    assert work["listen"] == 80.0
    assert work["later"] == 10.0


def test_records_that_a_filter_leaves_out_are_in_the_sample() -> None:
    found, _ = work_of(part(50, 1000.0, (1.0, 8.0, 0.5), kept=20))
    assert found.phases[1].stages["later"].records == pytest.approx(200)
    assert found.phases[0].stages["judge"].records == pytest.approx(1000)


def test_error_is_that_of_the_differences_between_the_parts() -> None:
    alike, _ = work_of(part(50, 100.0, (0, 5.0, 0)), part(50, 100.0, (0, 5.0, 0)))
    unlike, _ = work_of(part(50, 100.0, (0, 4.0, 0)), part(50, 100.0, (0, 6.0, 0)))
    assert alike.error == 0
    assert unlike.error == pytest.approx(0.2, rel=0.02), "half the difference of two halves"
    assert work_of(part(50, 100.0, (0, 5.0, 0)))[0].error is None


def test_sample_of_the_whole_input_has_no_error() -> None:
    found, _ = work_of(part(500, 5000.0, (0, 4.0, 0)), part(500, 5000.0, (0, 6.0, 0)))
    assert found.error == 0


def test_stage_without_figures_is_not_known() -> None:
    _, work = work_of()
    assert work == {"judge": None, "listen": None, "later": None}
