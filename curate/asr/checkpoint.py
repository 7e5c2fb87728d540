"""Finds a NeMo checkpoint, looks at it before anything runs, and restores it.

A `.nemo` file is a tar of a configuration, weights and tokenizer files. The configuration names Python classes that
NeMo imports and calls. NeMo 3.0 guards itself (no paths outside its folder, no pickled weights, an allow-list of
classes); older releases do not and are refused. What needs no import of NeMo is checked here first, so that
a mistake is found at plan time, and so that one guard's gap is not the whole defence.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from attrs import frozen

from curate.asr.local_attention import check_local_attention, encoder_attention
from curate.asr.nemo_logging import quiet_nemo
from curate.errors import InfrastructureError, PlanError

INSTALL = "pip install 'curate-speech[nemo]'"

DECODERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "EncDecCTCModel": ("ctc",),
        "EncDecCTCModelBPE": ("ctc",),
        "EncDecRNNTModel": ("rnnt",),
        "EncDecRNNTBPEModel": ("rnnt",),
        "EncDecHybridRNNTCTCModel": ("rnnt", "ctc"),
        "EncDecHybridRNNTCTCBPEModel": ("rnnt", "ctc"),
    }
)
"""The model classes that we can run → their decoders, the default one first. TDT models are of the `rnnt` classes."""

_WHISPER = re.compile(r"(whisper-)?(tiny|base|small|medium)(\.en)?|(whisper-)?large(-v[123])?(-turbo)?|turbo")
_OTHER_KINDS = ("whisper", "wav2vec2", "hubert", "wavlm", "mms-", "speech-t5", "seamless", "moonshine")

_CONFIG = "model_config.yaml"
_MAX_CONFIG_VALUES = 1_000_000
_WEIGHTS = "model_weights.ckpt"
_MAX_CONFIG_BYTES = 64 * 1024**2
_MODEL_PREFIX = "nemo.collections.asr."
_PART_PREFIXES = ("nemo.", "torch.nn.", "torch.optim.")
_CLASS_KEYS = ("_target_", "target", "cls")
_OTHER_THINGS = (
    (b"version https://git-lfs", "a Git LFS pointer; fetch the real file with `git lfs pull`"),
    (b"<", "an HTML or XML page; the download went wrong"),
    (b"PK\x03\x04", "a zip archive, perhaps a bare PyTorch checkpoint; NeMo models are saved with `save_to('x.nemo')`"),
)


@frozen
class Checkpoint:
    """What a `.nemo` file says about itself.

    Args:
        path: the file.
        target: the qualified name of its model class.
        decoders: the decoders it has, the default one first: of `ctc`, `rnnt`.
        attention: the kind of attention of its conformer; None: it has none.
    """

    path: Path
    target: str
    decoders: tuple[str, ...]
    attention: str | None = None


def local_path(model_name: str | Path) -> Path | None:
    """Return the file that `model_name` means, or None where it is the name of a pretrained model."""
    name = str(model_name)
    path = Path(name).expanduser()
    if isinstance(model_name, Path) or name.endswith(".nemo") or name.startswith(("/", "./", "../", "~")):
        return path
    return path if path.exists() else None


def model_fingerprint(model_name: str | Path) -> Mapping[str, str]:
    """Return the sha256 of the file that `model_name` means; nothing for the name of a pretrained model."""
    path = local_path(model_name)
    if path is None or not path.is_file():
        return {}
    return {"model_sha256": file_sha256(path)}


def file_sha256(path: Path) -> str:
    """Return the checksum of a model's file, which is read once for each version of it."""
    return _sha256_of_version(path, path.stat().st_mtime_ns)


@cache
def _sha256_of_version(path: Path, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_model(model_name: str | Path, decoder: str | None = None, local_attention: int | None = None) -> None:
    """Check `model_name` before work starts, without importing NeMo or reading weights.

    The name of a pretrained model is taken on trust; whether it can be fetched turns out at `setup`.

    Args:
        model_name: the path of a `.nemo` file, or the name of a pretrained model.
        decoder: the decoder that will be asked for, or None.
        local_attention: the frames that each frame will attend to on either side; None: all.

    Raises:
        PlanError: the file is missing, is not a NeMo checkpoint, names a forbidden class, lacks the decoder, or has no
            local attention.
    """
    if not str(model_name).strip():
        raise PlanError("model_name is empty: give the path of a .nemo file or the name of a pretrained model")
    path = local_path(model_name)
    if path is not None:
        checkpoint = read_checkpoint(path)
        choose_decoder(checkpoint, decoder)
        check_local_attention(str(path), local_attention, checkpoint.attention)
    elif other := _recogniser_of(str(model_name)):
        raise PlanError(f"{str(model_name)!r} is not a NeMo model: use the stage `asr` with recogniser: {other}")


def _recogniser_of(name: str) -> str | None:
    """Return the recogniser that a name of other models belongs to; None: it may be a NeMo model's."""
    owner, _, plain = name.lower().rpartition("/")
    if owner in ("nvidia", ""):
        return "whisper" if not owner and _WHISPER.fullmatch(plain) else None
    if "faster-whisper" in plain or "ctranslate2" in plain:
        return "whisper"
    return "transformers" if any(kind in name.lower() for kind in _OTHER_KINDS) else None


def choose_decoder(checkpoint: Checkpoint, decoder: str | None) -> str:
    """Return the decoder to use, the model's default where `decoder` is None.

    Raises:
        PlanError: the model has no such decoder.
    """
    if decoder is None:
        return checkpoint.decoders[0]
    if decoder not in checkpoint.decoders:
        has = " and ".join(checkpoint.decoders)
        raise PlanError(
            f"{checkpoint.path}: decoder {decoder!r} is asked for, but this {checkpoint.target.rpartition('.')[2]} "
            f"has only {has}; leave `decoder` out, or use a hybrid model"
        )
    return decoder


def read_checkpoint(path: Path, classes: Mapping[str, tuple[str, ...]] = DECODERS) -> Checkpoint:
    """Read the configuration inside the `.nemo` file `path` and refuse classes from anywhere but NeMo.

    Args:
        path: the file.
        classes: the model classes that the caller can run → what they have for `Checkpoint.decoders`.

    Raises:
        PlanError: with the path, the reason and the remedy.
    """
    if not path.exists():
        raise PlanError(
            f"{path}: there is no such model file (looked in {path.absolute().parent}); "
            "give the path of an existing .nemo file, or the name of a pretrained model without .nemo"
        )
    if path.is_dir():
        raise PlanError(f"{path}: is a directory; give the path of a .nemo file")
    if not path.is_file():
        raise PlanError(f"{path}: is not a regular file")
    config = _read_config(path)
    target = _model_class(config, path, classes)
    return Checkpoint(path, target, classes[target.rpartition(".")[2]], encoder_attention(config))


def _read_config(path: Path) -> dict[str, Any]:
    import yaml

    try:
        with path.open("rb") as stream:
            mode = "r:gz" if stream.read(2) == b"\x1f\x8b" else "r:"  # compressed before NeMo 1.7
        with tarfile.open(path, mode) as archive:
            members = archive.getmembers()
            configs = [member for member in members if Path(member.name).name == _CONFIG]
            # Of two members of one name, we would check the first and NeMo would extract the last.
            if len(configs) != 1 or not configs[0].isfile() or configs[0].size > _MAX_CONFIG_BYTES:
                raise PlanError(f"{path}: is a tar archive, but no NeMo checkpoint: it needs exactly one {_CONFIG}")
            if not any(Path(member.name).name == _WEIGHTS for member in members):
                raise PlanError(f"{path}: has no {_WEIGHTS}; it may have been cut short: fetch it again")
            content = archive.extractfile(configs[0])
            text = content.read() if content else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise PlanError(f"{path}: is not a .nemo file: {_what_it_is(path, error)}") from error
    try:
        root: Any = cast("Any", yaml).compose(text, Loader=yaml.SafeLoader)
        if _expanded_values(root, {}) > _MAX_CONFIG_VALUES:
            raise PlanError(f"{path}: its {_CONFIG} expands to more than {_MAX_CONFIG_VALUES:,} values by YAML aliases")
        config = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise PlanError(f"{path}: its {_CONFIG} is not valid YAML: {error}") from error
    if isinstance(config, dict) and isinstance(cast("dict[str, Any]", config).get("model"), dict):
        config = cast("dict[str, Any]", config)["model"]
    if not isinstance(config, dict):
        raise PlanError(f"{path}: its {_CONFIG} is not a mapping")
    return cast("dict[str, Any]", config)


def _expanded_values(node: Any, known: dict[int, float]) -> float:
    """Return the number of values of a YAML node with its aliases expanded; infinity if it contains itself.

    A few lines of aliases of aliases expand to more than fits into any memory; loading shares them, and whatever walks
    the configuration afterwards does not.
    """
    found = known.get(id(node))
    if found is None:
        known[id(node)] = float("inf")  # until it is known, so that a node inside itself counts so
        children: list[Any] = [] if node is None or isinstance(node.value, str) else node.value
        found = 1.0
        for child in children:  # of a mapping: pairs
            pair: list[Any] = list(cast("tuple[Any, Any]", child)) if isinstance(child, tuple) else [child]
            found += sum(_expanded_values(each, known) for each in pair)
        known[id(node)] = found
    return found


def _what_it_is(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as stream:
            head = stream.read(64).lstrip()
    except OSError as unreadable:
        return f"it cannot be read ({unreadable.strerror})"
    if not head:
        return "it is empty"
    for magic, meaning in _OTHER_THINGS:
        if head.startswith(magic):
            return f"it is {meaning}"
    return f"it is not a tar archive, or a damaged one ({error}); fetch it again"


def _model_class(config: dict[str, Any], path: Path, classes: Mapping[str, tuple[str, ...]]) -> str:
    """Return the model's class after a look at every class that the configuration names."""
    for place, target in _named_classes(config):
        if place != "target" and not target.startswith(_PART_PREFIXES):
            raise PlanError(f"{path}: refused, because its {_CONFIG} names the foreign class {target!r} at {place}")
    target = config.get("target")
    if not isinstance(target, str) or not target.startswith(_MODEL_PREFIX):
        raise PlanError(
            f"{path}: refused, because its model class is {target!r}; only classes of {_MODEL_PREFIX[:-1]} are restored"
        )
    if target.rpartition(".")[2] not in classes:
        raise PlanError(
            f"{path}: its model class {target.rpartition('.')[2]} cannot be run; these can: {', '.join(classes)}"
        )
    return target


def _named_classes(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (place, class name) for every key that makes NeMo import something."""
    seen: set[int] = set()  # YAML aliases can make a small file expand without end
    waiting: list[tuple[str, Any]] = [("", config)]
    while waiting:
        place, node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, list):
            waiting += [(f"{place}[{index}]", item) for index, item in enumerate(cast("list[Any]", node))]
        elif isinstance(node, dict):
            for key, value in cast("dict[Any, Any]", node).items():
                below = f"{place}.{key}" if place else str(key)
                if key in _CLASS_KEYS and isinstance(value, str):
                    yield below, value
                waiting.append((below, value))


_MISSING_MODULE = re.compile(r"No module named '(\w+)")


def load_nemo() -> None:
    """Import NeMo, quietly.

    Raises:
        InfrastructureError: NeMo is missing, too old or broken.
    """
    try:
        release = version("nemo_toolkit")
    except PackageNotFoundError as error:
        raise InfrastructureError(f"nemo_toolkit is not installed; run: {INSTALL}") from error
    if int(release.partition(".")[0]) < 3:
        raise InfrastructureError(
            f"nemo_toolkit {release} is installed, but restoring a checkpoint is only safe from 3.0 on; run: {INSTALL}"
        )
    try:
        with quiet_nemo():
            import_module("nemo.collections.asr")
    except ImportError as error:
        raise InfrastructureError(f"nemo_toolkit {release} cannot be imported ({error}); run: {INSTALL}") from error


def fetch(model_name: str) -> Path:
    """Return the `.nemo` file of a pretrained model, from NeMo's or Hugging Face's cache or the network.

    Raises:
        InfrastructureError: there is no such model, or no network.
    """
    load_nemo()
    models: Any = import_module("nemo.collections.asr.models")
    try:
        with quiet_nemo():
            found = models.ASRModel.from_pretrained(model_name, return_model_file=True)
    except Exception as error:  # whatever the hub, the network or NeMo raise means "not there"
        raise InfrastructureError(
            f"the pretrained model {model_name!r} could not be fetched ({type(error).__name__}: {_first_line(error)}). "
            "Without a network: download its .nemo file where there is one and give the file's path as model_name, or "
            "point HF_HUB_CACHE to a copy of a Hugging Face cache that holds it. (If you meant a local file: there is "
            "none of that name.)"
        ) from error
    return Path(found)


def restore(checkpoint: Checkpoint) -> Any:
    """Return the model of `checkpoint`, in fp32, on the CPU; what it logs is kept for the message of a failure.

    Raises:
        InfrastructureError: NeMo cannot restore it; the cause is chained.
    """
    load_nemo()
    # With it, torch would unpickle whatever the file holds. It is cleared for good: nothing here may need it.
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    torch: Any = import_module("torch")
    core: Any = import_module("nemo.core")
    logged: list[str] = []
    try:
        with quiet_nemo() as logged:
            return core.ModelPT.restore_from(str(checkpoint.path), map_location=torch.device("cpu"))
    except Exception as error:  # NeMo raises anything; whatever it is, no record is to blame
        cause = _first_cause(error, logged)
        missing = _MISSING_MODULE.search(cause)
        remedy = f"; install it where the workers run: pip install {missing[1]}" if missing else ""
        raise InfrastructureError(f"{checkpoint.path}: the model cannot be restored ({cause}){remedy}") from error


def _first_cause(error: BaseException, logged: list[str]) -> str:
    """Return type and message of what went wrong first.

    Where a model's own class cannot be made, NeMo logs that with its traceback, tries the abstract class, and raises
    that this cannot be made either.
    """
    for message in logged:
        lines = message.strip().splitlines()
        if message.startswith("Model instantiation failed!") and "Traceback" in message:
            return lines[-1]
    seen: set[int] = set()
    first = error
    while id(first) not in seen:
        seen.add(id(first))
        first = first.__cause__ or (None if first.__suppress_context__ else first.__context__) or first
    return f"{type(first).__name__}: {_first_line(first)}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]
