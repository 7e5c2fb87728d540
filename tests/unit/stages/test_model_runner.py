"""The way of a window through the model: every record exactly once, whatever goes wrong, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from curate import Pipeline
from curate.asr import Transcript
from curate.audio import load_ahead
from curate.errors import InfrastructureError, RecordError
from curate.models import ModelCapabilities, loading
from curate.monitoring import statistics_of
from curate.records import AudioBatch, Record
from curate.stage import WorkerContext
from curate.stages import ReadRecords
from tests.properties import costly
from tests.unit.stages.stub_recogniser import StubAsrStage, StubRecogniser

Clip = Callable[[int], str]

LENGTHS_MS = [100, 200, 300, 500, 700, 900, 1300, 1900, 2600]


class OutOfMemoryError(RuntimeError):
    """As torch's, by name."""


def crowded(most_ms: int) -> Callable[[list[int]], None]:
    """Return what runs out of memory above so many padded milliseconds."""

    def choke(heard_ms: list[int]) -> None:
        if len(heard_ms) * max(heard_ms) > most_ms:
            raise OutOfMemoryError(f"{len(heard_ms)} × {max(heard_ms)} ms")

    return choke


@contextmanager
def ready(stage: StubAsrStage) -> Iterator[Any]:
    stage.setup()
    try:
        yield stage
    finally:
        stage.teardown()


OTHERS: list[threading.Thread] = []
"""Threads that were there when the test began: models of other tests, which they have not closed."""


@pytest.fixture(autouse=True)
def _threads_of_others() -> None:
    OTHERS[:] = threading.enumerate()


def own_threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each not in OTHERS and each.name.startswith("curate-")]


records_of = st.lists(
    st.tuples(
        st.sampled_from([*LENGTHS_MS, None]),  # None: a file that is not there
        st.sampled_from(["true", "wrong", "missing", "nan", "text"]),
        st.floats(0.05, 8),
    ),
    max_size=30,
)


def made(clip: Clip, drawn: list[tuple[int | None, str, float]]) -> list[Record]:
    records: list[Record] = []
    for number, (ms, column, wrong_s) in enumerate(drawn):
        record: Record = {"n": number, "audio_filepath": "/nowhere.wav" if ms is None else clip(ms)}
        known = {"true": (ms or 400) / 1000, "wrong": wrong_s, "nan": float("nan"), "text": "long"}
        # a duration that is shorter than the file is a segment, one that is longer is a fault of the record's
        if column != "missing":
            record["heard_s"] = known[column]
        records.append(record)
    return records


@pytest.fixture
def lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loader read whole files, whatever the column `duration` says: it is as wrong as manifests are."""

    def load(records: Any, **options: Any) -> Any:
        def plain() -> Iterator[Record]:
            for record in records:
                kept.append(record)
                yield {name: value for name, value in record.items() if name != "duration"}

        kept: list[Record] = []
        for number, (_, samples) in enumerate(load_ahead(plain(), **options)):
            yield kept[number], samples

    monkeypatch.setattr(loading, "load_ahead", load)


@pytest.mark.usefixtures("lies")
class TestExactlyOnce:
    @given(
        drawn=records_of,
        most_ms=st.integers(50, 6000),
        strategy=st.sampled_from(["length", "duration", "bucket", "static"]),
        prefetch=st.integers(0, 3),
        budget_s=st.floats(0.2, 6),
    )
    @costly(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_every_record_has_one_end_and_the_right_one(
        self,
        clip: Clip,
        drawn: list[tuple[int | None, str, float]],
        most_ms: int,
        strategy: str,
        prefetch: int,
        budget_s: float,
    ) -> None:
        records = made(clip, drawn)
        for record in records:
            if "heard_s" in record:
                record["duration"] = record.pop("heard_s")
        options: dict[str, Any] = {"max_s": 10.0} if strategy == "bucket" else {}
        max_batch_s = 10.0 * max(1, round(budget_s)) if strategy == "bucket" else budget_s
        choke = None if strategy == "static" else crowded(most_ms)
        recogniser = StubRecogniser(choke)
        stage = StubAsrStage(make=lambda: recogniser, batching=strategy, max_batch_s=max_batch_s, **options)
        with ready(stage.with_(batch_size=4, prefetch_batches=prefetch)) as stage:
            done = stage.process(AudioBatch([dict(record) for record in records]))
        true_ms = [ms for ms, *_ in drawn]
        fits = [ms is not None and (choke is None or ms <= most_ms) for ms in true_ms]
        assert [(record["n"], record["pred_text"]) for record in done.data] == [
            (number, str(ms)) for number, ms in enumerate(true_ms) if fits[number]
        ]
        assert sorted((failed.record["n"], failed.error.code) for failed in done.failed) == [
            (number, "missing_file" if ms is None else "oom") for number, ms in enumerate(true_ms) if not fits[number]
        ]
        assert done.rejected == []
        assert own_threads() == []
        # what was tried is within the budget by true lengths, whatever the manifest says
        if strategy in ("length", "bucket"):
            assert all(
                len(heard) == 1 or len(heard) * max(heard) <= 1000 * max_batch_s + 1e-6 for heard in recogniser.batches
            )
        if strategy == "static":
            assert all(len(heard) <= 4 for heard in recogniser.batches)

    @given(
        drawn=records_of,
        seed=st.integers(0, 2**32),  # Hypothesis refuses draws whose number depends on when a thread is ended
        closed_after=st.none() | st.integers(0, 6),
        wrong_at=st.none() | st.integers(1, 8),
        prefetch=st.integers(0, 2),
    )
    @costly(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_trouble_at_random_and_an_early_end_neither_lose_nor_repeat_a_record(
        self,
        clip: Clip,
        drawn: list[tuple[int | None, str, float]],
        seed: int,
        closed_after: int | None,
        wrong_at: int | None,
        prefetch: int,
    ) -> None:
        chance = Random(seed)

        def trouble(heard_ms: list[int]) -> list[Transcript] | None:
            if chance.random() < 0.4:
                raise OutOfMemoryError("by lot")
            if wrong_at is not None and len(recogniser.batches) >= wrong_at:
                return [Transcript("one too many")] * (len(heard_ms) + 1)
            return None

        records = made(clip, drawn)
        recogniser = StubRecogniser(trouble)
        stage = StubAsrStage(make=lambda: recogniser, batching="length", max_batch_s=2.0)
        batch = AudioBatch([dict(record) for record in records])
        done: list[Record] = []
        wrong = False
        with ready(stage.with_(prefetch_batches=prefetch)) as stage:
            with closing(stage.stream(batch)) as parts:
                try:
                    for part in parts if closed_after is None else islice(parts, closed_after):
                        done += part.data
                except InfrastructureError:
                    wrong = True
            measured = stage.take_measures()
            heard_later = len(recogniser.batches)
        ends = [record["n"] for record in done] + [failed.record["n"] for failed in batch.failed]
        assert len(ends) == len(set(ends)), "nothing twice"
        if closed_after is None and not wrong:
            assert sorted(ends) == list(range(len(records))), "nothing lost"
        assert all(record["pred_text"] == str(drawn[record["n"]][0]) for record in done)
        assert {failed.error.code for failed in batch.failed} <= {"missing_file", "oom"}
        assert len(recogniser.batches) == heard_later, "nothing goes on after the end"
        assert own_threads() == []
        if closed_after is None and not wrong:  # of what is closed on, more may have been handed over than was taken
            figures = statistics_of(measured)
            assert figures.get("total_samples", 0) == len(done)

    def test_a_manifest_that_claims_too_little_does_not_make_batches_too_large(self, clip: Clip) -> None:
        recogniser = StubRecogniser()
        records = [{"audio_filepath": clip(900), "duration": 0.01} for _ in range(30)]
        with ready(StubAsrStage(make=lambda: recogniser, batching="length", max_batch_s=3.0)) as stage:
            assert len(stage.process(AudioBatch(records)).data) == 30
        assert {len(heard) for heard in recogniser.batches} == {3}

    def test_a_manifest_that_claims_too_much_costs_batches_and_no_record(self, clip: Clip) -> None:
        records = [{"audio_filepath": clip(100), "duration": seconds} for seconds in (1e9, 1e300, 50.0, 0.1)]
        with ready(StubAsrStage(batching="length", max_batch_s=3.0)) as stage:
            assert [record["pred_text"] for record in stage.process(AudioBatch(records)).data] == ["100"] * 4


class TestRunningOutOfMemory:
    def test_finished_parts_are_kept_and_only_what_failed_is_split(self, clip: Clip) -> None:
        recogniser = StubRecogniser(crowded(1000))
        stage = StubAsrStage(make=lambda: recogniser, batching="length", max_batch_s=1.6)
        records = [{"audio_filepath": clip(200), "duration": 0.2} for _ in range(16)]
        with ready(stage) as stage:
            assert len(stage.process(AudioBatch(records)).data) == 16
            report = stage.batching_report()
        sizes = [len(heard) for heard in recogniser.batches]
        assert sizes[:3] == [8, 4, 4]
        assert report["ooms"] == sum(size > 5 for size in sizes)
        assert report["history"][0]["reason"] == "oom"
        assert (report["performance"]["total_samples"], report["performance"]["ooms"]) == (16, report["ooms"])
        assert report["performance"]["history"] == report["history"]
        assert (report["strategy"], report["unit"]) == ("length", "padded seconds")

    def test_what_was_planned_before_is_held_against_the_smaller_budget(self, clip: Clip) -> None:
        recogniser = StubRecogniser(crowded(1000))
        stage = StubAsrStage(make=lambda: recogniser, batching="length", max_batch_s=1.6)
        records = [{"audio_filepath": clip(200), "duration": 0.2} for _ in range(200)]
        with ready(stage) as stage:
            assert len(stage.process(AudioBatch(records)).data) == 200
            ooms = stage.batching_report()["ooms"]
        assert ooms <= 8  # of 25 planned batches, all of them too large
        assert len(recogniser.batches[-1]) <= 5

    def test_one_record_that_never_fits_costs_itself_in_a_run(self, clip: Clip) -> None:
        stage = StubAsrStage(make=lambda: StubRecogniser(crowded(2000)), batching="length", max_batch_s=4.0)
        records = [{"audio_filepath": clip(ms), "duration": ms / 1000} for ms in (300, 2600, 300, 500)]
        result = Pipeline("asr", [ReadRecords(records), stage]).run()
        assert [record["pred_text"] for record in result.records()] == ["300", "300", "500"]
        [note] = result.quarantined
        assert (note.code, note.stage, note.record["duration"]) == ("oom", "asr", 2.6)

    def test_memory_is_freed_when_nothing_holds_on_to_the_error(self, clip: Clip) -> None:
        log: list[str] = []

        class Frees(StubRecogniser):
            def capabilities(self) -> ModelCapabilities:
                return ModelCapabilities(meter=self)

            def memory(self) -> None:
                return None

            def start_batch(self) -> None: ...

            def peak(self) -> None:
                return None

            def free_memory(self) -> None:
                import sys

                assert sys.exc_info() == (None, None, None)
                log.append("freed")

        stage = StubAsrStage(make=lambda: Frees(crowded(500)), batching="length", max_batch_s=1.0)
        with ready(stage) as stage:
            done = stage.process(AudioBatch([{"audio_filepath": clip(200), "duration": 0.2} for _ in range(5)]))
        assert len(done.data) == 5
        assert log


class TestSpellingLater:
    class Spells(StubRecogniser):
        """A stub that spells in a second step."""

        def infer(self, clips: Any) -> Callable[[], Any]:
            transcripts = self.recognise([clip.samples for clip in clips])
            model = threading.current_thread().name

            def spell() -> Any:
                assert threading.current_thread().name != model
                return self.rows(self.spelt(transcripts))

            return spell

        def spelt(self, transcripts: Any) -> Any:
            return transcripts

    def test_is_not_done_by_the_models_thread_and_changes_no_text(self, clip: Clip) -> None:
        records = [{"audio_filepath": clip(ms), "duration": ms / 1000} for ms in LENGTHS_MS]
        stage = StubAsrStage(make=lambda: self.Spells(crowded(3000)), batching="length", max_batch_s=4.0)
        with ready(stage) as stage:
            assert [record["pred_text"] for record in stage.process(AudioBatch(records)).data] == list(
                map(str, LENGTHS_MS)
            )

    def test_goes_on_while_the_model_has_the_next_batch(self, clip: Clip) -> None:
        next_begun = threading.Event()

        class Waits(self.Spells):
            def recognise(self, waveforms: Any) -> Any:
                if self.batches:
                    next_begun.set()
                return super().recognise(waveforms)

            def spelt(self, transcripts: Any) -> Any:
                assert next_begun.wait(30)
                return transcripts

        records = [{"audio_filepath": clip(100)} for _ in range(8)]
        with ready(StubAsrStage(make=Waits).with_(batch_size=4)) as stage:
            assert len(stage.process(AudioBatch(records)).data) == 8

    def test_a_record_that_cannot_be_spelt_costs_itself(self, clip: Clip) -> None:
        class Chokes(self.Spells):
            def spelt(self, transcripts: Any) -> Any:
                if any(transcript.text == "300" for transcript in transcripts):
                    raise ValueError("cannot spell that")
                return transcripts

        rows = [{"audio_filepath": clip(ms), "duration": ms / 1000} for ms in (100, 300, 200, 500)]
        result = Pipeline("asr", [ReadRecords(rows), StubAsrStage(make=Chokes, batching="length")]).run()
        assert [record["pred_text"] for record in result.records()] == ["100", "200", "500"]
        [note] = result.quarantined
        assert (note.code, note.record["duration"]) == ("stage_error", 0.3)


class TestWhatIsNoRecordsFault:
    @pytest.mark.parametrize("count", [0, 1, 3, 7])
    @pytest.mark.parametrize("strategy", ["static", "length"])
    def test_too_few_or_too_many_transcripts_stop_everything(self, clip: Clip, strategy: str, count: int) -> None:
        stage = StubAsrStage(make=lambda: StubRecogniser(lambda _: ["a"] * count), batching=strategy)
        with ready(stage) as stage, pytest.raises(InfrastructureError, match=f"{count} rows for 2 clips"):
            stage.process(AudioBatch([{"audio_filepath": clip(100)} for _ in range(2)]))
        assert own_threads() == []

    def test_a_model_that_cannot_be_loaded_leaves_no_thread(self) -> None:
        class Broken(StubRecogniser):
            def setup(self) -> None:
                raise OSError("no such model")

        stage = StubAsrStage(make=Broken)
        with pytest.raises(OSError, match="no such model"):
            stage.setup()
        assert own_threads() == []


class TestAnError:
    @given(
        guilty=st.sets(st.integers(0, 11), max_size=4),
        strategy=st.sampled_from(["static", "length"]),
        prefetch=st.integers(0, 2),
    )
    @costly()
    def test_of_the_model_is_the_guilty_records_alone(
        self, clip: Clip, guilty: set[int], strategy: str, prefetch: int
    ) -> None:
        lengths = [100 + 20 * number for number in range(12)]
        bad_ms = {lengths[number] for number in guilty}

        def choke(heard_ms: list[int]) -> None:
            if bad_ms & set(heard_ms):
                raise ValueError("it chokes on this one")

        stage = StubAsrStage(make=lambda: StubRecogniser(choke), batching=strategy, max_batch_s=1.0)
        rows = [{"audio_filepath": clip(ms), "duration": ms / 1000} for ms in lengths]
        stage = stage.with_(batch_size=4, prefetch_batches=prefetch)
        result = Pipeline("asr", [ReadRecords(rows), stage]).run()
        assert [record["pred_text"] for record in result.records()] == [
            str(ms) for number, ms in enumerate(lengths) if number not in guilty
        ]
        assert sorted(note.record["_id"] for note in result.quarantined) == sorted(
            f"records:{number + 1}" for number in guilty
        )

    def test_of_the_model_is_blamed_on_the_batch_that_raised(self, clip: Clip) -> None:
        announced: list[list[int]] = []

        def choke(heard_ms: list[int]) -> None:
            if 500 in heard_ms:
                raise ValueError("it chokes on this one")

        records = [{"audio_filepath": clip(ms), "n": ms} for ms in (100, 200, 300, 500, 700, 900)]
        stage = StubAsrStage(make=lambda: StubRecogniser(choke)).with_(batch_size=2)
        with ready(stage) as stage:
            stage.context = WorkerContext(announce=lambda them: announced.append([record["n"] for record in them]))
            with pytest.raises(ValueError, match="chokes"):
                list(stage.stream(AudioBatch(records)))
        assert announced[-1] == [300, 500]

    def test_suspects_are_told_before_their_audio_is_opened(self, clip: Clip, monkeypatch: Any) -> None:
        announced: set[int] = set()
        opened: list[int] = []

        def load(records: Any, **options: Any) -> Any:
            def noted() -> Iterator[Record]:
                for record in records:
                    assert record["n"] in announced
                    opened.append(record["n"])
                    yield record

            return load_ahead(noted(), **options)

        monkeypatch.setattr(loading, "load_ahead", load)
        records = [{"audio_filepath": clip(100), "n": number, "duration": 0.1} for number in range(40)]
        sizes: list[int] = []

        def on_announce(them: Any) -> None:
            announced.update(record["n"] for record in them)
            sizes.append(len(them))

        with ready(StubAsrStage(batching="length", max_batch_s=0.5).with_(prefetch_batches=0)) as stage:
            stage.context = WorkerContext(announce=on_announce)
            assert sum(len(part) for part in stage.stream(AudioBatch(records))) == 40
        assert sorted(opened) == list(range(40))
        assert max(sizes) == 5  # not those that are done, nor those whose turn has not come


class TestAnEarlyEnd:
    @given(taken=st.integers(0, 6), prefetch=st.integers(0, 3), strategy=st.sampled_from(["static", "length"]))
    @costly()
    def test_leaves_no_loader_and_no_work_for_the_model(
        self, clip: Clip, taken: int, prefetch: int, strategy: str
    ) -> None:
        recogniser = StubRecogniser()
        stage = StubAsrStage(make=lambda: recogniser, batching=strategy, max_batch_s=0.6)
        with ready(stage.with_(batch_size=3, prefetch_batches=prefetch)) as stage:
            model = stage._runner._thread
            submitted: list[Future[Any]] = []
            with pytest.MonkeyPatch.context() as patch:
                submit = model.submit
                patch.setattr(model, "submit", lambda *args: submitted.append(submit(*args)) or submitted[-1])
                parts = stage.stream(AudioBatch([{"audio_filepath": clip(200), "duration": 0.2} for _ in range(18)]))
                for _ in range(taken):
                    next(parts)
                parts.close()
            assert [name for name in own_threads() if name.startswith("curate-audio")] == []
            assert [work for work in submitted if not (work.done() or work.running())] == []
            assert submitted or not taken
            before = len(recogniser.batches)
            model.submit(int).result()  # what was cancelled may be in its queue up to this point
            done = len(recogniser.batches)
            assert done <= before + 1  # it may have been in the model's hand when the stream ended
            assert len(stage.process(AudioBatch([{"audio_filepath": clip(100)}])).data) == 1
            assert len(recogniser.batches) == done + 1
            assert len(recogniser.batches[-1]) == 1
        assert own_threads() == []


class TestReadingAhead:
    def test_without_it_nothing_is_loaded_while_the_model_works(self, clip: Clip, monkeypatch: Any) -> None:
        log: list[str] = []

        def load(records: Any, **options: Any) -> Any:
            assert options["threads"] == 1
            for record, samples in load_ahead(records, **options):
                log.append("load")
                yield record, samples

        monkeypatch.setattr(loading, "load_ahead", load)
        recogniser = StubRecogniser(lambda heard_ms: log.append(f"model {len(heard_ms)}"))
        records = [{"audio_filepath": clip(100)} for _ in range(6)]
        with ready(StubAsrStage(make=lambda: recogniser).with_(batch_size=2, prefetch_batches=0)) as stage:
            stage.process(AudioBatch(records))
        assert log == ["load", "load", "model 2"] * 3

    def test_the_next_batches_are_loaded_while_the_model_works(self, clip: Clip, monkeypatch: Any) -> None:
        loaded = threading.Semaphore(0)

        def load(records: Any, **options: Any) -> Any:
            for record, samples in load_ahead(records, **options):
                loaded.release()
                yield record, samples

        def waits_for_six(batch: list[int]) -> None:
            if len(recogniser.batches) == 1:
                for _ in range(6):
                    assert loaded.acquire(timeout=10)

        monkeypatch.setattr(loading, "load_ahead", load)
        recogniser = StubRecogniser(waits_for_six)
        records = [{"audio_filepath": clip(100), "duration": 0.1} for _ in range(8)]
        with ready(StubAsrStage(make=lambda: recogniser).with_(batch_size=2)) as stage:
            assert len(stage.process(AudioBatch(records)).data) == 8

    def test_what_is_done_is_handed_on_before_the_window_ends(self, clip: Clip) -> None:
        held = threading.Event()

        def waits(heard_ms: list[int]) -> None:
            if heard_ms == [900]:
                assert held.wait(10)

        records = [{"audio_filepath": clip(ms)} for ms in (100, 100, 900)]
        stage = StubAsrStage(make=lambda: StubRecogniser(waits), batching="static")
        with ready(stage.with_(batch_size=1, prefetch_batches=0)) as stage:
            parts = stage.stream(AudioBatch(records))
            assert [next(parts).data[0]["pred_text"] for _ in range(2)] == ["100", "100"]
            held.set()
            assert next(parts).data[0]["pred_text"] == "900"


class TestOutOfRange:
    def test_the_column_decides_and_the_audio_where_there_is_none(self, clip: Clip) -> None:
        lengths = [(100, True), (500, True), (2600, True), (100, False), (500, False), (2600, False)]
        records = [
            {"audio_filepath": clip(ms), "n": number, **({"duration": ms / 1000} if known else {})}
            for number, (ms, known) in enumerate(lengths)
        ]
        for strategy in ("static", "length", "duration", "bucket"):
            stage = StubAsrStage(batching=strategy, min_s=0.2, max_s=2.0)
            assert stage.cardinality == "filters"
            with ready(stage) as stage:
                done = stage.process(AudioBatch([dict(record) for record in records]))
            assert [record["n"] for record in done.data] == [1, 4]
            assert sorted((left.record["n"], left.reason) for left in done.rejected) == [
                *((0, "shorter than 0.2 s"), (2, "longer than 2 s")),
                *((3, "shorter than 0.2 s"), (5, "longer than 2 s")),
            ]


def test_several_threads_may_use_a_stage_at_once(clip: Clip) -> None:
    from concurrent.futures import ThreadPoolExecutor

    working: list[int] = []

    def alone(_: list[int]) -> None:
        working.append(1)
        assert len(working) == 1, "one model thread"
        working.pop()

    stage = StubAsrStage(make=lambda: StubRecogniser(alone), batching="length", max_batch_s=0.5)
    with ready(stage) as stage, ThreadPoolExecutor(4) as pool:
        batches = [
            AudioBatch([{"audio_filepath": clip(ms), "duration": ms / 1000} for ms in LENGTHS_MS]) for _ in range(8)
        ]
        done = list(pool.map(stage.process, batches))
    assert [[record["pred_text"] for record in each.data] for each in done] == [[str(ms) for ms in LENGTHS_MS]] * 8


def test_a_record_error_of_loading_is_the_records(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    batch = AudioBatch([{"audio_filepath": clip(100)}, {"audio_filepath": str(tmp_path / "empty.wav")}])
    with ready(StubAsrStage(batching="length")) as stage:
        done = stage.process(batch)
    assert isinstance(done.failed[0].error, RecordError)
    assert (len(done.data), done.failed[0].error.code) == (1, "empty_file")
