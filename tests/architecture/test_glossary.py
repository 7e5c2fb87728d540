"""The glossary has every noun that a public class is named for, and stays short enough to be read."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")

MAX_ENTRIES = 45

_LAST_WORD = re.compile(r"(?:[A-Z]+|[A-Z][a-z0-9]*)$")
_CAMEL_CASE = re.compile(r"[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*")


def public_classes() -> Iterator[str]:
    """Yield the classes in every `__all__` of `curate`, and those of `curate.engine` without an underscore."""
    for path in sorted((ROOT / "curate").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.is_relative_to(ROOT / "curate" / "engine"):
            yield from (
                node.name for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
            )
        yield from (name for name in _exported(path, tree) if _CAMEL_CASE.fullmatch(name))


def _exported(path: Path, tree: ast.Module) -> list[str]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            try:
                return list(ast.literal_eval(node.value))  # type: ignore[attr-defined]
            except ValueError:  # computed from a table
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                return list(importlib.import_module(module).__all__)
    return []


def head_noun(name: str) -> str:
    """Return the last word of a name in camel case, lower case."""
    match = _LAST_WORD.search(name)
    assert match is not None, name
    return match[0].lower()


def entries() -> list[str]:
    body = GLOSSARY.partition("```{glossary}\n")[2].partition("```")[0]
    return [line for line in body.splitlines() if line and not line.startswith(" ")]


def occurs(noun: str) -> bool:
    stem = noun.removesuffix("s")
    return re.search(rf"\b{stem}(?:s|es)?\b", GLOSSARY, flags=re.IGNORECASE) is not None


@pytest.mark.parametrize(
    ("name", "noun"), [("HopSpec", "spec"), ("RunsOnGpu", "gpu"), ("Plan", "plan"), ("AudioURL", "url")]
)
def test_head_noun_of_a_class_name_is_its_last_word(name: str, noun: str) -> None:
    assert head_noun(name) == noun


def test_glossary_has_the_head_noun_of_every_public_class() -> None:
    missing = {name for name in public_classes() if not occurs(head_noun(name))}
    assert not missing, f"define or mention these nouns in docs/glossary.md, or rename the classes: {sorted(missing)}"


def test_glossary_is_short_and_defines_each_term_once() -> None:
    terms = entries()
    assert len(terms) <= MAX_ENTRIES
    assert len(set(terms)) == len(terms)
