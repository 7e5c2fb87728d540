"""How fast an ASR stage is against `model.transcribe()`, and against itself without its means: ratios in one run."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from seeded_durations import seeded_durations

from curate import Resources
from curate.asr import NemoRecogniser, Transcript
from curate.audio import AudioLength, load_ahead, load_record
from curate.batching import StaticBatcher, score
from curate.errors import RecordError
from curate.models import loading
from curate.records import AudioBatch, Record
from curate.stages import DynamicBatchAsrStage, InferenceAsrNemoStage
from tests.models import babble, tiny_rnnt
from tests.unit.stages.stub_recogniser import StubAsrStage, StubRecogniser

pytestmark = pytest.mark.bench

QUICKSTART = Path(__file__).resolve().parents[2] / "pipelines" / "quickstart"
MODEL = QUICKSTART / "recipe" / "ctc.nemo"
RATE_HZ = 16_000
CLIPS = 300
SHORTER = 0.5  # than in the wild, so that it does not take for ever; proportions stay
THREADS = 2


def wall_s(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def transcribed(stage: Any, records: list[Record]) -> list[str]:
    done = stage.process(AudioBatch([dict(record) for record in records]))
    assert not done.failed
    return [record["pred_text"] for record in done.data]


class TestWithStubs:
    """What overlaps is shown by waiting, which takes no CPU from anybody."""

    LOAD_S = 0.01
    BATCH = 8
    RECORDS = 160

    def run(self, monkeypatch: pytest.MonkeyPatch, prefetch_batches: int) -> float:
        never = threading.Event()

        def load(_: Record) -> Any:
            never.wait(self.LOAD_S)
            return loading._Decoded(np.zeros(800, np.float32), AudioLength(0.1))

        def work(heard_ms: Sequence[int]) -> list[Transcript]:
            never.wait(self.LOAD_S * len(heard_ms))
            return [Transcript(str(ms)) for ms in heard_ms]

        one_at_a_time: Any = lambda records, **options: load_ahead(records, **{**options, "load": load, "threads": 1})  # noqa: E731
        monkeypatch.setattr(loading, "load_ahead", one_at_a_time)
        stage = StubAsrStage(make=lambda: StubRecogniser(work), batching="static")
        stage = stage.with_(batch_size=self.BATCH, prefetch_batches=prefetch_batches)
        records = [{"audio_filepath": "stub.wav", "duration": 0.1} for _ in range(self.RECORDS)]
        stage.setup()
        try:
            elapsed_s, texts = wall_s(partial(transcribed, stage, records))
        finally:
            stage.teardown()
        assert texts == ["100"] * self.RECORDS
        return elapsed_s

    def test_loading_overlaps_with_the_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        serial_s = min(self.run(monkeypatch, prefetch_batches=0) for _ in range(2))
        overlapped_s = min(self.run(monkeypatch, prefetch_batches=2) for _ in range(2))
        print(f"\noverlapped {overlapped_s:.2f} s, serial {serial_s:.2f} s: {overlapped_s / serial_s:.2f}")
        assert overlapped_s <= 0.6 * serial_s


def sound(path: Path) -> Any:
    """Return the samples of a clip, None of one of the demo's damaged files."""
    try:
        return load_record({"audio_filepath": str(path)}, rate_hz=RATE_HZ)
    except RecordError:
        return None


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Return clips of digits, as long as speech in the wild: most short, a few long, in no order."""
    import soundfile

    paths = sorted((QUICKSTART / "data" / "audio").glob("00[0-2]*.flac"))
    speech = np.concatenate([found for path in paths if (found := sound(path)) is not None])
    folder = tmp_path_factory.mktemp("clips")
    records: list[Record] = []
    draw = np.random.default_rng(5)
    for number, seconds in enumerate(seeded_durations("tail", CLIPS)):
        first = int(draw.integers(len(speech)))
        samples = np.resize(np.roll(speech, -first), int(seconds * SHORTER * RATE_HZ))
        path = folder / f"{number:03d}.wav"
        soundfile.write(path, samples, RATE_HZ)
        records.append({"audio_filepath": str(path), "duration": len(samples) / RATE_HZ})
    return records


@pytest.fixture(scope="module")
def nemo_model() -> Any:
    """Return the demo's model as NeMo restores it, for `transcribe()`."""
    pytest.importorskip("nemo.collections.asr", reason="needs nemo_toolkit: make .venv/.dev-all")
    import torch

    from curate.asr.checkpoint import read_checkpoint, restore

    torch.set_num_threads(THREADS)
    return restore(read_checkpoint(MODEL))


@pytest.fixture(scope="module")
def nemo_hybrid(nemo_model: Any) -> Any:
    """Return the quickstart's model as NeMo restores it."""
    from curate.asr.checkpoint import read_checkpoint, restore

    return restore(read_checkpoint(QUICKSTART / "model.nemo"))


def nemo_transcribes(model: Any, paths: list[str], batch_size: int) -> list[str]:
    from curate.asr.nemo_logging import quiet_nemo

    with quiet_nemo():
        return [hypothesis.text for hypothesis in model.transcribe(paths, batch_size=batch_size, verbose=False)]


@pytest.fixture
def ready() -> Iterator[Callable[[Any], Any]]:
    """Return what sets a stage up with as many threads as NeMo has, and tears it down at the end."""
    stages: list[Any] = []

    def make(stage: Any) -> Any:
        stages.append(stage.with_(resources=Resources(cpus=float(THREADS))))
        stages[-1].setup()
        return stages[-1]

    yield make
    for stage in stages:
        stage.teardown()


@pytest.mark.nemo
class TestWithTheDemosModel:
    def test_a_budget_feeds_less_padding_and_takes_less_time_than_transcribe(
        self, clips: list[Record], nemo_model: Any, ready: Callable[[Any], Any]
    ) -> None:
        stage = ready(DynamicBatchAsrStage(str(MODEL)))
        transcribed(stage, clips[:4])
        paths = [record["audio_filepath"] for record in clips]
        nemo_transcribes(nemo_model, paths[:4], 4)
        before_s = stage.batching_report()["performance"]["padded_s"]
        ours_s, texts = wall_s(partial(transcribed, stage, clips))
        theirs_s, their_texts = wall_s(partial(nemo_transcribes, nemo_model, paths, 16))
        padded_s = stage.batching_report()["performance"]["padded_s"] - before_s
        durations = [record["duration"] for record in clips]
        fixed_s = score(StaticBatcher(16).plan(durations), durations).padded_s
        print(
            f"\n{CLIPS} clips, {sum(durations):.0f} s: padded {padded_s:.0f} s against {fixed_s:.0f} s, "
            f"{fixed_s / padded_s:.2f} times fewer; wall {ours_s:.2f} s against {theirs_s:.2f} s of transcribe(): "
            f"{ours_s / theirs_s:.2f}"
        )
        assert texts == their_texts
        assert fixed_s >= 2.5 * padded_s
        assert ours_s <= 0.8 * theirs_s

    def test_stage_is_as_fast_as_the_model_alone_on_the_same_batches(
        self, clips: list[Record], nemo_hybrid: Any
    ) -> None:
        """The quickstart's model on one thread, so that another core can load and spell out; the best of two turns."""
        stage = InferenceAsrNemoStage(str(QUICKSTART / "model.nemo")).with_(resources=Resources(cpus=1.0))
        stage.setup()
        torch = pytest.importorskip("torch")
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            waveforms = [load_record(record, rate_hz=RATE_HZ) for record in clips]
            plan, _ = stage._runner.batches.plan([record["duration"] for record in clips])
            model = stage._runner.model

            def alone() -> list[str]:
                texts = dict[int, str]()
                for batch in plan:
                    found = model.transcribe([waveforms[index] for index in batch])
                    texts |= {index: one.text for index, one in zip(batch, found, strict=True)}
                return [texts[index] for index in range(len(clips))]

            paths = [record["audio_filepath"] for record in clips]
            transcribed(stage, clips[:4])
            nemo_transcribes(nemo_hybrid, paths[:4], 4)
            best_s = {"stage": math.inf, "alone": math.inf, "transcribe": math.inf}
            texts: dict[str, list[str]] = {}
            for _ in range(2):
                for name, work in (
                    ("stage", partial(transcribed, stage, clips)),
                    ("alone", alone),
                    ("transcribe", partial(nemo_transcribes, nemo_hybrid, paths, 16)),
                ):
                    seconds, texts[name] = wall_s(work)
                    best_s[name] = min(best_s[name], seconds)
        finally:
            torch.set_num_threads(before)
            stage.teardown()
        ratio, share = best_s["alone"] / best_s["stage"], best_s["stage"] / best_s["transcribe"]
        print(
            f"\n{CLIPS} clips in {len(plan)} batches: stage {best_s['stage']:.2f} s, forward and decode alone "
            f"{best_s['alone']:.2f} s ({ratio:.2f}), transcribe(16) {best_s['transcribe']:.2f} s ({share:.2f})"
        )
        assert texts["stage"] == texts["alone"] == texts["transcribe"]
        assert ratio >= 1.0
        assert share <= 0.33

    def test_one_clip_at_a_time_is_faster_than_transcribe(
        self, clips: list[Record], nemo_model: Any, ready: Callable[[Any], Any]
    ) -> None:
        stage = ready(InferenceAsrNemoStage(str(MODEL)))
        some = [record for record in clips if 1.5 < record["duration"] < 3][:20]
        transcribed(stage, some[:1])
        nemo_transcribes(nemo_model, [some[0]["audio_filepath"]], 1)
        ours_s = theirs_s = 0.0
        for record in some:  # by turns, and the best of some, for the machine has other things to do
            ours = [wall_s(partial(transcribed, stage, [record])) for _ in range(5)]
            theirs = [wall_s(partial(nemo_transcribes, nemo_model, [record["audio_filepath"]], 1)) for _ in range(5)]
            assert ours[0][1] == theirs[0][1]
            ours_s += min(seconds for seconds, _ in ours)
            theirs_s += min(seconds for seconds, _ in theirs)
        print(
            f"\none at a time: {1000 * ours_s / len(some):.0f} ms against {1000 * theirs_s / len(some):.0f} ms of "
            f"transcribe(): {theirs_s / ours_s:.2f} times faster"
        )
        assert theirs_s >= 1.5 * ours_s


@pytest.mark.nemo
def test_looping_over_labels_is_faster_than_over_frames(tmp_path: Path) -> None:
    pytest.importorskip("nemo.collections.asr", reason="needs nemo_toolkit: make .venv/.dev-all")
    path = tiny_rnnt(tmp_path / "rnnt.nemo")
    waveforms = [babble(number, 2.0 + number % 5) for number in range(32)]
    best_s = {True: math.inf, False: math.inf}
    whole_s = dict(best_s)
    texts: dict[bool, list[Transcript]] = {}
    # one thread: the loops are many small steps, for which threads wait more than they work
    recognisers = {looping: NemoRecogniser(path, threads=1, label_looping=looping) for looping in best_s}

    def timed(decode: Any, looping: bool) -> Callable[..., Any]:
        def run(*encoded: Any) -> Any:
            seconds, result = wall_s(partial(decode, *encoded))
            best_s[looping] = min(best_s[looping], seconds)
            return result

        return run

    for looping, recogniser in recognisers.items():
        recogniser.setup()
        recogniser.transcribe(waveforms)
        loaded: Any = recogniser._loaded
        loaded._decode = timed(loaded._decode, looping)
    for _ in range(5):  # by turns, for the machine has other things to do
        for looping, recogniser in recognisers.items():
            seconds, texts[looping] = wall_s(partial(recogniser.transcribe, waveforms))
            whole_s[looping] = min(whole_s[looping], seconds)
    for recogniser in recognisers.values():
        recogniser.close()
    print(
        f"\n32 clips decoded: {1000 * best_s[True]:.0f} ms by labels, {1000 * best_s[False]:.0f} ms by frames: "
        f"{best_s[False] / best_s[True]:.2f} times faster ({whole_s[False] / whole_s[True]:.2f} with the encoder)"
    )
    assert texts[True] == texts[False]
    assert any(transcript.text for transcript in texts[True])
    assert best_s[False] >= 1.5 * best_s[True]
