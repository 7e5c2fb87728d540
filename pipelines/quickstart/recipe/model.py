"""The demo's recogniser: a FastConformer with CTC and transducer heads, small enough to ship and to train here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .speech import RATE_HZ

if TYPE_CHECKING:
    from nemo.collections.asr.models import EncDecCTCModel, EncDecHybridRNNTCTCModel

LETTERS = [" ", "'", *"abcdefghijklmnopqrstuvwxyz"]
N_FEATURES = 80
D_MODEL = 96
LAYERS = 4
HIDDEN = 64  # of the transducer's prediction and joint networks


def build_config() -> dict[str, Any]:
    """Return the model's NeMo configuration: about 1.1 million parameters, one output step per 40 ms."""
    return {
        "sample_rate": RATE_HZ,
        "labels": LETTERS,
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": RATE_HZ,
            "normalize": "per_feature",
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "features": N_FEATURES,
            "n_fft": 512,
            "dither": 0.0,
            "pad_to": 0,
        },
        "spec_augment": {
            "_target_": "nemo.collections.asr.modules.SpectrogramAugmentation",
            "freq_masks": 1,
            "freq_width": 15,
            "time_masks": 2,
            "time_width": 0.03,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConformerEncoder",
            "feat_in": N_FEATURES,
            "feat_out": -1,
            "n_layers": LAYERS,
            "d_model": D_MODEL,
            "n_heads": 4,
            "subsampling": "dw_striding",
            "subsampling_factor": 4,
            "subsampling_conv_channels": D_MODEL,
            "ff_expansion_factor": 4,
            "self_attention_model": "rel_pos",
            "att_context_size": [-1, -1],
            "xscaling": False,
            "conv_kernel_size": 9,
            "conv_norm_type": "batch_norm",
            "dropout": 0.1,
            "dropout_pre_encoder": 0.1,
            "dropout_emb": 0.0,
            "dropout_att": 0.1,
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "feat_in": D_MODEL,
            "num_classes": len(LETTERS),
            "vocabulary": LETTERS,
        },
        "decoding": {"strategy": "greedy_batch"},
        "ctc_reduction": "mean_batch",
        "optim": {"name": "adamw", "lr": 1e-3},
        "train_ds": None,
        "validation_ds": None,
    }


def build_model() -> EncDecCTCModel:
    """Return the CTC model with random weights from torch's current seed."""
    return _build("EncDecCTCModel", build_config())


def _build(class_name: str, config: dict[str, Any]) -> Any:
    import nemo.collections.asr as nemo_asr
    from omegaconf import OmegaConf, open_dict

    model = getattr(nemo_asr.models, class_name)(cfg=OmegaConf.create(config), trainer=None)
    with open_dict(model.cfg):  # transcribe() reads this section, so it must be there
        model.cfg.validation_ds = {"manifest_filepath": None, "sample_rate": RATE_HZ, "batch_size": 1}
    return model


def build_hybrid_config() -> dict[str, Any]:
    """Return the configuration of the same recogniser with a character transducer in addition to the CTC head."""
    config = build_config()
    ctc_decoder, vocabulary = config["decoder"], {"num_classes": len(LETTERS), "vocabulary": LETTERS}
    return config | {
        "model_defaults": {"enc_hidden": D_MODEL, "pred_hidden": HIDDEN, "joint_hidden": HIDDEN},
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "normalization_mode": None,
            "random_state_sampling": False,
            "blank_as_pad": True,
            "vocab_size": len(LETTERS),
            "prednet": {"pred_hidden": HIDDEN, "pred_rnn_layers": 1, "t_max": None, "dropout": 0.1},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None,
            "preserve_memory": False,
            "fuse_loss_wer": False,
            "fused_batch_size": -1,
            "jointnet": {
                "encoder_hidden": D_MODEL,
                "pred_hidden": HIDDEN,
                "joint_hidden": HIDDEN,
                "activation": "relu",
                "dropout": 0.1,
            },
            **vocabulary,
        },
        "decoding": {"strategy": "greedy_batch", "greedy": {"max_symbols": 10, "loop_labels": True}},
        "rnnt_reduction": "mean_batch",
        "loss": {"loss_name": "default", "warprnnt_numba_kwargs": {"fastemit_lambda": 0.0, "clamp": -1.0}},
        "aux_ctc": {
            "ctc_loss_weight": 0.3,
            "use_cer": False,
            "ctc_reduction": "mean_batch",
            "decoder": ctc_decoder,
            "decoding": {"strategy": "greedy_batch"},
        },
    }


def build_hybrid() -> EncDecHybridRNNTCTCModel:
    """Return the hybrid with random weights from torch's current seed."""
    return _build("EncDecHybridRNNTCTCModel", build_hybrid_config())


def load_model(path: Path) -> Any:
    """Return a saved model, CTC or hybrid, in fp32 on the CPU, ready for `transcribe`."""
    from nemo.collections.asr.models import ASRModel

    model = ASRModel.restore_from(str(path), map_location="cpu")
    model.freeze()
    return model.eval()


def save_in_half(model: Any, path: Path) -> None:
    """Save `model` with fp16 weights, which `restore_from` reads back into fp32; the filter bank stays fp32."""
    for part in ("encoder", "decoder", "joint", "ctc_decoder"):
        if hasattr(model, part):
            getattr(model, part).half()
    for name, weight in model.state_dict().items():
        if not torch.isfinite(weight.float()).all():
            raise ValueError(f"{name} does not fit into fp16")
    model.save_to(str(path))
    model.float()


def transcribe(model: Any, clips: list[np.ndarray]) -> list[str]:
    """Return one text per clip (float32 mono at `RATE_HZ`), by a direct forward pass over all clips at once."""
    lengths = torch.tensor([len(clip) for clip in clips])
    signal = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(clip) for clip in clips], batch_first=True)
    with torch.inference_mode():
        features, frames = model.preprocessor(input_signal=signal, length=lengths)
        encoded, steps = model.encoder(audio_signal=features, length=frames)
        if hasattr(model, "joint"):
            hypotheses = model.decoding.rnnt_decoder_predictions_tensor(encoded, steps, return_hypotheses=True)
        else:
            log_probs = model.decoder(encoder_output=encoded)
            hypotheses = model.decoding.ctc_decoder_predictions_tensor(log_probs, decoder_lengths=steps)
    return [hypothesis.text for hypothesis in hypotheses]
