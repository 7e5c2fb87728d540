"""The comparison of kept text with what was said, on texts whose errors are counted by hand."""

from __future__ import annotations

from tests.whole_job.kept_speech import errors_beside_gaps


def test_errors_are_counted_beside_gaps_and_nothing_else_is_forgiven() -> None:
    said = ["a", "b", "c", "d", "e", "f"]
    assert errors_beside_gaps(said, [said]) == 0
    assert errors_beside_gaps(said, [["a", "b"], None, ["e", "f"]]) == 0
    assert errors_beside_gaps(said, [["a", "b"], ["e", "f"]]) == 2
    assert errors_beside_gaps(said, [None, ["e", "x"]]) == 1
    assert errors_beside_gaps(said, [["a"], None]) == 0
    assert errors_beside_gaps(said, [["d"], None, ["b"]]) == 2, "one at each edge"
