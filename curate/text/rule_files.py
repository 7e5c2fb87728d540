"""Rule files: replacements of a corpus, in order, with the examples that they must pass before any work starts.

    presets: [quotes, dashes]
    rules:
      - {replace: colour, with: color}
      - {pattern: '\\bSt\\.(?= [A-Z])', with: Saint}
    tests:
      - {text: 'the colour of St. Ives', expected: 'the color of Saint Ives'}

`replace` is a whole word or phrase as it is; `pattern` is a regular expression of Python's `re`, and its `with` may
name groups (`\\1`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import attrs

from curate.errors import PlanError
from curate.suggest import closest
from curate.text.composing import compose

RULE_FILE_SUFFIXES = (".yaml", ".yml")
_MOST_BYTES = 4_000_000

PRESETS: Mapping[str, Sequence[tuple[str, str]]] = MappingProxyType(
    {
        "quotes": (
            ("[\u2018\u2019\u201b\u02bc\uff07\u2032]", "'"),
            ("[\u201c\u201d\u201e\u201f\u00ab\u00bb\uff02]", '"'),
        ),
        "dashes": (("[\u2010\u2011\u2012]", "-"), (r"\s*[\u2013\u2014\u2015]\s*", " - ")),
        "ellipses": (("\u2026", "..."), (r"\.{4,}", "...")),
        "brackets": (
            (r"\[[^\[\]]{0,60}\]|\{[^{}]{0,60}\}|</?[^\W\d_][^<>]{0,58}>|【[^【】]{0,60}】", " "),
            (r"[(（][^()（）]{0,60}[)）]", " "),
        ),
        "music": (("[\u2669-\u266f\U0001d11e\U0001f3b5\U0001f3b6\U0001f3bc]+", " "),),
        "invisible": (
            ("[\u200b\u2028\u2029]", " "),
            ("[\u00ad\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]", ""),
        ),
    }
)
"""Name → patterns and their replacements. All presets leave words, case and sentence punctuation as they are."""


@attrs.frozen
class Rules:
    """Replacements that are applied in order; blanks are then single, and none at the ends.

    Args:
        rules: pattern and replacement.
        fingerprint: changes if the result of any rule can.
    """

    rules: tuple[tuple[re.Pattern[str], str], ...]
    fingerprint: str

    def __call__(self, text: str) -> str:
        text = compose(text)
        for pattern, replacement in self.rules:
            text = pattern.sub(replacement, text)
        return " ".join(text.split())


def preset_rules(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the patterns and replacements of presets.

    Raises:
        PlanError: there is no preset of a name; the message names the nearest.
    """
    for name in names:
        if name not in PRESETS:
            raise PlanError(f"unknown preset {name!r}: {closest(name, PRESETS)}")
    return [rule for name in names for rule in PRESETS[name]]


def build_rules(pairs: Sequence[tuple[str, str]], origin: str) -> Rules:
    """Compile patterns and their replacements.

    Raises:
        PlanError: a pattern is not a regular expression, or a replacement names a group that it does not have.
    """
    compiled: list[tuple[re.Pattern[str], str]] = []
    for pattern, replacement in pairs:
        try:
            found = re.compile(pattern)
            found.sub(replacement, "")
            _check_template(found, replacement)
        except (re.error, IndexError) as error:
            raise PlanError(f"{origin}: pattern {pattern!r:.80} with {replacement!r:.80}: {error}") from None
        compiled.append((found, replacement))
    digest = hashlib.sha256(repr([(pattern.pattern, text) for pattern, text in compiled]).encode("utf-8", "replace"))
    return Rules(tuple(compiled), digest.hexdigest())


def _check_template(pattern: re.Pattern[str], replacement: str) -> None:
    # `sub` reads the template only where it finds a match: an alternative that matches everything makes it do so.
    re.compile(f"(?:{pattern.pattern})|", pattern.flags).sub(replacement, "")


def load_rules(path: Path) -> Rules:
    """Read a rule file and apply it to its own examples.

    Raises:
        PlanError: the file is missing or wrong, or an example has another result than it states.
    """
    content = _read(path)
    unknown = set(content) - {"presets", "rules", "tests"}
    if unknown:
        raise PlanError(f"{path}: unknown key {sorted(unknown)[0]!r}; the keys are presets, rules and tests")
    pairs = preset_rules([str(name) for name in _list(path, content, "presets")])
    pairs += [_rule(path, entry) for entry in _list(path, content, "rules")]
    rules = build_rules(pairs, str(path))
    for entry in _list(path, content, "tests"):
        text, expected = _strings(path, entry, ("text", "expected"))
        if rules(text) != expected:
            raise PlanError(
                f"{path}: the test {text!r:.80} gives {rules(text)!r:.80}, expected {expected!r:.80}; "
                "change the rules or the test"
            )
    return rules


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise PlanError(f"rule file {path} cannot be read: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise PlanError(f"rule file {path} is larger than {_MOST_BYTES // 1_000_000} MB")
    try:
        content: Any = yaml.safe_load(data.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlanError(f"rule file {path} is not YAML in UTF-8: {error}") from None
    if not isinstance(content, dict):
        raise PlanError(f"rule file {path} must hold a mapping with the keys presets, rules and tests")
    return cast("Mapping[str, Any]", content)


def _list(path: Path, content: Mapping[str, Any], key: str) -> list[Any]:
    value: Any = content.get(key) or []
    if not isinstance(value, list):
        raise PlanError(f"{path}: {key} must be a list")
    return cast("list[Any]", value)


def _rule(path: Path, entry: Any) -> tuple[str, str]:
    if isinstance(entry, dict) and "replace" in entry:
        word, replacement = _strings(path, cast("Any", entry), ("replace", "with"))
        return rf"(?<!\w){re.escape(word)}(?!\w)", replacement.replace("\\", r"\\")
    return _strings(path, entry, ("pattern", "with"))


def _strings(path: Path, entry: Any, keys: tuple[str, str]) -> tuple[str, str]:
    values: Mapping[str, Any] = cast("Mapping[str, Any]", entry) if isinstance(entry, dict) else {}
    if set(values) != set(keys) or not all(isinstance(value, str) for value in values.values()):
        raise PlanError(f"{path}: {entry!r:.80} must be a mapping with the strings {keys[0]!r} and {keys[1]!r}")
    return values[keys[0]], values[keys[1]]
