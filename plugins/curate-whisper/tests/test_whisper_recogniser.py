"""The recogniser on real speech, and what it says about its settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from curate.errors import InfrastructureError, PlanError, RecordError
from curate.models import AudioModel, Clip
from curate.testing import AudioModelContract

pytest.importorskip("curate_whisper", reason="the plugin is not installed: make .venv/.dev-all")

from curate_whisper.whisper import WhisperRecogniser

Wer = Callable[[list[str], list[str]], float]


def rows(model: WhisperRecogniser, clips: list[Clip]) -> list[dict[str, Any]]:
    return [dict(row) for row in model.infer(clips)()]


class TestWhisper(AudioModelContract):
    tolerance: ClassVar[float] = 0.02  # scores are rounded to 0.001

    @pytest.fixture(autouse=True)
    def _weights(self, tiny_en: Path) -> None:
        self.folder = tiny_en

    def model(self) -> AudioModel:
        return WhisperRecogniser(
            self.folder,
            beam_size=1,
            compute_type="float32",  # int8 may change a transcript with the batch
            timestamps=True,
            confidence=True,
            scores=True,
            report_language=True,
        )


@pytest.fixture(scope="module")
def tiny(tiny_en: Path) -> WhisperRecogniser:
    model = WhisperRecogniser(tiny_en, compute_type="float32", timestamps=True, scores=True, confidence=True)
    model.setup()
    return model


def test_tiny_in_a_batch_and_alone_gives_the_same_rows(
    tiny: WhisperRecogniser, clips: list[Clip], corpus_wer: Wer
) -> None:
    together = [row for start in range(0, 16, 8) for row in rows(tiny, clips[start : start + 8])]
    alone = [row for clip in clips for row in rows(tiny, [clip])]
    assert [row["text"] for row in together] == [row["text"] for row in alone]
    rate = corpus_wer([clip.record["text"] for clip in clips], [row["text"] for row in alone])
    print(f"\ntiny.en, float32, beam 5: WER {rate:.4f}")
    assert rate <= 0.10
    for row, clip in zip(together, clips, strict=True):
        spoken = row["words"]
        assert " ".join(word["word"] for word in spoken) == row["text"]
        assert spoken[-1]["end"] <= clip.duration_s
        assert clip.duration_s < 3 or spoken[-1]["start"] > 0.3 * clip.duration_s
        assert -1.5 < row["avg_logprob"] < 0 <= row["no_speech_prob"] < 0.6
        assert 0 < row["compression_ratio"] < 2.4


@pytest.mark.parametrize("beam_size", [1, 5])
def test_tiny_in_int8_has_about_the_errors_of_float32(
    tiny_en: Path, clips: list[Clip], corpus_wer: Wer, beam_size: int
) -> None:
    model = WhisperRecogniser(tiny_en, beam_size=beam_size)
    model.setup()
    found = [row for clip in clips for row in rows(model, [clip])]
    rate = corpus_wer([clip.record["text"] for clip in clips], [row["text"] for row in found])
    print(f"\ntiny.en, int8, beam {beam_size}: WER {rate:.4f}")
    assert rate <= 0.10


def test_base_detects_english_and_obeys_the_record(base: Path, clips: list[Clip], corpus_wer: Wer) -> None:
    model = WhisperRecogniser(base, report_language=True)
    model.setup()
    found = [row for start in range(0, 16, 8) for row in rows(model, clips[start : start + 8])]
    rate = corpus_wer([clip.record["text"] for clip in clips], [row["text"] for row in found])
    print(f"\nbase, int8, beam 5: WER {rate:.4f}")
    assert rate <= 0.08
    jfk = clips[-1].samples
    spoken = [Clip(jfk, 16_000, {"lang": "deu_Latn"}), Clip(jfk, 16_000, {}), Clip(jfk, 16_000, {"lang": "en-GB"})]
    mixed = rows(model, spoken)
    assert [row["pred_lang"] for row in mixed] == ["de", "en", "en"]
    assert mixed[1]["text"] == mixed[2]["text"] != mixed[0]["text"]


def test_silence_and_splinters_are_an_empty_text(tiny: WhisperRecogniser) -> None:
    quiet = [Clip(np.zeros(length, np.float32), 16_000) for length in (1, 100, 16_000)]
    for row in rows(tiny, quiet):
        assert (row["text"], row["words"], row["no_speech_prob"]) == ("", [], None)


@pytest.mark.parametrize(
    ("samples", "record", "code"),
    [
        (np.ones(31 * 16_000, np.float32), {}, "too_long"),
        (np.full(16_000, np.nan, np.float32), {}, "non_finite"),
        (np.ones((160, 2), np.float32), {}, "unsupported_channels"),
        (np.ones(16_000, np.float32), {"lang": "de"}, "bad_value"),
    ],
)
def test_a_clip_that_cannot_be_transcribed_is_the_records_fault(
    tiny: WhisperRecogniser, samples: Any, record: dict[str, Any], code: str
) -> None:
    with pytest.raises(RecordError) as caught:
        tiny.infer([Clip(samples, 16_000, record)])
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "openai/whisper-tiny"}, "transformers"),
        ({"model": "nvidia/parakeet-tdt-0.6b-v2"}, "asr_nemo"),
        ({"model": "huge"}, "unknown model 'huge'"),
        ({"model": "/nowhere"}, "does not exist"),
        ({"model": "tiny", "beam_size": 0}, "beam_size"),
        ({"model": "tiny", "compute_type": "int3"}, "compute_type"),
        ({"model": "tiny", "language": "klingonish"}, "language"),
        ({"model": "tiny", "temperature": [0.4, 0.2]}, "ascending"),
        ({"model": "tiny", "condition_on_previous_text": True}, "each for itself"),
    ],
)
def test_an_impossible_setting_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        WhisperRecogniser(**settings)


def test_a_model_outside_the_cache_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faster_whisper")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InfrastructureError, match="nothing is downloaded"):
        WhisperRecogniser("large-v1").setup()
    with pytest.raises(InfrastructureError, match="cannot load"):
        WhisperRecogniser(tmp_path).setup()


def test_sampling_is_announced() -> None:
    assert WhisperRecogniser("tiny", temperature=[0, 0.2]).notes()
    assert not WhisperRecogniser("tiny").notes()
