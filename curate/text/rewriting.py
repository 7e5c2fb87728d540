"""Rewriting: functions that write a transcript in another form, and the guard that finds a rewritten text wrong.

A function of this kind takes `text` (one string), or `texts` (a list of them, for models that work on batches), and
returns as many. It returns None for a transcript that it has no rules for. If it has an argument `lang` (`langs`), it
gets the code of the language, as `curate.text.language_code` returns it, or None. If it has an argument `model`, it
gets the stage's setting. It may be an object with `__call__`; its methods `check(model)` and `fingerprint(model)`, if
there are any, are called when the pipeline is planned.
"""

from __future__ import annotations

import inspect
import itertools
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from curate.errors import PlanError, RecordError
from curate.fingerprint import describe_code
from curate.text.noise import drop_noise_tags
from curate.text.script_rules import apply_script_rules

Rewriter: TypeAlias = Callable[..., Any]

_SPELLED_OUT = re.compile(r"[\d%$€£¥°@#/]")


def check_rewriter(rewrite: Rewriter, model: str) -> None:
    """Check that a stage can call a function.

    Raises:
        PlanError: its arguments, or the model, are wrong.
    """
    names = _parameters(rewrite)
    if not {"text", "texts"} & set(names):
        raise PlanError(f"engine {_name(rewrite)} takes {', '.join(names) or 'nothing'}; it must take text or texts")
    if model and "model" not in names:
        raise PlanError(f"model={model!r:.80}: engine {_name(rewrite)} takes no model")
    parameter = names.get("model")
    if parameter is not None and parameter.default is inspect.Parameter.empty and not model:
        raise PlanError(f"engine {_name(rewrite)} needs a model: set model")
    check: Any = getattr(rewrite, "check", None)
    if check is not None:
        check(model)


def rewrite_texts(rewrite: Rewriter, texts: Sequence[str], langs: Sequence[str | None], model: str) -> list[str | None]:
    """Call a function of either kind.

    Raises:
        RecordError: `bad_value`, it returned something else than as many strings, or None, as there are texts.
    """
    names = _parameters(rewrite)
    settings = {"model": model} if "model" in names and model else {}
    if "texts" in names:
        settings |= {"langs": list(langs)} if "langs" in names else {}
        found: Any = list(rewrite(list(texts), **settings))
    else:
        found = [
            rewrite(text, **(settings | ({"lang": lang} if "lang" in names else {})))
            for text, lang in zip(texts, langs, strict=True)
        ]
    if len(found) != len(texts) or not all(one is None or isinstance(one, str) for one in found):
        raise RecordError("bad_value", f"engine {_name(rewrite)} returned {found!r:.80} for {len(texts)} texts")
    return found


def describe_rewriter(rewrite: Rewriter, model: str) -> Mapping[str, Any]:
    """Return a description of a function, for a fingerprint: its code, and its settings by its own account."""
    described: Any = getattr(rewrite, "fingerprint", None)  # a rule file's is a string
    code = describe_code(rewrite if inspect.isroutine(rewrite) else type(rewrite))
    return {"code": code, "settings": described(model) if callable(described) else described}


def _parameters(rewrite: Rewriter) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(rewrite).parameters


def _name(rewrite: Rewriter) -> str:
    return repr(getattr(rewrite, "__qualname__", rewrite))


@attrs.frozen
class Guard:
    """Limits beyond which a rewritten text is not used: those of the Granary recipe.

    Args:
        max_cer: the most character errors between the letters of both texts, as a share of the original's.
        max_upper_share: the largest share of capitals, unless the original has as many.
        numbers: words that became digits, or a sign such as $, are not compared.
    """

    max_cer: float
    max_upper_share: float
    numbers: bool

    def reason(self, text: str, rewritten: str, lang: str | None = None) -> str | None:
        """Return why a rewritten text is not used, `empty`, `upper_case` or `changed`; None: it is used."""
        if not rewritten.strip():
            return "empty" if text.strip() else None
        capitals = upper_share(rewritten)
        if capitals > self.max_upper_share and capitals > upper_share(text):
            return "upper_case"
        return "changed" if self._error_share(text, rewritten, lang) > self.max_cer else None

    def _error_share(self, text: str, rewritten: str, lang: str | None) -> float:
        from rapidfuzz.distance import Levenshtein

        before, after = _words(text, lang), _words(rewritten, lang)
        letters = sum(map(len, before))
        if not self.numbers:
            return Levenshtein.distance("".join(before), "".join(after)) / max(letters, 1)
        errors = 0
        blocks = Levenshtein.opcodes([word.casefold() for word in before], [word.casefold() for word in after])
        # Words next to each other that change are one block: "twenty one dollars" may become "$21".
        for equal, steps in itertools.groupby(blocks, key=lambda step: step.tag == "equal"):
            if equal:
                continue
            changed = list(steps)
            old = "".join(before[changed[0].src_start : changed[-1].src_end])
            new = " ".join(after[changed[0].dest_start : changed[-1].dest_end])
            if not _SPELLED_OUT.search(new):
                errors += Levenshtein.distance(old, new.replace(" ", ""))
        return errors / max(letters, 1)


def upper_share(text: str) -> float:
    """Return the share of capitals among the letters that have case; 0.0 if none has."""
    upper = sum(character.isupper() for character in text)
    return upper / max(upper + sum(character.islower() for character in text), 1)


def _words(text: str, lang: str | None) -> list[str]:
    """Return the words in one spelling; a sign such as $ is one."""
    text = "".join(f" {c} " if _SPELLED_OUT.fullmatch(c) and not c.isdigit() else c for c in drop_noise_tags(text))
    words = (apply_script_rules(word, lang) or word for word in text.split())
    return [word for word in words if any(unicodedata.category(character)[0] in "LMNS" for character in word)]
