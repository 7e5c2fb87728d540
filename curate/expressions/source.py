"""The source of an expression: its parser, the check against the allowed forms, and error messages with a caret."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from typing import Final

from curate.errors import PlanError
from curate.expressions.values import ARITHMETIC, FUNCTION_NAMES, MAX_BITS, SYMBOLS, short_repr

MAX_CHARACTERS: Final = 10_000
MAX_DEPTH: Final = 50

ALLOWED: Final = (
    "Allowed are columns, numbers, 'text', True and False, < <= > >= == !=, in, is None, and, or, not, + - * / // %, "
    f"and {', '.join(FUNCTION_NAMES)}."
)

_NEWLINE: Final = re.compile(r"\r\n|\r|\n")
_FORMS: Final = (
    *(ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.In, ast.NotIn, ast.Is, ast.IsNot),
    *(ast.BinOp, ast.Call, ast.Name, ast.Attribute, ast.Load, ast.Constant, ast.List, ast.Tuple),
    *SYMBOLS,
    *ARITHMETIC,
)
_FOREIGN_FORMS: Final[Mapping[type[ast.AST], str]] = {
    ast.BitAnd: "write and instead of &",
    ast.BitOr: "write or instead of |",
    ast.Invert: "write not instead of ~",
    ast.Pow: "** is not allowed",
    ast.UAdd: "leave out the plus sign",
    ast.NamedExpr: "write == to compare",
    ast.Subscript: "subscripts are not allowed; a nested column is written meta.snr",
    ast.Set: "write a list, [1, 2]",
    ast.keyword: "arguments are given without names",
    ast.JoinedStr: "f-strings are not allowed",
    ast.Lambda: "lambdas are not allowed",
    ast.IfExp: "if … else is not allowed; use and, or",
}

# Operators of other languages, searched outside quotes and comments.
_SLIPS: Final = re.compile(
    r"""(?P<unit> \b\d[\d.]*\s*(?:ms|s|secs?|seconds?|mins?|minutes?|h|hours?|k?hz|db)\b )   # 30s, 16kHz
    | '(?:[^'\\\n]|\\.)*' | "(?:[^"\\\n]|\\.)*"    # quoted strings, skipped
    | \#.* | [<>]== | =< | [<>=!:]=(?!=) | == | && | \|\| | <> | => | [=!] | \b(?:AND|OR|NOT|IN|IS|NULL)\b""",
    re.VERBOSE | re.IGNORECASE,
)
_UNIT_ADVICE: Final = "write the number without a unit: durations are in seconds, rates in Hz, levels in dB"
_SLIP_ADVICE: Final[Mapping[str, str]] = {
    "=": "write == to compare",
    ":=": "write == to compare",
    "<>": "write !=",
    "=>": "write >=",
    "=<": "write <=",
    "<==": "write <=",
    ">==": "write >=",
    "&&": "write and",
    "||": "write or",
    "!": "write not",
    "NULL": "write None",
    **{word: f"write {word.lower()}" for word in ("AND", "OR", "NOT", "IN", "IS")},
}

_EXAMPLES: Final = ('a condition, such as "wer <= 0.3"', 'a value, such as "round(duration * snr, 1)"')


class Source:
    """The text of an expression.

    Args:
        text: the expression.
        what: what messages call it.
        choices: whether `a if condition else b` and None are allowed.

    Raises:
        PlanError: the text is not a string, is empty, or is too long.
    """

    def __init__(self, text: str, *, what: str = "filter expression", choices: bool = False) -> None:
        self._what = what
        self._choices = choices
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  (YAML's `filter: true`)
            raise PlanError(f"a {what} must be a string, not {short_repr(text)}")
        if len(text) > MAX_CHARACTERS:
            raise PlanError(f"the {what} has {len(text):,} characters; at most {MAX_CHARACTERS:,} are allowed")
        self.text = text.strip()
        if not self.text:
            raise PlanError(f"the {what} is empty; write {_EXAMPLES[choices]}")
        self.lines = _NEWLINE.split(self.text)
        # Inside parentheses a line may end anywhere, so YAML's block strings can be parsed as they are.
        self._wrapped = len(self.lines) > 1
        self._parsed = [f"({self.lines[0]}", *self.lines[1:], ")"] if self._wrapped else self.lines

    def parse(self) -> ast.expr:
        """Return the tree, which contains allowed forms only and is shallow enough to recurse over and to unparse.

        Raises:
            PlanError: the first error, with its place and a remedy.
        """
        try:
            # Python warns of `"\d"` and of `1or x`, differently by version; here both are errors.
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                tree = ast.parse("\n".join(self._parsed), mode="eval").body
        except SyntaxError as error:
            raise self._misread(error) from None
        except (ValueError, RecursionError, MemoryError, Warning) as error:
            why = "nested too deeply" if isinstance(error, RecursionError | MemoryError) else f"unreadable: {error}"
            raise PlanError(f"the {self._what} is {why}") from None
        if self._wrapped and tree.lineno == 1 and tree.col_offset == 0:
            if not isinstance(tree, ast.Tuple | ast.GeneratorExp):  # these include their parentheses
                raise self._error("a parenthesis is closed before it is opened", 0, 0)
            if isinstance(tree, ast.Tuple) and not tree.elts:
                raise PlanError(f"the {self._what} is empty")
        self._refuse_foreign(tree)
        return tree

    def at(self, node: ast.expr, problem: str, hint: str = "") -> PlanError:
        """Return an error at a node; Python counts its column in UTF-8 bytes."""
        line = node.lineno - 1
        column = len(self._parsed[line].encode()[: node.col_offset].decode(errors="replace"))
        return self._error(problem, line, column - (self._wrapped and line == 0), hint)

    def _refuse_foreign(self, tree: ast.expr) -> None:
        level: list[tuple[ast.AST, ast.expr]] = [(tree, tree)]
        for _ in range(MAX_DEPTH):
            for node, place in level:
                if not isinstance(node, _FORMS) and not (self._choices and isinstance(node, ast.IfExp)):
                    raise self.at(place, _FOREIGN_FORMS.get(type(node), "this is not allowed"), ALLOWED)
                literal = node.value if isinstance(node, ast.Constant) else None
                if isinstance(literal, int) and literal.bit_length() > MAX_BITS:
                    raise self.at(place, "the number has too many digits")
            level = [
                (child, child if isinstance(child, ast.expr) else place)
                for node, place in level
                for child in ast.iter_child_nodes(node)
            ]
            if not level:
                return
        raise self.at(level[0][1], f"nested more than {MAX_DEPTH} deep")

    def _misread(self, error: SyntaxError) -> PlanError:
        for match in _SLIPS.finditer(self.text):
            advice = _UNIT_ADVICE if match["unit"] else _SLIP_ADVICE.get(match.group())
            if advice is not None:
                before = _NEWLINE.split(self.text[: match.start()])
                return self._error(advice, len(before) - 1, len(before[-1]))
        line, column = (error.lineno or 1) - 1, (error.offset or 0) - 1
        column -= self._wrapped and line == 0
        problem = error.msg.split(";")[0]  # the rest is advice for programmers
        if problem == "invalid syntax" and not (line < len(self.lines) and 0 <= column < len(self.lines[line])):
            problem = "something is missing at the end"
        return self._error(problem, line, column, ALLOWED)

    def _error(self, problem: str, line: int, column: int, hint: str = "") -> PlanError:
        """Return an error at a place, counted from 0 and marked by a caret; a place outside the text means its end."""
        if not (0 <= line < len(self.lines) and 0 <= column <= len(self.lines[line])):
            line, column = len(self.lines) - 1, len(self.lines[-1])
        place = f"column {column + 1}" if len(self.lines) == 1 else f"line {line + 1}, column {column + 1}"
        start = max(column - 70, 0)
        window = "".join(c if c.isprintable() else " " for c in self.lines[line][start : column + 40])
        caret = " " * (column - start) + "^"
        parts = (f"{self._what}, {place}: {problem}", f"    {window}", f"    {caret}", hint)
        return PlanError("\n".join(part for part in parts if part))
