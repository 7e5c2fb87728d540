"""Where a model's files are: a folder or file, or the local cache of a model hub."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from curate.errors import InfrastructureError, PlanError

SIZES = (
    *("tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en"),
    *("large-v1", "large-v2", "large-v3", "large", "large-v3-turbo", "turbo"),
)
"""The names of OpenAI's models."""

DISTILLED = ("distil-small.en", "distil-medium.en", "distil-large-v2", "distil-large-v3", "distil-large-v3.5")
"""Further names that faster-whisper knows."""


def local_path(model: str | Path) -> Path | None:
    """Return the folder or file that a model's name means; None where it is a name in a cache."""
    name = str(model)
    path = Path(name).expanduser()
    if isinstance(model, Path) or name.startswith(("/", "./", "../", "~")) or name.endswith((".pt", ".bin")):
        return path
    return path if path.exists() else None


def check_name(recogniser: str, model: str | Path, known: tuple[str, ...], *, hub: bool) -> None:
    """Check what a model's name says, without reading the model.

    Args:
        recogniser: the name of the recogniser, for messages.
        model: a path, or a name.
        known: the names without an owner.
        hub: whether names of the form `owner/name` may be models of this recogniser.

    Raises:
        PlanError: no model of this recogniser can have that name, or the path does not exist.
    """
    name = str(model).strip()
    if not name:
        raise PlanError(f"{recogniser}: model is empty: give a folder, or one of {', '.join(known)}")
    path = local_path(model)
    if path is not None:
        if not path.exists():
            raise PlanError(f"{recogniser}: the model {path} does not exist")
        return
    owner, slash, _ = name.partition("/")
    if name.endswith(".nemo") or owner == "nvidia":
        raise PlanError(f"{recogniser}: {name!r} is a NeMo model: use the stage `asr_nemo` with it")
    if owner == "openai":
        raise PlanError(
            f"{recogniser}: {name!r} is a checkpoint of Hugging Face's transformers: use the recogniser `transformers` "
            f"with it, or the same weights as model: {name.rpartition('whisper-')[2]}"
        )
    if slash and hub:
        return
    if name not in known:
        raise PlanError(f"{recogniser}: unknown model {name!r}: give a folder or file, or one of {', '.join(known)}")


def model_sha256(path: Path | None, name: str) -> str | None:
    """Return the checksum of a model's file, which is read once for each version of it; None where there is no file."""
    file = None if path is None else path / name if path.is_dir() else path
    return None if file is None or not file.is_file() else _sha256(file, file.stat().st_mtime_ns)


def missing(recogniser: str, model: str | Path, reason: object) -> InfrastructureError:
    """Return the error for a model that is not on this machine."""
    return InfrastructureError(
        f"{recogniser}: the model {str(model)!r} is not on this machine, and nothing is downloaded unless "
        f"`download: true` allows it: {reason}"
    )


@cache
def _sha256(path: Path, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
