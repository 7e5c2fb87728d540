"""The contract of a normaliser, as tests that its author inherits.

class TestGerman(NormaliserContract):
    def normaliser(self):
        return german

    examples = {"Groß, größer!": "gross groesser"}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import cloudpickle as _cloudpickle

from curate.errors import RecordError

cloudpickle: Any = _cloudpickle  # it has no type stubs

ODD_TEXTS = (
    "",
    " ",
    "\n\t",
    "ÄÖÜ ß ﬁ",
    "e\u0301 \u200b \u202e",
    "\U0001f642 👩‍👩‍👧",
    "1" * 5000,
    "((([[[<<<",
    "$12.50 at 7:30",
    "नमस्ते שלום 你好",
    "\ud800",
    "a" * 20_000,
)
"""Texts of the kind that manifests hold now and then."""


class NormaliserContract:
    """Tests of one normaliser. Derive from it, name the class `Test…`, and define `normaliser()`."""

    examples: ClassVar[Mapping[str, str]] = {}
    """Texts and what they are normalised to."""

    def normaliser(self) -> Callable[[str], str]:
        """Return the normaliser: the function that its `NormaliserRef` names."""
        raise NotImplementedError(f"{type(self).__name__} must define normaliser(): return the function to test")

    # What is below is inherited.

    def test_it_normalises_the_examples(self) -> None:
        """Each of `examples`."""
        normalise = self.normaliser()
        assert {text: normalise(text) for text in self.examples} == dict(self.examples)

    def test_an_odd_text_costs_one_record_at_most(self) -> None:
        """Any string gives a string, or the `RecordError` of the one record that holds it."""
        normalise = self.normaliser()
        for text in (*ODD_TEXTS, *self.examples):
            try:
                result = normalise(text)
            except RecordError:
                continue
            assert isinstance(result, str), f"{text[:60]!r} gives {result!r:.80}, which is not a string"

    def test_it_is_the_same_in_a_worker(self) -> None:
        """Workers get a pickled copy, which gives the same results."""
        copy = cloudpickle.loads(cloudpickle.dumps(self.normaliser(), protocol=5))
        for text in ("Hello, World 12!", "", *self.examples):
            assert copy(text) == self.normaliser()(text)
