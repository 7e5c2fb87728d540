"""What the recogniser does with any audio, and what it says about its own settings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.errors import InfrastructureError, PlanError, RecordError
from curate.models import AudioModel
from curate.testing import AudioModelContract
from curate_pocketsphinx.recogniser import PocketSphinxRecogniser

RATE_HZ = 16_000


def noise(samples: int, level: float = 0.1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, level, samples).astype(np.float32)


class TestPocketSphinx(AudioModelContract):
    def model(self) -> AudioModel:
        return PocketSphinxRecogniser(timestamps=True, confidence=True)


@pytest.mark.parametrize("samples", [0, 1, 160, 409, 410, 800, 1600])
def test_audio_too_short_for_a_word_is_an_empty_text(recogniser: PocketSphinxRecogniser, samples: int) -> None:
    for waveform in (np.zeros(samples, dtype=np.float32), noise(samples)):
        [transcript] = recogniser.transcribe([waveform])
        assert (transcript.text, transcript.words, transcript.confidence) == ("", (), None)


@pytest.mark.parametrize("level", [0.0, 1e-6, 0.5])
def test_audio_that_never_changes_is_an_empty_text(recogniser: PocketSphinxRecogniser, level: float) -> None:
    [transcript] = recogniser.transcribe([np.full(RATE_HZ, level, dtype=np.float32)])
    assert transcript.text == ""


def test_no_waveforms_give_no_transcripts(recogniser: PocketSphinxRecogniser) -> None:
    assert recogniser.transcribe([]) == []


def test_too_loud_audio_is_clipped_not_wrapped(recogniser: PocketSphinxRecogniser) -> None:
    square = np.sign(noise(8000)).astype(np.float32)
    assert recogniser.transcribe([square * 9]) == recogniser.transcribe([square])


def test_non_finite_audio_is_the_records_fault(recogniser: PocketSphinxRecogniser) -> None:
    with pytest.raises(RecordError) as caught:
        recogniser.transcribe([np.full(RATE_HZ, np.nan, dtype=np.float32)])
    assert caught.value.code == "non_finite"


def test_stereo_is_refused(recogniser: PocketSphinxRecogniser) -> None:
    with pytest.raises(RecordError, match="not mono"):
        recogniser.transcribe([np.zeros((RATE_HZ, 2), dtype=np.float32)])


def test_the_log_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    recogniser = PocketSphinxRecogniser()
    recogniser.setup()
    recogniser.transcribe([noise(8000), np.zeros(0, dtype=np.float32), np.zeros(100, dtype=np.float32)])
    recogniser.close()
    assert capfd.readouterr() == ("", "")


def test_settings_can_be_copied_and_the_copy_set_up() -> None:
    original = PocketSphinxRecogniser(wip=0.5)
    duplicate = copy.deepcopy(original)
    duplicate.setup()
    assert duplicate.transcribe([np.zeros(800, dtype=np.float32)])[0].text == ""
    with pytest.raises(InfrastructureError, match="setup"):
        original.transcribe([np.zeros(800, dtype=np.float32)])


def test_setup_may_follow_close() -> None:
    recogniser = PocketSphinxRecogniser()
    for _ in range(2):
        recogniser.setup()
        recogniser.setup()
        assert recogniser.transcribe([np.zeros(800, dtype=np.float32)])[0].text == ""
        recogniser.close()


def test_a_missing_model_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="hmm does not exist"):
        PocketSphinxRecogniser(hmm=tmp_path / "nowhere").setup()


def test_a_broken_model_is_explained_in_pocketsphinx_own_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InfrastructureError, match="does not contain acoustic model definition"):
        PocketSphinxRecogniser(hmm=tmp_path).setup()
    assert capfd.readouterr() == ("", "")


def test_an_unknown_option_is_named_with_its_neighbours() -> None:
    with pytest.raises(PlanError, match="no option 'remove_nose'; nearest: remove_noise"):
        PocketSphinxRecogniser(options={"remove_nose": True})


@pytest.mark.parametrize("options", [{"topn": "many"}, {"lw": 3.0}, {"logfn": "x"}, {"seed": 3}])
def test_an_impossible_option_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(PlanError, match=next(iter(options))):
        PocketSphinxRecogniser(options=options)


@pytest.mark.parametrize("setting", [{"beam": 0.0}, {"wip": 1.5}, {"lw": -1.0}, {"maxhmmpf": 0}])
def test_an_impossible_value_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=next(iter(setting))):
        PocketSphinxRecogniser(**setting)


def test_the_rate_follows_the_options() -> None:
    recogniser = PocketSphinxRecogniser(options={"samprate": 32_000, "nfft": 1024})
    recogniser.setup()
    assert recogniser.rate_hz == 32_000


def test_dither_is_repeatable() -> None:
    recogniser = PocketSphinxRecogniser(options={"dither": True}, confidence=True, timestamps=True)
    recogniser.setup()
    clips = [noise(8000, seed=seed) for seed in range(2)]
    assert recogniser.transcribe(clips) == recogniser.transcribe(clips[::-1])[::-1]
