"""Local attention of NeMo's conformers: each frame attends to its neighbours, so memory grows with the length alone."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, cast

from curate.errors import InfrastructureError, PlanError

_RELATIVE = ("rel_pos", "rel_pos_local_attn")
"""The kinds of attention whose weights local attention can use."""

_DEFAULTS: Mapping[str, float] = MappingProxyType(
    {"dropout": 0.0, "dropout_emb": 0.0, "dropout_att": 0.0, "pos_emb_max_len": 5000}
)
"""Values of a conformer's configuration that it need not have. A model that is evaluated drops nothing out."""


def encoder_attention(config: Mapping[str, Any]) -> str | None:
    """Return the kind of attention that a model's configuration names for its conformer; None: it has no conformer."""
    found: Any = config.get("encoder")
    encoder = cast("dict[str, Any]", found) if isinstance(found, dict) else dict[str, Any]()
    if not str(encoder.get("_target_", "")).endswith("ConformerEncoder"):
        return None
    return str(encoder.get("self_attention_model", _RELATIVE[0]))


def check_local_attention(name: str, frames: int | None, attention: str | None) -> None:
    """Check that an encoder with this kind of attention can attend to `frames` frames on either side; None: to all.

    Raises:
        PlanError: it cannot.
    """
    if frames is not None and attention not in _RELATIVE:
        has = "has no conformer" if attention is None else f"has the attention {attention!r}"
        raise PlanError(f"{name}: the model {has}, and local_attention needs one with relative positions; leave it out")


def attend_locally(model: Any, frames: int) -> None:
    """Let each frame of a model's encoder attend to as many frames on either side, instead of to all.

    Raises:
        InfrastructureError: the encoder cannot.
    """
    encoder = model.encoder
    if getattr(encoder, "self_attention_model", None) not in _RELATIVE:
        raise InfrastructureError(f"local_attention: {type(encoder).__name__} has no relative positions; leave it out")
    omegaconf: Any = import_module("omegaconf")
    with omegaconf.open_dict(encoder._cfg) as config:  # noqa: SLF001 (NeMo reads these from it, and may lack them)
        for name, value in _DEFAULTS.items():
            config.setdefault(name, value)
    encoder.change_attention_model(_RELATIVE[1], [frames, frames])
