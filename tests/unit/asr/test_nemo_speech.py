"""NeMo's models for speakers, languages and voice activity: as they give it themselves, and the same in every batch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import Pipeline
from curate.asr.nemo_speech import NemoLanguageIdentifier, NemoSpeakerEncoder, NemoVoiceDetector
from curate.errors import UsageError
from curate.models import AudioModel, Clip
from curate.plugin import PluginHost
from curate.records import Record
from curate.stages import (
    Merge,
    ReadRecords,
    SpeakerConsistency,
    SpeakerEmbedding,
    SpokenLanguage,
    VoiceActivity,
)
from curate.testing import AudioModelContract
from tests.models import babble, tiny_ctc
from tests.speech_labels import LANGUAGES, RATE_HZ, tiny_frame_vad, tiny_speaker, tiny_window_vad

pytestmark = pytest.mark.nemo


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    tiny_speaker(folder / "speaker.nemo")
    tiny_window_vad(folder / "windows.nemo")
    tiny_frame_vad(folder / "frames.nemo")
    return folder


class _Contract(AudioModelContract):
    @pytest.fixture(autouse=True)
    def _in_folder(self, folder: Path) -> None:
        self.path = str(folder / "speaker.nemo")


class _Vectors(NemoSpeakerEncoder):
    def infer(self, clips: Any) -> Any:
        return [{"embedding": row["embedding"].tolist()} for row in super().infer(clips)]


class TestNemoSpeakerEncoder(_Contract):
    def model(self) -> AudioModel:
        return _Vectors(self.path)


class TestNemoLanguageIdentifier(_Contract):
    def model(self) -> AudioModel:
        return NemoLanguageIdentifier(self.path)


def test_embeddings_are_those_that_nemo_gives(folder: Path) -> None:
    torch: Any = import_module("torch")
    models: Any = import_module("nemo.collections.asr.models")
    samples = babble(0, 2.0)
    encoder = NemoSpeakerEncoder(str(folder / "speaker.nemo"))
    encoder.check()
    encoder.setup()
    rows: Any = encoder.infer([Clip(samples, RATE_HZ), Clip(samples[:8000], RATE_HZ)])
    theirs = models.EncDecSpeakerLabelModel.restore_from(str(folder / "speaker.nemo"), map_location="cpu")
    theirs.eval()
    theirs.preprocessor.featurizer.dither = 0.0
    with torch.no_grad():
        signal = torch.from_numpy(samples)[None]
        _, expected = theirs.forward(input_signal=signal, input_signal_length=torch.tensor([len(samples)]))
    assert np.abs(rows[0]["embedding"] - expected[0].numpy()).max() < 1e-4
    assert np.abs(rows[1]["embedding"] - rows[0]["embedding"]).max() > 1e-3


@pytest.mark.parametrize(("file", "frame_s"), [("frames.nemo", 0.02), ("windows.nemo", 0.08)])
def test_probabilities_of_speech_cover_a_recording_in_any_blocks(file: str, frame_s: float, folder: Path) -> None:
    detector = NemoVoiceDetector(model=str(folder / file))
    detector.check()
    detector.setup()
    assert detector.frame_s == frame_s
    long = np.concatenate([babble(seed, 4.0) for seed in range(11)])
    for samples in (long[:1], long[:5000], long):
        whole = np.concatenate(list(detector.probabilities([samples])))
        assert len(whole) == -(-len(samples) // round(frame_s * RATE_HZ))
        assert ((whole >= 0) & (whole <= 1)).all()
        parts = detector.probabilities(samples[at : at + 77_777] for at in range(0, len(samples), 77_777))
        assert (np.concatenate(list(parts)) == whole).all()
    assert list(detector.probabilities([])) == []


@pytest.mark.parametrize("executor", ["local", pytest.param("multiprocessing", marks=pytest.mark.processes)])
def test_stages_run_nemo_models_and_give_the_same_bytes_in_workers(executor: str, folder: Path, tmp_path: Path) -> None:
    records: list[Record] = []
    for seed, seconds in enumerate((3.0, 1.2, 0.3, 5.0)):
        soundfile.write(tmp_path / f"{seed}.flac", babble(seed, seconds), RATE_HZ)
        records.append({"audio_filepath": str(tmp_path / f"{seed}.flac")})
    model = {"model": str(folder / "speaker.nemo")}
    stages = [
        SpeakerEmbedding(engine="nemo", options=model, window_s=2.0).with_(workers=1),
        VoiceActivity(engine="nemo", options={"model": str(folder / "frames.nemo")}),
        SpokenLanguage(options=model, window_s=2.0),
        SpeakerConsistency(engine="nemo", options=model, window_s=2.0),
    ]
    host = PluginHost(environment={"CURATE_PLUGINS": ""})
    if executor != "local":  # importing NeMo takes every worker ten seconds
        pipeline = Pipeline("nemo", [ReadRecords(records), stages[0], Merge("out.jsonl")])
        pipeline.run(host=host, executor=executor, run_dir=tmp_path / "run")
        pipeline.run(host=host, run_dir=tmp_path / "alone")
        assert (tmp_path / "alone" / "out.jsonl").read_bytes() == (tmp_path / "run" / "out.jsonl").read_bytes()
        return
    rows = list(Pipeline("nemo", [ReadRecords(records), *stages]).run(host=host).records())
    assert all(row["spoken_lang"] in ("de", "en", "fr", "ja") for row in rows if row["duration"] >= 1)
    assert [row["spoken_lang_prob"] is None for row in rows] == [False, False, True, False]
    assert [len(row["speaker_embedding"] or ()) for row in rows] == [16, 16, 0, 16]
    assert [row["speaker_consistency"] is None for row in rows] == [False, True, True, False]
    assert len(LANGUAGES) == 4


def test_a_file_of_another_kind_is_refused_when_the_pipeline_is_planned(folder: Path, tmp_path: Path) -> None:
    host = PluginHost(environment={"CURATE_PLUGINS": ""})
    records = [{"audio_filepath": "x.wav"}]
    recogniser = str(tiny_ctc(tmp_path / "ctc.nemo"))
    speaker = str(folder / "speaker.nemo")
    for stage, reason in (
        (SpeakerEmbedding(engine="nemo", options={"model": recogniser}), "EncDecCTCModel cannot be run"),
        (SpeakerEmbedding(engine="nemo", options={"model": "nowhere.nemo"}), "there is no such model file"),
        (SpokenLanguage(options={}), "model"),
        (VoiceActivity(engine="nemo", options={"model": speaker}), "EncDecSpeakerLabelModel cannot be run"),
        (VoiceActivity(engine="nemo", options={"model": speaker, "device": "tpu"}), "cpu or cuda"),
    ):
        with pytest.raises(UsageError, match=reason):
            Pipeline("p", [ReadRecords(records), stage]).plan(host=host)
