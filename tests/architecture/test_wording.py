"""The wording rule as a test: phrases to avoid occur nowhere but in a few places where they are right.

The files are read as running text: line breaks, comment signs and the seams of split string literals become one
blank, `snake_case` and `CamelCase` become words. So a phrase is found in docstrings, comments, messages and
identifiers alike, and also where it is broken over two lines.

`python tests/architecture/test_wording.py [DIRECTORY]` prints the count and the places of each phrase.
"""

import re
import sys
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SUFFIXES = {".py", ".md", ".toml", ".yaml", ".j2", ".js"}


class Phrase(NamedTuple):
    """A phrase to avoid, as a regular expression over lower-case running text, and what to write instead."""

    name: str
    pattern: str
    ceiling: int  # the occurrences that are right where they stand
    instead: str


UNITS = "(?:seconds|minutes|hours|ms|s|milliseconds|bytes|records|order|turn|proportion|parallel|place|advance)"
VERBS = "(?:return|say|give|yield|tell|print|show|find|name|list|read|make|keep|describe|report|take|write)"
NOT_A_BOX = r"(?<!class=\")(?<!class=\\\")(?<!colour\(\")"
PHRASES = (
    Phrase("so many", r"\bso (?:many|much|long|often)\b", 2, "at most N; the maximum number; how long"),
    # "There is no GPU" is how English says it; "/ is no folder" is not.
    Phrase("is no", r"(?<!there )\b(?:is|are|was|were) no\b(?! longer\b)", 0, "is not a …; must be a …"),
    Phrase(
        "return what",
        rf"\b{VERBS}s? what\b",
        5,
        "name the noun: return the summary, return the unfinished records",
    ),
    # A file's position is its `tell()`.
    Phrase("tell", r"(?<!\.)(?<!def )\b(?:tells?|told|telling)\b", 1, "report, show, distinguish; a variable: message"),
    Phrase("hear", r"\b(?:hears?|heard|hearing)\b", 10, "receive; a variable: received"),
    Phrase("said", r"\bsaid\b", 4, "reported, logged, given; a variable: message"),
    Phrase("nobody", r"\b(?:nobody|somebody|whoever|anybody)(?:'s)?\b", 1, "name the component or the user"),
    # What lives somewhere is fine: "lives in the worker".
    Phrase("life", r"\b(?:life|lives(?! (?:in|on|under|at|as|with|outside|longer)\b))\b", 0, "attempt"),
    Phrase("go on", r"\b(?:go|goes|went|going|gone) on\b", 1, "continue, resume"),
    Phrase("come to", r"\b(?:come|comes|came|coming) (?:to|of)\b", 0, "result in, end as, amount to"),
    Phrase("stranger", r"\bstrangers?(?:'s)?\b", 0, "third-party, user code"),
    # Model cards and data cards are Hugging Face's; the report's cards are boxes with a CSS class and a colour.
    Phrase("card", rf"{NOT_A_BOX}(?<!\bwild )(?<!\bmodel )(?<!\bdata )(?<!\bdataset )\bcards?\b", 8, "GPU"),
    Phrase(
        "a text",
        r"\b(?:a|no) text\b(?! (?:files?|columns?|fields?|keys?|editors?|stages?|normalisers?|grids?)\b)",
        2,
        "string; of speech: transcript",
    ),
    Phrase("at once", r"\bat once\b", 1, "immediately; at the same time"),
    Phrase("beside", r"\bbesides?\b", 0, "next to; in addition to; other than"),
    Phrase("take in", rf"\b(?:take|takes|took|taken|taking) (?:in|note)\b(?! {UNITS}\b)", 2, "record, handle"),
    Phrase("mended", r"\bmend(?:s|ed|ing)?\b", 0, "fixed, repaired"),
    Phrase("give it back", r"\b(?:give|gives|gave|given|giving) (?:it|them) back\b", 0, "restore"),
    Phrase("to be had", r"\b(?:be|is|are|was|were) had\b", 0, "available"),
    Phrase("for want of", r"\bfor want of\b", 0, "for lack of; without"),
    Phrase("such a one", r"\bsuch a one\b", 0, "name the noun"),
    Phrase("merely", r"\bmerely\b", 0, "only"),
)


class Text(NamedTuple):
    """A file as running text, and where its lines begin in it."""

    path: Path
    words: str
    offsets: list[int]
    lines: list[int]

    def places(self, pattern: str) -> Iterator[str]:
        for match in re.finditer(pattern, self.words):
            line = self.lines[bisect_right(self.offsets, match.start()) - 1]
            around = self.words[max(0, match.start() - 40) : match.end() + 40]
            yield f"{self.path}:{line}: …{around}…"


def running_text(path: Path, content: str) -> Text:
    """Cut a file into words: no markup of comments, no seams of literals, identifiers taken apart."""
    if path.suffix == ".py":
        content = re.sub(r"([\"'])[ \t]*\n[ \t]*[rbf]?\1(?!\1)", "\n", content)
        content = re.sub(r"(?m)^[ \t]*#:? ?", "", content)
    content = re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", content).lower()
    words: list[str] = []
    offsets: list[int] = []
    lines: list[int] = []
    offset = 0
    for number, line in enumerate(content.split("\n"), 1):
        for word in line.split():
            words.append(word)
            offsets.append(offset)
            lines.append(number)
            offset += len(word) + 1
    return Text(path, " ".join(words), offsets, lines)


@cache
def texts(root: Path = ROOT) -> list[Text]:
    found = chain((root / "curate").rglob("*"), (root / "plugins").rglob("*"), (root / "docs").glob("*.md"))
    paths = [path for path in found if path.suffix in SUFFIXES and path.is_file() and ".min." not in path.name]
    return [running_text(path.relative_to(root), path.read_text()) for path in [*sorted(paths), root / "README.md"]]


def places(phrase: Phrase, root: Path = ROOT) -> list[str]:
    return [place for text in texts(root) for place in text.places(phrase.pattern)]


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: phrase.name.replace(" ", "_"))
def test_wording_of_code_and_docs_stays_below_the_ceiling(phrase: Phrase):
    found = places(phrase)
    assert len(found) <= phrase.ceiling, (
        f"{phrase.name!r} occurs {len(found)} times, at most {phrase.ceiling} are allowed. "
        f"Write instead: {phrase.instead}\n" + "\n".join(found)
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("so many", '"""Open at most so\n    many files."""'),
        ("so many", 'message = "so "\n    "many"'),
        ("at once", "# stop it at\n# once"),
        ("tell", "_told = []"),
        ("card", "class GpuCard: ..."),
        ("is no", 'raise ValueError(f"{path} is no folder")'),
    ],
)
def test_running_text_finds_a_phrase_across_lines_literals_and_identifiers(name: str, content: str):
    (pattern,) = (phrase.pattern for phrase in PHRASES if phrase.name == name)
    assert list(running_text(Path("x.py"), content).places(pattern))


@pytest.mark.parametrize(
    "content",
    [
        "there is no free GPU",
        "it is no longer open",
        "side by side",
        "a wildcard, cardinality, discard",
        "a text file",
        "the queue lives in the worker",
        "what it takes in seconds",
    ],
)
def test_running_text_of_plain_english_has_no_phrase(content: str):
    text = running_text(Path("x.md"), content)
    assert not [phrase.name for phrase in PHRASES if list(text.places(phrase.pattern))]


if __name__ == "__main__":
    root = Path(sys.argv[1]) if sys.argv[1:] else ROOT
    for phrase in PHRASES:
        found = places(phrase, root)
        print(f"{len(found):4}  {phrase.name}", *found, sep="\n      ")
