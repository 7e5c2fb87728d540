"""The ASR stage over any recogniser: order, batches, blame, columns. And over the demo's model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline
from curate.asr import Transcript
from curate.errors import InfrastructureError, PlanError, RecordError
from curate.plugin import default_host
from curate.records import AudioBatch
from curate.stages import AsrStage, InferenceAsrNemoStage, ReadRecords
from tests.unit.stages.stub_recogniser import StubAsrStage, StubRecogniser

Clip = Callable[[int], str]

QUICKSTART = Path(__file__).resolve().parents[3] / "pipelines" / "quickstart"
MODEL = QUICKSTART / "model.nemo"


def batch(clip: Clip, *lengths_ms: int) -> AudioBatch:
    return AudioBatch([{"audio_filepath": clip(ms), "n": number} for number, ms in enumerate(lengths_ms)])


def ready(stage: AsrStage | InferenceAsrNemoStage) -> Any:
    stage.setup()
    return stage


def run(stage: Any, batch: AudioBatch) -> Any:
    return Pipeline("asr", [ReadRecords(batch.data), stage]).run()


class TestEager:
    def test_all_records_come_back_in_order_with_their_texts(self, clip: Clip) -> None:
        stage = ready(StubAsrStage(batching="static").with_(batch_size=2))
        done = stage.process(batch(clip, 300, 100, 200, 100, 400))
        assert [(record["n"], record["pred_text"]) for record in done.data] == [
            *((0, "300"), (1, "100"), (2, "200"), (3, "100"), (4, "400"))
        ]
        assert stage._runner.model.batches == [[300, 100], [200, 100], [400]]

    def test_records_lent_an_id_give_it_back(self, clip: Clip) -> None:
        mine = batch(clip, 100, 200)
        done = ready(StubAsrStage()).process(mine)
        assert all("_id" not in record for record in (*mine.data, *done.data))

    def test_the_stage_must_be_set_up(self, clip: Clip) -> None:
        with pytest.raises(InfrastructureError, match=r"call setup\(\) before"):
            StubAsrStage().process(batch(clip, 100))

    def test_setup_and_teardown_may_be_repeated(self, clip: Clip) -> None:
        stage = StubAsrStage()
        for _ in range(2):
            stage.setup()
            stage.setup()
            recogniser: Any = stage._runner.model
            done: Any = stage.process(batch(clip, 100))
            assert done.data[0]["pred_text"] == "100"
            stage.teardown()
            stage.teardown()
            assert not recogniser.open

    def test_what_cannot_be_loaded_costs_itself(self, clip: Clip, tmp_path: Path) -> None:
        (tmp_path / "page.wav").write_text("<html></html>" * 50)
        mine = batch(clip, 100, 200, 300)
        mine.data[1:1] = [
            {"audio_filepath": str(tmp_path / "none.wav")},
            {"audio_filepath": str(tmp_path / "page.wav")},
        ]
        mine.data.append({"n": 9})
        done = ready(StubAsrStage(batching="static")).process(mine)
        assert [record["pred_text"] for record in done.data] == ["100", "200", "300"]
        assert [failed.error.code for failed in done.failed] == ["missing_file", "not_audio", "missing_column"]
        assert done.failed[0].record == {"audio_filepath": str(tmp_path / "none.wav")}

    def test_no_records_and_no_sound_records(self, tmp_path: Path) -> None:
        stage = ready(StubAsrStage())
        assert stage.process(AudioBatch([])).data == []
        done = stage.process(AudioBatch([{"audio_filepath": str(tmp_path / "none.wav")}]))
        assert (done.data, len(done.failed)) == ([], 1)
        assert stage._runner.model.batches == []

    def test_segments_are_heard_as_such(self, clip: Clip) -> None:
        records = [{"audio_filepath": clip(400), "offset": 0.1, "duration": 0.2}, {"audio_filepath": clip(400)}]
        done = ready(StubAsrStage()).process(AudioBatch(records))
        assert [record["pred_text"] for record in done.data] == ["200", "400"]

    def test_the_path_may_be_in_another_column(self, clip: Clip) -> None:
        mine = AudioBatch([{"wav": clip(100)}], filepath_key="wav")
        assert ready(StubAsrStage()).process(mine).data[0]["pred_text"] == "100"
        mine = AudioBatch([{"flac": clip(200)}], filepath_key="wav")
        assert ready(StubAsrStage(filepath_key="flac")).process(mine).data[0]["pred_text"] == "200"

    def test_the_text_may_go_to_another_column(self, clip: Clip) -> None:
        stage = ready(StubAsrStage(pred_text_key="heard"))
        assert stage.process(batch(clip, 100)).data[0]["heard"] == "100"
        assert set(stage.writes()) == {"heard"}

    def test_times_and_confidence_are_columns_when_asked_for(self, clip: Clip) -> None:
        def make() -> StubRecogniser:
            return StubRecogniser(timestamps=True, confidence=True)

        plain = ready(StubAsrStage(make=make)).process(batch(clip, 100)).data[0]
        assert set(plain) == {"audio_filepath", "n", "duration", "pred_text"}
        stage = ready(StubAsrStage(make=make, timestamps=True, confidence=True))
        record = stage.process(batch(clip, 100)).data[0]
        assert record["words"] == [{"word": "100", "start": 0.0, "end": 0.1, "score": 0.5}]
        assert record["confidence"] == 0.5
        assert set(stage.writes()) == {"pred_text", "words", "confidence"}

    def test_words_without_confidence_have_no_such_key(self, clip: Clip) -> None:
        stage = ready(StubAsrStage(make=lambda: StubRecogniser(timestamps=True), timestamps=True))
        assert stage.process(batch(clip, 100)).data[0]["words"] == [{"word": "100", "start": 0.0, "end": 0.1}]


class TestInARun:
    def test_the_run_keeps_the_order_whatever_the_batch(self, clip: Clip) -> None:
        texts = [
            [
                record["pred_text"]
                for record in run(StubAsrStage().with_(batch_size=size), batch(clip, 300, 100, 200)).records()
            ]
            for size in (1, 2, 16)
        ]
        assert texts == [["300", "100", "200"]] * 3

    def test_a_waveform_that_raises_is_found_among_those_announced(self, clip: Clip) -> None:
        calls: list[list[int]] = []

        def choke(heard_ms: list[int]) -> None:
            calls.append(heard_ms)
            if 500 in heard_ms:
                raise ValueError("it chokes on this one")

        lengths = [100, 200, 300, 400, 500, 600, 700, 800, 900]
        result = run(
            StubAsrStage(make=lambda: StubRecogniser(choke), batching="static").with_(batch_size=4),
            batch(clip, *lengths),
        )
        assert [record["pred_text"] for record in result.records()] == [str(ms) for ms in lengths if ms != 500]
        [note] = result.quarantined
        assert (note.record["n"], note.stage, note.code) == (4, "asr", "stage_error")
        assert "it chokes on this one" in note.message
        assert "ValueError" in note.traceback
        assert "pred_text" not in note.record
        # the four before are done and not heard again; the batch that raised is closed in on; the ninth waits for it
        assert calls[0] == [100, 200, 300, 400]
        assert sum(100 in heard for heard in calls) == 1
        assert calls[-1][-1] == 900
        assert sum(map(len, calls)) <= 20

    def test_several_guilty_ones_are_all_found(self, clip: Clip) -> None:
        def choke(heard_ms: list[int]) -> None:
            if {100, 300, 400} & set(heard_ms):
                raise RecordError("non_finite", "odd")

        result = run(StubAsrStage(make=lambda: StubRecogniser(choke)), batch(clip, 100, 200, 300, 400))
        assert [record["pred_text"] for record in result.records()] == ["200"]
        assert [(note.record["n"], note.code) for note in result.quarantined] == [
            *((0, "non_finite"), (2, "non_finite"), (3, "non_finite"))
        ]

    def test_running_out_of_memory_on_one_record_is_that_records(self, clip: Clip) -> None:
        def choke(heard_ms: list[int]) -> None:
            if max(heard_ms) > 600:
                raise MemoryError("too long for me")

        result = run(StubAsrStage(make=lambda: StubRecogniser(choke)), batch(clip, 100, 800, 300))
        assert [record["pred_text"] for record in result.records()] == ["100", "300"]
        assert [(note.record["n"], note.code) for note in result.quarantined] == [(1, "oom")]

    def test_a_failed_allocation_of_a_library_is_running_out_of_memory_too(self, clip: Clip) -> None:
        def choke(heard_ms: list[int]) -> None:
            if len(heard_ms) > 2:
                raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

        result = run(StubAsrStage(make=lambda: StubRecogniser(choke)), batch(clip, *[100] * 9))
        assert result.summary["kept"] == 9

    def test_too_few_or_too_many_transcripts_stop_the_run(self, clip: Clip) -> None:
        for wrong in ([], [Transcript("a")] * 3):
            stage = StubAsrStage(make=lambda wrong=wrong: StubRecogniser(lambda _: wrong))
            with pytest.raises(InfrastructureError, match=rf"StubRecogniser returned {len(wrong)} rows for 2"):
                run(stage, batch(clip, 100, 200))

    def test_trouble_of_the_machine_stops_the_run(self, clip: Clip) -> None:
        def choke(_: list[int]) -> None:
            raise InfrastructureError("the card is gone")

        with pytest.raises(InfrastructureError, match="the card is gone"):
            run(StubAsrStage(make=lambda: StubRecogniser(choke)), batch(clip, 100))

    def test_a_recogniser_that_cannot_be_set_up_stops_the_run(self, clip: Clip) -> None:
        class Broken(StubRecogniser):
            def setup(self) -> None:
                raise OSError("no such model")

        with pytest.raises(InfrastructureError, match="'asr' cannot be set up: OSError: no such model"):
            run(StubAsrStage(make=Broken), batch(clip, 100))

    def test_a_file_that_is_missing_goes_to_quarantine_in_its_place(self, clip: Clip, tmp_path: Path) -> None:
        mine = batch(clip, 100, 200)
        mine.data.insert(1, {"audio_filepath": str(tmp_path / "none.wav"), "n": 9})
        result = run(StubAsrStage().with_(batch_size=1), mine)
        assert [record["n"] for record in result.records()] == [0, 1]
        assert [(note.record["_id"], note.code, note.attempts) for note in result.quarantined] == [
            ("records:2", "missing_file", 1)
        ]


class TestPlanning:
    def test_an_unknown_recogniser_is_answered_with_the_nearest(self) -> None:
        with pytest.raises(Exception, match="nemo"):
            Pipeline("p", [ReadRecords([{"audio_filepath": "a"}]), AsrStage("nemoo")]).plan()

    def test_options_that_the_recogniser_does_not_take_are_named(self) -> None:
        with pytest.raises(PlanError, match=r"'nemo'.*beams"):
            AsrStage("nemo", options={"model_name": str(MODEL), "beams": 3}).check()
        with pytest.raises(PlanError, match="dtype"):
            AsrStage("nemo", options={"model_name": str(MODEL), "dtype": "int8"}).check()

    def test_any_registered_recogniser_serves(self, monkeypatch: pytest.MonkeyPatch, clip: Clip) -> None:
        class Reference:
            distribution = ""

            def load(self) -> type:
                return StubRecogniser

        monkeypatch.setattr(type(default_host()), "recogniser", lambda _, name: Reference())
        result = run(AsrStage("mine", options={"rate_hz": 4000}, timestamps=True), batch(clip, 100))
        [record] = result.records()
        assert record["pred_text"] == "100"
        assert len(record["words"]) == 1

    def test_a_missing_model_is_a_mistake_in_the_plan(self) -> None:
        with pytest.raises(PlanError, match=r"nowhere\.nemo"):
            Pipeline("p", [ReadRecords([{"audio_filepath": "a"}]), InferenceAsrNemoStage("nowhere.nemo")]).plan()

    def test_the_model_is_in_the_fingerprint_and_its_batch_size_is_not(self, tmp_path: Path) -> None:
        def fingerprint(stage: InferenceAsrNemoStage) -> str:
            return Pipeline("p", [ReadRecords([{"audio_filepath": "a"}]), stage]).plan().fingerprint

        stage = InferenceAsrNemoStage(str(MODEL))
        assert fingerprint(stage) == fingerprint(stage.with_(batch_size=3, workers=2))
        assert fingerprint(stage) != fingerprint(stage.with_(decoding="greedy"))
        copied = tmp_path / "model.nemo"
        copied.write_bytes(MODEL.read_bytes())
        before = fingerprint(InferenceAsrNemoStage(str(copied)))
        copied.write_bytes(MODEL.read_bytes()[:-1] + b"x")
        assert fingerprint(InferenceAsrNemoStage(str(copied))) != before

    def test_the_result_is_checkpointed_and_the_column_named(self) -> None:
        stage = InferenceAsrNemoStage(str(MODEL))
        assert stage.checkpoint
        assert (set(stage.reads()), set(stage.writes())) == ({"audio_filepath"}, {"pred_text"})


@pytest.fixture(scope="module")
def stage() -> Any:
    pytest.importorskip("nemo.collections.asr", reason="needs nemo_toolkit: make .venv/.dev-all")
    stage = ready(InferenceAsrNemoStage(str(MODEL)).with_(batch_size=4))
    yield stage
    stage.teardown()


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    lines = (QUICKSTART / "data" / "manifest.jsonl").read_text("utf-8").splitlines()[:8]
    return [
        record | {"audio_filepath": str(QUICKSTART / "data" / record["audio_filepath"])}
        for record in map(json.loads, lines)
    ]


@pytest.mark.nemo
class TestWithTheDemosModel:
    def test_speech_becomes_its_words_in_any_batch(self, stage: Any, records: list[dict[str, Any]]) -> None:
        def heard(stage: Any) -> list[str]:
            return [record["pred_text"] for record in stage.process(AudioBatch([dict(each) for each in records])).data]

        texts = heard(stage)
        assert sum(text == record["text"] for text, record in zip(texts, records, strict=True)) >= 6
        one_by_one = stage.with_(batch_size=1)
        one_by_one.setup()
        assert heard(one_by_one) == texts

    def test_a_damaged_file_costs_itself(self, stage: Any, records: list[dict[str, Any]], tmp_path: Path) -> None:
        whole = Path(records[1]["audio_filepath"]).read_bytes()
        (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
        mine = [dict(each) for each in records[:3]]
        mine[1]["audio_filepath"] = str(tmp_path / "cut.flac")
        done = stage.process(AudioBatch(mine))
        assert [record["text"] for record in done.data] == [records[0]["text"], records[2]["text"]]
        assert all(record["pred_text"] for record in done.data)
        assert [failed.error.code for failed in done.failed] == ["truncated"]
