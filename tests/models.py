"""Tiny NeMo models with seeded random weights, one builder per architecture, for tests that compare text.

Nothing here has learnt anything: the words are gibberish, but the same gibberish for the same audio. Freshly
initialised models say nothing at all, or one letter for ever; `_enliven` rescales the output layers until they emit a
mixture of letters and blanks, so that a comparison of two decoders means something. Each builder takes the path of the
`.nemo` file to write and returns it. No network; NeMo and torch are imported inside.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

RATE_HZ = 16_000
LETTERS = [" ", "'", *"abcdefghijklmnopqrstuvwxyz"]
TDT_DURATIONS = [0, 1, 2, 3, 4]

_D_MODEL = 32
_HIDDEN = 32
_BLANK_SHARE = 0.6
_LOGIT_SPREAD = 3.0
_PREDICTION_SPREAD = 0.4  # of what the encoder contributes: more, and the text runs on without listening
_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "oh"]


def tiny_ctc(path: Path | str, seed: int = 0) -> Path:
    """Save a character CTC model (`EncDecCTCModel`)."""
    config = _common() | {"labels": LETTERS, "decoder": _ctc_decoder(LETTERS), "ctc_reduction": "mean_batch"}
    return _save("EncDecCTCModel", config, Path(path), seed)


def tiny_ctc_bpe(path: Path | str, seed: int = 0) -> Path:
    """Save a CTC model over SentencePiece pieces (`EncDecCTCModelBPE`)."""
    config = _common() | {"decoder": _ctc_decoder([]), "ctc_reduction": "mean_batch"}
    return _save_with_pieces("EncDecCTCModelBPE", config, Path(path), seed)


def tiny_rnnt(path: Path | str, seed: int = 0) -> Path:
    """Save a character transducer (`EncDecRNNTModel`)."""
    return _save("EncDecRNNTModel", _common() | _transducer(LETTERS), Path(path), seed)


def tiny_tdt(path: Path | str, seed: int = 0) -> Path:
    """Save a character token-and-duration transducer (`EncDecRNNTModel` with `TDT_DURATIONS`)."""
    config = _common() | _transducer(LETTERS)
    config["joint"]["num_extra_outputs"] = len(TDT_DURATIONS)
    config["decoding"] |= {"model_type": "tdt", "durations": TDT_DURATIONS}
    config["loss"] = {
        "loss_name": "tdt",
        "tdt_kwargs": {"durations": TDT_DURATIONS, "sigma": 0.02, "omega": 0.1, "fastemit_lambda": 0.0, "clamp": -1.0},
    }
    return _save("EncDecRNNTModel", config, Path(path), seed)


def tiny_hybrid(path: Path | str, seed: int = 0) -> Path:
    """Save a SentencePiece transducer with an auxiliary CTC head (`EncDecHybridRNNTCTCBPEModel`)."""
    config = _common() | _transducer([])
    config["aux_ctc"] = {
        "ctc_loss_weight": 0.3,
        "use_cer": False,
        "ctc_reduction": "mean_batch",
        "decoder": _ctc_decoder([]),
        "decoding": {"strategy": "greedy"},
    }
    return _save_with_pieces("EncDecHybridRNNTCTCBPEModel", config, Path(path), seed)


BUILDERS = {
    "ctc": tiny_ctc,
    "ctc_bpe": tiny_ctc_bpe,
    "rnnt": tiny_rnnt,
    "tdt": tiny_tdt,
    "hybrid": tiny_hybrid,
}


def babble(seed: int = 0, duration_s: float = 4.0) -> Any:
    """Return speech-like audio, float32 at `RATE_HZ`: a gliding voice, hiss and pauses."""
    import numpy as np

    rng = np.random.default_rng(seed)
    samples = int(duration_s * RATE_HZ)
    knots_s = np.arange(0, duration_s + 0.12, 0.12)
    times_s = np.arange(samples) / RATE_HZ

    def glide(low: float, high: float) -> Any:
        return np.interp(times_s, knots_s, rng.uniform(low, high, len(knots_s)))

    phase = 2 * np.pi * np.cumsum(glide(90, 220)) / RATE_HZ
    pitch_hz = np.gradient(phase) * RATE_HZ / (2 * np.pi)
    resonances_hz = [glide(250, 900), glide(900, 2400), glide(2400, 3600)]
    voiced = np.zeros(samples)
    for harmonic in range(1, 30):
        gains = [1 / (1 + ((harmonic * pitch_hz - centre_hz) / 120) ** 2) for centre_hz in resonances_hz]
        voiced += sum(gains) * np.sin(harmonic * phase)
    hiss = np.diff(rng.normal(0, 1, samples + 1))
    audio = voiced * glide(-0.5, 1).clip(0) + hiss * glide(-2, 1).clip(0) + rng.normal(0, 0.005, samples)
    return (0.5 * audio / np.abs(audio).max()).astype(np.float32)


def _common() -> dict[str, Any]:
    preprocessor = {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
        "sample_rate": RATE_HZ,
        "normalize": "per_feature",
        "window_size": 0.025,
        "window_stride": 0.01,
        "features": 80,
        "n_fft": 512,
        "dither": 0.0,
        "pad_to": 0,
    }
    encoder = {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": 80,
        "feat_out": -1,
        "n_layers": 2,
        "d_model": _D_MODEL,
        "n_heads": 4,
        "subsampling": "dw_striding",
        "subsampling_factor": 8,
        "subsampling_conv_channels": _D_MODEL,
        "ff_expansion_factor": 4,
        "self_attention_model": "rel_pos",
        "conv_kernel_size": 9,
        "conv_norm_type": "batch_norm",
    }
    return {
        "sample_rate": RATE_HZ,
        "preprocessor": preprocessor,
        "encoder": encoder,
        "optim": {"name": "adamw", "lr": 1e-3},
        "train_ds": None,
        "validation_ds": None,
    }


def _ctc_decoder(vocabulary: list[str]) -> dict[str, Any]:
    return {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
        "feat_in": _D_MODEL,
        "num_classes": len(vocabulary) or -1,
        "vocabulary": list(vocabulary),
    }


def _transducer(vocabulary: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_defaults": {"enc_hidden": _D_MODEL, "pred_hidden": _HIDDEN, "joint_hidden": _HIDDEN},
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "normalization_mode": None,
            "blank_as_pad": True,
            "prednet": {"pred_hidden": _HIDDEN, "pred_rnn_layers": 1, "dropout": 0.0},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None,
            "fuse_loss_wer": False,
            "jointnet": {"joint_hidden": _HIDDEN, "activation": "relu", "dropout": 0.0},
        },
        "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": 5}, "beam": {"beam_size": 2}},
        "loss": {"loss_name": "default"},
        "rnnt_reduction": "mean_batch",
    }
    if vocabulary:
        config["labels"] = list(vocabulary)
        config["decoder"]["vocab_size"] = len(vocabulary)
        config["joint"] |= {"num_classes": len(vocabulary), "vocabulary": list(vocabulary)}
    return config


def _save_with_pieces(class_name: str, config: dict[str, Any], path: Path, seed: int) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        _train_pieces(Path(folder), size=30)
        return _save(class_name, config | {"tokenizer": {"dir": folder, "type": "bpe"}}, path, seed)


def _train_pieces(folder: Path, size: int) -> None:
    """Write the SentencePiece model and vocabulary that NeMo expects in a tokenizer folder."""
    import random

    import sentencepiece

    choose = random.Random(0)
    sentences = [" ".join(choose.choices(_DIGITS, k=5)) for _ in range(300)]
    (folder / "text.txt").write_text("\n".join(sentences), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.Train(
        input=str(folder / "text.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=size,
        model_type="bpe",
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    vocabulary = [pieces.id_to_piece(index) for index in range(pieces.get_piece_size())]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")


def _save(class_name: str, config: dict[str, Any], path: Path, seed: int) -> Path:
    import nemo.collections.asr as nemo_asr
    import torch
    from nemo.utils import logging as nemo_logging
    from omegaconf import OmegaConf, open_dict

    nemo_logging.setLevel("ERROR")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(nemo_asr.models, class_name)(cfg=OmegaConf.create(config), trainer=None)
        model.eval()
        _enliven(model, babble(seed))
    with open_dict(model.cfg):  # transcribe() of BPE models reads cfg.validation_ds.get(...)
        model.cfg.validation_ds = {"manifest_filepath": None, "sample_rate": RATE_HZ, "batch_size": 1}
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save_to(str(path))
    return path


def _enliven(model: Any, audio: Any) -> None:
    """Shift and scale the output layers so that every class has its turn and blank wins `_BLANK_SHARE` of the time."""
    import torch

    with torch.no_grad():
        signal = torch.from_numpy(audio)[None]
        features, lengths = model.preprocessor(input_signal=signal, length=torch.tensor([signal.shape[1]]))
        frames, _ = model.encoder(audio_signal=features, length=lengths)  # (1, d_model, T)
    if hasattr(model, "joint"):
        _enliven_joint(model, frames)
    head = getattr(model, "ctc_decoder", None) or (None if hasattr(model, "joint") else model.decoder)
    if head is not None:
        _balance(head.decoder_layers[0], frames[0].T, classes=head.num_classes_with_blank)


def _enliven_joint(model: Any, frames: Any) -> None:
    import torch

    joint = model.joint
    vocabulary_size = joint.num_classes_with_blank - 1 - joint.num_extra_outputs
    with torch.no_grad():
        tokens = torch.randint(0, vocabulary_size, (1, 24))
        states, _, _ = model.decoder(targets=tokens, target_length=torch.tensor([24]))  # (1, hidden, U)
        _standardise(joint.enc, frames[0].T, spread=1.0)
        _standardise(joint.pred, states[0].T, spread=_PREDICTION_SPREAD)
        pairs = joint.enc(frames.mT)[:, :, None] + joint.pred(states.mT)[:, None]  # (1, T, U, hidden)
        hidden = joint.joint_net[:-1](pairs)
    _balance(joint.joint_net[-1], hidden.flatten(0, 2), classes=vocabulary_size + 1)


def _balance(layer: Any, inputs: Any, classes: int) -> None:
    """Give every output of `layer` its turn over `inputs`; blank, the last class, wins `_BLANK_SHARE` of them."""
    import torch

    with torch.no_grad():
        _standardise(layer, inputs, spread=_LOGIT_SPREAD)
        logits = inputs @ layer.weight.reshape(len(layer.weight), -1).T + layer.bias
        margin = logits[:, : classes - 1].max(dim=1).values - logits[:, classes - 1]
        layer.bias[classes - 1] += margin.quantile(_BLANK_SHARE)


def _standardise(layer: Any, inputs: Any, spread: float) -> None:
    """Rescale `layer` so that each of its outputs has mean zero and standard deviation `spread` over `inputs`."""
    import torch

    with torch.no_grad():
        outputs = inputs @ layer.weight.reshape(len(layer.weight), -1).T
        gain = spread / outputs.std(dim=0)
        layer.weight.mul_(gain.reshape(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias.copy_(-outputs.mean(dim=0) * gain)
