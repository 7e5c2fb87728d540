"""A recogniser that is not installed names its package; a model that NeMo cannot run names another stage."""

from __future__ import annotations

import pytest

from curate.asr import check_model
from curate.errors import PlanError, PluginError
from curate.plugin import PluginHost


@pytest.mark.parametrize(
    ("recogniser", "package"),
    [
        ("whisper", "curate-whisper"),
        ("openai_whisper", "curate-whisper[torch]"),
        ("transformers", "curate-transformers"),
    ],
)
def test_a_recogniser_that_is_not_installed_names_its_package(recogniser: str, package: str) -> None:
    bare = PluginHost(environment={"CURATE_PLUGINS": ""})
    with pytest.raises(PluginError) as caught:
        bare.recogniser(recogniser)
    assert f"pip install {package}" in str(caught.value)
    with pytest.raises(PluginError, match="nemo"):
        bare.recogniser("nemmo")


@pytest.mark.parametrize(
    ("model", "recogniser"),
    [
        ("openai/whisper-large-v3", "transformers"),
        ("distil-whisper/distil-large-v3", "transformers"),
        ("facebook/wav2vec2-base-960h", "transformers"),
        ("Systran/faster-whisper-tiny.en", "whisper"),
        ("large-v3-turbo", "whisper"),
        ("tiny.en", "whisper"),
    ],
)
def test_a_model_of_another_kind_is_refused_for_nemo_with_its_recogniser(model: str, recogniser: str) -> None:
    with pytest.raises(PlanError, match=f"recogniser: {recogniser}"):
        check_model(model)


@pytest.mark.parametrize("model", ["nvidia/parakeet-tdt-0.6b-v2", "stt_en_conformer_ctc_small", "QuartzNet15x5Base-En"])
def test_a_name_of_a_nemo_model_is_taken_on_trust(model: str) -> None:
    check_model(model)
