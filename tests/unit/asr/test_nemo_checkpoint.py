"""Mistakes about the model are found early, said clearly, and nothing foreign is ever run."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.asr import NemoRecogniser, check_model
from curate.asr import checkpoint as checkpoint_module
from curate.asr.checkpoint import local_path, read_checkpoint
from curate.errors import CurateError, InfrastructureError, PlanError

GOOD_CONFIG = """
target: nemo.collections.asr.models.ctc_models.EncDecCTCModel
preprocessor: {_target_: nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor}
"""
HYBRID_CONFIG = "target: nemo.collections.asr.models.EncDecHybridRNNTCTCBPEModel\n"


def archive(path: Path, *members: tuple[str, str | bytes], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def nemo_file(path: Path, config: str) -> Path:
    return archive(path, ("./model_config.yaml", config), ("./model_weights.ckpt", b"\0" * 100))


def test_paths_are_told_from_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_path("model.nemo") == Path("model.nemo")
    assert local_path("models/a.nemo") == Path("models/a.nemo")
    assert local_path("./model") == Path("model")
    assert local_path("nvidia/parakeet-tdt-0.6b-v2") is None
    assert local_path("stt_en_conformer_ctc_small") is None
    Path("mine").write_bytes(b"")
    assert local_path("mine") == Path("mine")


def test_a_pretrained_name_is_taken_on_trust_at_plan_time() -> None:
    check_model("nvidia/parakeet-tdt-0.6b-v2", decoder="rnnt")


def test_a_good_file_passes(tmp_path: Path) -> None:
    path = nemo_file(tmp_path / "m.nemo", GOOD_CONFIG)
    check_model(path)
    check_model(str(path), decoder="ctc")
    assert read_checkpoint(path).decoders == ("ctc",)


def test_local_attention_needs_a_conformer_with_relative_positions(tmp_path: Path) -> None:
    conformer = "encoder: {_target_: nemo.collections.asr.modules.ConformerEncoder, self_attention_model: %s}\n"
    check_model(nemo_file(tmp_path / "good.nemo", GOOD_CONFIG + conformer % "rel_pos"), local_attention=128)
    without = nemo_file(tmp_path / "quartz.nemo", GOOD_CONFIG)
    check_model(without)
    with pytest.raises(PlanError, match="no conformer"):
        check_model(without, local_attention=128)
    with pytest.raises(PlanError, match="'abs_pos'"):
        check_model(nemo_file(tmp_path / "abs.nemo", GOOD_CONFIG + conformer % "abs_pos"), local_attention=128)
    with pytest.raises(PlanError, match="at least 1 frame"):
        NemoRecogniser(without, local_attention=0)


def test_checksum_of_a_model_follows_its_content(tmp_path: Path) -> None:
    path = nemo_file(tmp_path / "m.nemo", GOOD_CONFIG)
    before = NemoRecogniser(path).fingerprint()
    assert before == NemoRecogniser(str(path)).fingerprint() and set(before) == {"model_sha256"}
    nemo_file(path, GOOD_CONFIG + "retrained: true\n")
    os.utime(path, ns=(0, 1))
    assert NemoRecogniser(path).fingerprint() != before
    assert NemoRecogniser("nvidia/parakeet-tdt-0.6b-v2").fingerprint() == {}


def test_an_old_gzipped_file_passes(tmp_path: Path) -> None:
    members = ("model_config.yaml", GOOD_CONFIG), ("model_weights.ckpt", b"")
    check_model(archive(tmp_path / "m.nemo", *members, mode="w:gz"))


def test_a_configuration_below_model_is_understood(tmp_path: Path) -> None:
    config = "model:\n  target: nemo.collections.asr.models.EncDecRNNTModel\n"
    assert read_checkpoint(nemo_file(tmp_path / "m.nemo", config)).decoders == ("rnnt",)


def test_plan_errors_name_the_file_the_reason_and_the_remedy(tmp_path: Path) -> None:
    def refused(path: Path | str, because: str, decoder: str | None = None) -> None:
        with pytest.raises(PlanError, match=because) as caught:
            check_model(path, decoder)
        assert str(path) in str(caught.value)

    refused("", "model_name is empty")
    refused(tmp_path / "no.nemo", "there is no such model file .* give the path of an existing .nemo file")
    (tmp_path / "folder.nemo").mkdir()
    refused(tmp_path / "folder.nemo", "is a directory")
    os.mkfifo(tmp_path / "pipe.nemo")
    refused(tmp_path / "pipe.nemo", "not a regular file")

    def written(content: bytes) -> Path:
        path = tmp_path / "thing.nemo"
        path.write_bytes(content)
        return path

    refused(written(b""), "it is empty")
    refused(written(b"hello" * 1000), "not a tar archive, or a damaged one .* fetch it again")
    refused(written(b"version https://git-lfs.github.com/spec/v1\noid sha256:1"), "git lfs pull")
    refused(written(b"\n<!DOCTYPE html><html>"), "HTML .* the download went wrong")
    refused(written(b"PK\x03\x04" + b"\0" * 600), "zip archive")
    whole = nemo_file(tmp_path / "m.nemo", GOOD_CONFIG).read_bytes()
    refused(written(whole[:600]), "damaged one .*unexpected end of data.* fetch it again")
    refused(written(whole[:1100]), "has no model_weights.ckpt; it may have been cut short")
    refused(written(whole[:1580]), "damaged one .*unexpected end of data")
    refused(archive(tmp_path / "tar.nemo", ("readme.txt", "hello")), "exactly one model_config.yaml")
    refused(nemo_file(tmp_path / "yaml.nemo", "a: [1"), "not valid YAML")
    refused(nemo_file(tmp_path / "list.nemo", "- 1"), "not a mapping")
    refused(nemo_file(tmp_path / "ctc.nemo", GOOD_CONFIG), "'rnnt' is asked for, but this EncDecCTCModel has", "rnnt")
    check_model(nemo_file(tmp_path / "hybrid.nemo", HYBRID_CONFIG), "ctc")
    check_model(tmp_path / "hybrid.nemo", "rnnt")


@pytest.mark.parametrize(
    ("config", "because"),
    [
        ("target: os.system\nparams: {command: touch evil}\n", "its model class is 'os.system'"),
        ("labels: [a]\n", "its model class is None"),
        ("target: nemo.collections.asr.models.EncDecMultiTaskModel\n", "EncDecMultiTaskModel cannot be run"),
        ("target: nemo.collections.tts.models.FastPitchModel\n", "its model class is"),
        (GOOD_CONFIG + "encoder: {_target_: os.system, command: touch evil}\n", r"'os.system' at encoder._target_"),
        (GOOD_CONFIG + "parts: [{deep: [{_target_: subprocess.run}]}]\n", r"at parts\[0\].deep\[0\]._target_"),
        (GOOD_CONFIG + "spec_augment: {cls: builtins.eval, params: {}}\n", "'builtins.eval' at spec_augment.cls"),
        (GOOD_CONFIG + "a: &a {_target_: os.system}\nb: [*a, *a]\n", "os.system"),
        ('evil: os.system\nencoder: {_target_: "${evil}"}\n' + GOOD_CONFIG, r"foreign class '\$\{evil\}'"),
        (GOOD_CONFIG + "evil: !!python/object/apply:os.system ['touch evil']\n", "not valid YAML"),
    ],
)
def test_a_checkpoint_that_names_foreign_code_is_refused(config: str, because: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=because):
        check_model(nemo_file(tmp_path / "evil.nemo", config))


def test_a_second_configuration_cannot_hide_behind_a_good_one(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "two.nemo", ("./model_config.yaml", GOOD_CONFIG), ("model_config.yaml", "target: os.system")
    )
    with pytest.raises(PlanError, match="exactly one"):
        check_model(path)


def test_aliases_that_expand_without_end_are_refused(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    with pytest.raises(PlanError, match="expands to more than 1,000,000 values by YAML aliases"):
        check_model(nemo_file(tmp_path / "bomb.nemo", GOOD_CONFIG + bomb))


@pytest.mark.parametrize(
    ("options", "because"),
    [
        ({"dtype": "int8"}, "dtype must be one of auto, fp32, bf16, fp16, not 'int8'"),
        ({"decoder": "aed"}, "decoder must be one of None, ctc, rnnt, not 'aed'"),
        ({"decoding": "beam"}, "decoding must be one of greedy_batch, greedy, not 'beam'"),
        ({"device": "tpu"}, "device must be cpu, cuda or cuda:<index>, not 'tpu'"),
        ({"threads": 0}, "threads must be at least 1"),
    ],
)
def test_options_that_no_model_can_take_are_plan_errors(options: dict[str, Any], because: str) -> None:
    with pytest.raises(PlanError, match=because):
        NemoRecogniser("model.nemo", **options)


def test_at_setup_the_same_mistakes_are_infrastructure_errors(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="there is no such model file"):
        NemoRecogniser(tmp_path / "no.nemo").setup()
    with pytest.raises(InfrastructureError, match=r"'rnnt' is asked for, .* use a hybrid model"):
        NemoRecogniser(nemo_file(tmp_path / "ctc.nemo", GOOD_CONFIG), decoder="rnnt").setup()


def test_a_missing_nemo_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise checkpoint_module.PackageNotFoundError(name)

    monkeypatch.setattr(checkpoint_module, "version", missing)
    with pytest.raises(InfrastructureError, match=r"pip install 'curate-speech\[nemo\]'"):
        NemoRecogniser(nemo_file(tmp_path / "m.nemo", GOOD_CONFIG)).setup()


def test_a_nemo_before_3_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_module, "version", lambda name: "2.5.1")
    with pytest.raises(InfrastructureError, match=r"nemo_toolkit 2\.5\.1 .* only safe from 3\.0 on"):
        NemoRecogniser(nemo_file(tmp_path / "m.nemo", GOOD_CONFIG)).setup()


@pytest.mark.nemo
def test_a_pretrained_name_without_a_network_names_the_remedy(nemo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InfrastructureError, match=r"download its \.nemo file .* HF_HUB_CACHE") as caught:
        NemoRecogniser("nobody/has-such-a-model").setup()
    assert caught.value.__cause__ is not None
    with pytest.raises(InfrastructureError, match=r"'misspelt_name' could not be fetched .* was not found"):
        NemoRecogniser("misspelt_name").setup()


@pytest.mark.nemo
def test_weights_that_do_not_fit_the_model_are_reported_with_their_cause(nemo: Any, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="the model cannot be restored") as caught:
        NemoRecogniser(nemo_file(tmp_path / "m.nemo", GOOD_CONFIG)).setup()
    assert caught.value.__cause__ is not None
    assert isinstance(caught.value, CurateError)


@pytest.mark.nemo
def test_pickled_weights_are_not_run_even_where_the_environment_allows_it(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "evil"),))

    with tarfile.open(checkpoint("ctc")) as good:
        members = [(m.name, good.extractfile(m).read()) for m in good if m.isfile()]  # type: ignore[union-attr]
    evil = [(name, pickle.dumps(Evil()) if name.endswith(".ckpt") else data) for name, data in members]
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(InfrastructureError, match="cannot be restored"):
        NemoRecogniser(archive(tmp_path / "evil.nemo", *evil)).setup()
    assert not (tmp_path / "evil").exists()
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ


@pytest.mark.nemo
def test_a_gpu_that_is_not_there_is_an_infrastructure_error(checkpoint: Callable[[str], Path]) -> None:
    import torch

    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(InfrastructureError, match="GPU"):
        NemoRecogniser(checkpoint("ctc"), device=absent).setup()


@pytest.mark.nemo
def test_a_model_that_cannot_run_is_found_at_setup(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError('"conv" not implemented for Half')

    monkeypatch.setattr("curate.asr.decoding.Decoding.__call__", fail)
    engine = NemoRecogniser(checkpoint("ctc"), dtype="fp16")
    with pytest.raises(InfrastructureError, match=r"does not run in fp16 on cpu: RuntimeError: .*not implemented"):
        engine.setup()
    assert engine._loaded is None


@pytest.mark.nemo
def test_frame_looping_is_refused_for_models_that_predict_durations(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(InfrastructureError, match="no frame looping"):
        NemoRecogniser(checkpoint("tdt"), label_looping=False).setup()


@pytest.mark.nemo
def test_setup_and_transcribe_print_nothing(nemo_process: dict[str, Any]) -> None:
    assert (nemo_process["stdout"], nemo_process["stderr"]) == ("", "")


@pytest.mark.nemo
def test_setup_leaves_warnings_and_the_root_logger_alone(nemo_process: dict[str, Any]) -> None:
    assert nemo_process["showwarning_is_kept"]
    assert nemo_process["root_handlers_are_kept"]


@pytest.mark.nemo
def test_nemo_is_imported_by_setup_and_not_before(nemo_process: dict[str, Any]) -> None:
    assert nemo_process["loaded_before_setup"] == []
    assert {"torch", "nemo"} <= set(nemo_process["loaded_after_setup"])


@pytest.mark.nemo
def test_messages_of_nemo_are_logged_one_level_lower(nemo_process: dict[str, Any]) -> None:
    assert nemo_process["logged"] == [["DEBUG", "nemo_logger: careful"], ["WARNING", "nemo_logger: broken"]]
