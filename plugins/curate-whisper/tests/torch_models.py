"""Torch Whisper models for tests: random weights, and tiny.en converted from CTranslate2's file."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np


def save_random(path: Path, *, n_mels: int, n_vocab: int, end_scale: float, seed: int = 0) -> Path:
    """Write a small model of random weights whose texts end after different numbers of tokens."""
    torch: Any = import_module("torch")
    model: Any = import_module("whisper.model")
    torch.manual_seed(seed)
    dims = {
        "n_mels": n_mels, "n_audio_ctx": 1500, "n_audio_state": 64, "n_audio_head": 2, "n_audio_layer": 2,
        "n_vocab": n_vocab, "n_text_ctx": 448, "n_text_state": 64, "n_text_head": 2, "n_text_layer": 2,
    }  # fmt: skip
    whisper: Any = model.Whisper(model.ModelDimensions(**dims))
    with torch.no_grad():
        whisper.decoder.token_embedding.weight.normal_(0, 0.2)
        whisper.decoder.positional_embedding.normal_(0, 0.3)
        for block in whisper.decoder.blocks:  # the audio matters more than in a network that has not learnt anything
            block.cross_attn.query.weight.mul_(6)
            block.cross_attn.key.weight.mul_(6)
            block.cross_attn.out.weight.mul_(8)
        end = 50256 if n_vocab == 51864 else 50257
        whisper.decoder.token_embedding.weight[end] *= end_scale
    torch.save({"dims": dims, "model_state_dict": whisper.state_dict()}, path)
    return path


def save_converted(path: Path, folder: Path) -> Path:
    """Write a model in OpenAI's format from one in CTranslate2's: int8 weights times their scales."""
    torch: Any = import_module("torch")
    found = dict(_variables((folder / "model.bin").read_bytes()))
    weights = {
        name: found[name].astype(np.float32) / found[f"{name}_scale"].reshape(-1, *[1] * (found[name].ndim - 1))
        if f"{name}_scale" in found
        else found[name].astype(np.float32)
        for name in found
        if not name.endswith("_scale")
    }
    state: dict[str, Any] = {
        "encoder.positional_embedding": weights["encoder/position_encodings/encodings"],
        "decoder.positional_embedding": weights["decoder/position_encodings/encodings"],
        "decoder.token_embedding.weight": weights["decoder/embeddings/weight"],
    }

    def copy(ours: str, theirs: str, rows: slice | None = None) -> None:
        for name in ("weight", "bias"):
            value = weights.get(f"{theirs}/{name}")
            if value is not None and not (name == "bias" and ours.endswith(".key")):
                state[f"{ours}.{name}"] = value if rows is None else value[rows]

    def copy_norm(ours: str, theirs: str) -> None:
        state[f"{ours}.weight"], state[f"{ours}.bias"] = weights[f"{theirs}/gamma"], weights[f"{theirs}/beta"]

    width = state["encoder.positional_embedding"].shape[1]
    thirds = [slice(part * width, (part + 1) * width) for part in range(3)]
    layers = {side: sum(f"{side}/layer_{n}/ffn/layer_norm/gamma" in weights for n in range(99)) for side in
              ("encoder", "decoder")}  # fmt: skip
    for name in ("conv1", "conv2"):
        copy(f"encoder.{name}", f"encoder/{name}")
    copy_norm("encoder.ln_post", "encoder/layer_norm")
    copy_norm("decoder.ln", "decoder/layer_norm")
    for side, count in layers.items():
        for n in range(count):
            ours, theirs = f"{side}.blocks.{n}", f"{side}/layer_{n}"
            for name, rows in zip(("query", "key", "value"), thirds, strict=True):
                copy(f"{ours}.attn.{name}", f"{theirs}/self_attention/linear_0", rows)
            copy(f"{ours}.attn.out", f"{theirs}/self_attention/linear_1")
            copy_norm(f"{ours}.attn_ln", f"{theirs}/self_attention/layer_norm")
            if side == "decoder":
                copy(f"{ours}.cross_attn.query", f"{theirs}/attention/linear_0")
                copy(f"{ours}.cross_attn.key", f"{theirs}/attention/linear_1", thirds[0])
                copy(f"{ours}.cross_attn.value", f"{theirs}/attention/linear_1", thirds[1])
                copy(f"{ours}.cross_attn.out", f"{theirs}/attention/linear_2")
                copy_norm(f"{ours}.cross_attn_ln", f"{theirs}/attention/layer_norm")
            copy(f"{ours}.mlp.0", f"{theirs}/ffn/linear_0")
            copy(f"{ours}.mlp.2", f"{theirs}/ffn/linear_1")
            copy_norm(f"{ours}.mlp_ln", f"{theirs}/ffn/layer_norm")
    heads = width // 64
    vocabulary = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    n_vocab = state["decoder.token_embedding.weight"].shape[0]
    assert n_vocab >= vocabulary
    dims = {
        "n_mels": state["encoder.conv1.weight"].shape[1], "n_audio_ctx": 1500, "n_audio_state": width,
        "n_audio_head": heads, "n_audio_layer": layers["encoder"], "n_vocab": n_vocab, "n_text_ctx": 448,
        "n_text_state": width, "n_text_head": heads, "n_text_layer": layers["decoder"],
    }  # fmt: skip
    tensors = {name: torch.tensor(np.ascontiguousarray(value)) for name, value in state.items()}
    torch.save({"dims": dims, "model_state_dict": tensors}, path)
    return path


def _variables(data: bytes) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of a CTranslate2 model by name."""
    kinds: Any = (np.float32, np.int8, np.int16, np.int32, np.float16)
    at = 4

    def take(form: str) -> Any:
        nonlocal at
        [value] = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize(form)
        return value

    def take_name() -> str:
        nonlocal at
        length = take("H")
        name = data[at : at + length - 1].decode()
        at += length
        return name

    take_name()
    take("I")
    for _ in range(take("I")):
        name = take_name()
        shape = [take("I") for _ in range(take("B"))]
        kind = kinds[take("B")]
        size = take("I")
        yield name, np.frombuffer(data, kind, size // np.dtype(kind).itemsize, at).reshape(shape)
        at += size
