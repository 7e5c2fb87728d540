"""Punctuation and capitals by a token classifier of Hugging Face transformers, which is a folder of the user's.

Models of this kind label each word with the mark behind it: `0 . , ? - :` (fullstop-punctuation-multilang and its kin),
or with the mark and the case of the word, `.O ,U OU` (bert-restore-punctuation). curate ships no model, and downloads
none.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from curate.errors import PlanError

PUNCTUATION_INSTALL: Final = "pip install 'curate-speech[punctuation]'"
_WINDOW: Final = 120
_OVERLAP: Final = 20
_MARKS: Final = frozenset(".,?!:;-…。，？！、；：؟،।")
_ENDS: Final = frozenset(".?!…。？！؟।")
_UNPUNCTUATED: Final = frozenset({"0", "O", "_", "LABEL_0", "NONE"})


class _TokenClassifier:
    """The engine `transformers`."""

    def __call__(self, texts: Sequence[str], langs: Sequence[str | None], model: str) -> list[str]:
        """Return texts with marks behind their words, and capitals where a sentence begins.

        Marks that the texts have already are dropped, except inside words.
        """
        classifier = _loaded(str(Path(model).expanduser()))
        words = [_bare_words(text) for text in texts]
        labels = classifier.label(words)
        return [
            _written(own, found, lang, cased=classifier.cased)
            for own, found, lang in zip(words, labels, langs, strict=True)
        ]

    def check(self, model: str) -> None:
        """Check the folder of a model without loading it.

        Raises:
            PlanError: what is missing.
        """
        if importlib.util.find_spec("transformers") is None or importlib.util.find_spec("torch") is None:
            raise PlanError(f"transformers and torch are not both installed; run: {PUNCTUATION_INSTALL}")
        labels = _labels(Path(model).expanduser())
        if not any(_mark(label) for label in labels):
            raise PlanError(f"model={model!r}: none of its labels is a punctuation mark: {', '.join(labels[:8])}")

    def fingerprint(self, model: str) -> Mapping[str, str]:
        """Return the sha256 of the files of a model."""
        folder = Path(model).expanduser()
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        return {path.name: _sha256(path, path.stat().st_mtime_ns) for path in files}


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _labels(folder: Path) -> list[str]:
    path = folder / "config.json"
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
        return [str(label) for _, label in sorted(config["id2label"].items(), key=lambda item: int(item[0]))]
    except OSError as error:
        raise PlanError(f"model={str(folder)!r} is not the folder of a model: {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanError(f"model={str(folder)!r}: its config.json names no labels ({error!r})") from None


def _mark(label: str) -> str:
    """Return the mark that a label stands for; empty: none."""
    return "" if label in _UNPUNCTUATED else "".join(character for character in label if character in _MARKS)


def _is_cased(labels: Sequence[str]) -> bool:
    return any(label[-1:] == "U" and label[:-1] in {"O", *_MARKS} for label in labels)


class _Classifier:
    """A loaded model.

    Attributes:
        cased: whether its labels say which words begin with a capital.
    """

    def __init__(self, folder: str) -> None:
        self._torch: Any = import_module("torch")
        library: Any = import_module("transformers")
        self._tokenizer: Any = library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = library.AutoModelForTokenClassification.from_pretrained(folder, local_files_only=True)
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        self._model: Any = model.to(self._device).eval()
        self._names = _labels(Path(folder))
        self.cased = _is_cased(self._names)

    def label(self, texts: Sequence[Sequence[str]]) -> list[list[str]]:
        """Return the label of each word."""
        windows = [
            (number, start, list(words[start : start + _WINDOW]))
            for number, words in enumerate(texts)
            for start in _starts(len(words))
        ]
        labels = [[""] * len(words) for words in texts]
        for (number, start, words), found in zip(windows, self._classified(windows), strict=True):
            # The first words of a window are in the one before as well, and better there: they have words behind them.
            skipped = _OVERLAP // 2 if start else 0
            labels[number][start + skipped : start + len(words)] = found[skipped:]
        return labels

    def _classified(self, windows: Sequence[tuple[int, int, list[str]]]) -> Iterator[list[str]]:
        if not windows:
            return
        encoded: Any = self._tokenizer(
            [words for _, _, words in windows],
            is_split_into_words=True,
            return_tensors="pt",
            padding=True,
            truncation=True,
        )
        with self._torch.inference_mode():
            best: Any = self._model(**encoded.to(self._device)).logits.argmax(-1).cpu().tolist()
        for row, (_, _, words) in enumerate(windows):
            found: dict[int, str] = {}
            for place, word in enumerate(encoded.word_ids(row)):
                # Models of cased labels were trained on the first piece of a word, the others on its last.
                if word is not None and not (self.cased and word in found):
                    found[word] = self._names[best[row][place]]
            yield [found.get(number, "0") for number in range(len(words))]


def _starts(count: int) -> range:
    return range(0, max(count - _OVERLAP, 1), _WINDOW - _OVERLAP)


@functools.lru_cache(maxsize=2)
def _loaded(folder: str) -> _Classifier:
    return _Classifier(folder)


def _bare_words(text: str) -> list[str]:
    words = (re.sub(r"^[^\w]+|[^\w'’%]+$", "", word) for word in text.split())
    return [word for word in words if word]


def _written(words: Sequence[str], labels: Sequence[str], lang: str | None, *, cased: bool) -> str:
    written: list[str] = []
    begins = True
    for word, label in zip(words, labels, strict=True):
        capital = label.endswith("U") if cased else begins or (lang == "en" and re.match(r"i(?:['’]|$)", word))
        mark = _mark(label)
        written.append(f"{word[:1].upper() if capital else word[:1]}{word[1:]}{mark}")
        begins = mark in _ENDS
    return " ".join(written)


punctuate_texts = _TokenClassifier()
