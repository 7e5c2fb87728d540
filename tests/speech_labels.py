"""Tiny NeMo models that label speech, with seeded random weights, one builder for each architecture that can be run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

RATE_HZ = 16_000
LANGUAGES = ["deu", "eng", "fra", "jpn"]


def tiny_speaker(path: Path, seed: int = 0) -> Path:
    """Save a model for speakers (`EncDecSpeakerLabelModel`), as TitaNet and AmberNet are."""
    decoder = {
        "_target_": "nemo.collections.asr.modules.SpeakerDecoder",
        "feat_in": 24,
        "num_classes": len(LANGUAGES),
        "pool_mode": "attention",
        "emb_sizes": 16,
        "attention_channels": 8,
    }
    # NeMo reads the labels of a data set that it does not have here.
    config = _common(se=True) | {"decoder": decoder, "labels": LANGUAGES}
    return _save("EncDecSpeakerLabelModel", config, path, seed)


def tiny_window_vad(path: Path, seed: int = 0) -> Path:
    """Save a model that classifies windows (`EncDecClassificationModel`), as the first MarbleNet."""
    decoder = {
        "_target_": "nemo.collections.asr.modules.ConvASRDecoderClassification",
        "feat_in": 24,
        "num_classes": 2,
        "return_logits": True,
        "pooling_type": "avg",
    }
    return _save("EncDecClassificationModel", _common() | {"decoder": decoder, "labels": _VOICE}, path, seed)


def tiny_frame_vad(path: Path, seed: int = 0) -> Path:
    """Save a model that classifies frames of 20 ms (`EncDecFrameClassificationModel`), as the second MarbleNet."""
    decoder = {
        "_target_": "nemo.collections.common.parts.MultiLayerPerceptron",
        "hidden_size": 24,
        "num_classes": 2,
        "num_layers": 1,
        "activation": "relu",
        "log_softmax": False,
    }
    config = _common(stride=2) | {"decoder": decoder, "labels": _VOICE}
    return _save("EncDecFrameClassificationModel", config, path, seed)


_VOICE = ["background", "speech"]


def _common(*, stride: int = 1, se: bool = False) -> dict[str, Any]:
    first: dict[str, Any] = {
        "filters": 24,
        "repeat": 1,
        "kernel": [5],
        "stride": [stride],
        "dilation": [1],
        "dropout": 0.0,
        "residual": False,
        "separable": True,
        "se": se,
    }
    return {
        "sample_rate": RATE_HZ,
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": RATE_HZ,
            "normalize": "per_feature",
            "window_size": 0.025,
            "window_stride": 0.01,
            "features": 40,
            "n_fft": 512,
            "dither": 1e-5,
            "pad_to": 16,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConvASREncoder",
            "feat_in": 40,
            "activation": "relu",
            "conv_mask": True,
            "jasper": [first, {**first, "stride": [1], "kernel": [3]}],
        },
        "train_ds": None,
        "validation_ds": None,
        "test_ds": None,
    }


def _save(class_name: str, config: dict[str, Any], path: Path, seed: int) -> Path:
    import nemo.collections.asr as nemo_asr
    import torch
    from nemo.utils import logging as nemo_logging
    from omegaconf import OmegaConf

    nemo_logging.setLevel("ERROR")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(nemo_asr.models, class_name)(cfg=OmegaConf.create(config), trainer=None)
    model.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save_to(str(path))
    return path
