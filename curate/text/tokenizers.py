"""Tokenizers: files that cut a transcript into the tokens that a model is trained on.

A SentencePiece `.model`, a `tokenizer.json` of Hugging Face, or a `.nemo` checkpoint, which holds a SentencePiece model
or the characters of its output. They are read whole, in the driver, and travel to the workers by value.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, cast

import attrs

from curate.errors import PlanError

TokenizerKind: TypeAlias = Literal["sentencepiece", "huggingface", "characters"]
Encode: TypeAlias = Callable[[str], Sequence[int]]

TOKENIZER_INSTALL = "pip install 'curate-speech[tokenizers]'"
_PACKAGES: Mapping[TokenizerKind, str] = MappingProxyType(
    {"sentencepiece": "sentencepiece", "huggingface": "tokenizers"}
)
_MOST_BYTES = 256_000_000
_CONFIG = "model_config.yaml"


@attrs.frozen
class TokenizerFile:
    """A tokenizer as it travels.

    Args:
        kind: which library reads it; `characters`: none, each character of `content` is one token.
        content: the bytes of the file.
        frame_s: the seconds of audio behind each output frame of the model; None: the file does not say.
    """

    kind: TokenizerKind
    content: bytes = attrs.field(repr=False)
    frame_s: float | None = None

    @property
    def sha256(self) -> str:
        """The sha256 of the content."""
        return hashlib.sha256(self.content).hexdigest()

    def encoder(self) -> Encode:
        """Return the function from a transcript to its tokens, without special ones.

        Raises:
            ImportError: the library is missing.
        """
        if self.kind == "characters":
            numbers = {character: number for number, character in enumerate(self.content.decode())}
            return lambda text: [numbers[character] for character in text if character in numbers]
        if self.kind == "sentencepiece":
            library: Any = import_module("sentencepiece")
            pieces = library.SentencePieceProcessor(model_proto=self.content)
            return functools.partial(pieces.encode, out_type=int)
        return _encode_without_special_tokens(self._huggingface())

    def special_tokens(self) -> int:
        """Return how many tokens the model adds around each transcript, as far as the file says so."""
        return len(self._huggingface().encode("").ids) if self.kind == "huggingface" else 0

    def _huggingface(self) -> Any:
        library: Any = import_module("tokenizers")
        tokenizer = library.Tokenizer.from_str(self.content.decode())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def _encode_without_special_tokens(tokenizer: Any) -> Encode:
    def encode(text: str) -> Sequence[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    return encode


def load_tokenizer(path: Path) -> TokenizerFile:
    """Read a tokenizer and try it.

    Args:
        path: a `.model`, a `.json`, a `.nemo`, or a folder with a `tokenizer.json` or a `tokenizer.model`.

    Raises:
        PlanError: it is missing or damaged, of an unknown kind, or its library is not installed.
    """
    if path.is_dir():
        names = ("tokenizer.json", "tokenizer.model")
        found = next((path / name for name in names if (path / name).is_file()), None)
        if found is None:
            raise PlanError(f"tokenizer={str(path)!r}: the folder has neither {' nor '.join(names)}")
        path = found
    if path.suffix == ".nemo":
        tokenizer = _from_nemo(path)
    elif path.suffix in (".model", ".json"):
        tokenizer = TokenizerFile("sentencepiece" if path.suffix == ".model" else "huggingface", _content(path))
    else:
        raise PlanError(
            f"tokenizer={str(path)!r}: must be a SentencePiece .model, a tokenizer.json of Hugging Face, or a .nemo"
        )
    _try(tokenizer, path)
    return tokenizer


def _try(tokenizer: TokenizerFile, path: Path) -> None:
    try:
        tokenizer.encoder()("a trial")
        tokenizer.special_tokens()
    except ImportError as error:
        package = _PACKAGES[tokenizer.kind]
        raise PlanError(
            f"tokenizer={str(path)!r}: {package} is not installed ({error}); run: {TOKENIZER_INSTALL}"
        ) from error
    except Exception as error:  # the libraries raise RuntimeError, Exception and errors of their own
        raise PlanError(f"tokenizer={str(path)!r} cannot be read as {tokenizer.kind}: {error}") from error


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise PlanError(f"tokenizer={str(path)!r} cannot be read: {error.strerror}") from None
    if not content or len(content) > _MOST_BYTES:
        raise PlanError(f"tokenizer={str(path)!r} is {'empty' if not content else 'larger than 256 MB'}")
    return content


def _from_nemo(path: Path) -> TokenizerFile:
    import yaml

    try:
        with tarfile.open(path) as archive:
            members = {PurePosixPath(member.name).name: member for member in archive if member.isfile()}
            if _CONFIG not in members:
                raise PlanError(f"tokenizer={str(path)!r} has no {_CONFIG}, so it is not a NeMo checkpoint")
            config = _mapping(path, yaml.safe_load(_member(archive, members[_CONFIG])))
            frame_s = _frame_s(config)
            labels = _labels(config)
            if labels is not None:
                return TokenizerFile("characters", labels.encode(), frame_s)
            name = _model_name(path, config)
            if name not in members:
                raise PlanError(f"tokenizer={str(path)!r} has no {name!r}, which its {_CONFIG} names")
            return TokenizerFile("sentencepiece", _member(archive, members[name]), frame_s)
    except (tarfile.TarError, OSError, EOFError, zlib.error, yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlanError(f"tokenizer={str(path)!r} is not a .nemo file: {error}") from error


def _mapping(path: Path, content: Any) -> Mapping[str, Any]:
    found: Any = _at(content, "model") or content
    if not isinstance(found, dict):
        raise PlanError(f"tokenizer={str(path)!r}: its {_CONFIG} is not a mapping")
    return cast("Mapping[str, Any]", found)


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > _MOST_BYTES:
        raise PlanError(f"{member.name} inside {archive.name} is larger than 256 MB")
    content = archive.extractfile(member)
    return content.read() if content else b""


def _labels(config: Mapping[str, Any]) -> str | None:
    """Return the characters of a model without a tokenizer; None: it has one."""
    if config.get("tokenizer"):
        return None
    labels: Any = config.get("labels") or _at(config, "decoder", "vocabulary")
    if not isinstance(labels, list):
        return None
    return "".join(label for label in cast("list[Any]", labels) if isinstance(label, str) and len(label) == 1)


def _model_name(path: Path, config: Mapping[str, Any]) -> str:
    kind, name = _at(config, "tokenizer", "type"), _at(config, "tokenizer", "model_path")
    if kind != "bpe" or not isinstance(name, str):
        raise PlanError(
            f"tokenizer={str(path)!r}: its tokenizer is of type {kind!r}; only SentencePiece (bpe) and characters are "
            "read from a .nemo: give the file of the tokenizer instead"
        )
    return PurePosixPath(name.removeprefix("nemo:")).name


def _frame_s(config: Mapping[str, Any]) -> float | None:
    stride, factor = _at(config, "preprocessor", "window_stride"), _at(config, "encoder", "subsampling_factor")
    numbers = isinstance(stride, int | float) and isinstance(factor, int | float) and stride > 0 and factor > 0
    return round(stride * factor, 6) if numbers else None


def _at(config: Any, *names: str) -> Any:
    value = config
    for name in names:
        value = cast("Mapping[str, Any]", value).get(name) if isinstance(value, dict) else None
    return value


def count_repeats(tokens: Sequence[int]) -> int:
    """Return how many tokens are equal to the one before: CTC needs a blank frame between the two."""
    return sum(one == other for one, other in itertools.pairwise(tokens))
