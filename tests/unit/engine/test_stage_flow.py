"""Records are followed through stages by one function over counts."""

from __future__ import annotations

from curate.engine.accounting.counts import add_stage_counts, follow_stages


def test_flow_hands_on_what_no_stage_has_taken() -> None:
    parts = [
        {"a": {"filtered": 2}, "b": {"split": 1, "children": 3}},
        {"a": {"quarantined": 1}, "c": {"joined": 4, "joins": 2}},
    ]
    a, b, c = follow_stages(["a", "b", "c"], 10, parts)
    assert (a.records_in, a.records_out, a.filtered, a.quarantined) == (10, 7, 2, 1)
    assert (b.records_in, b.records_out, b.split, b.children) == (7, 9, 1, 3)
    assert (c.records_in, c.records_out, c.joined, c.joins) == (9, 7, 4, 2)


def test_flow_of_no_counts_is_the_input() -> None:
    assert [flow.records_out for flow in follow_stages(["a", "b"], 3, [])] == [3, 3]


def test_counts_are_added_by_stage() -> None:
    total: dict[str, dict[str, int]] = {}
    for part in ({"a": {"filtered": 1}}, {"a": {"filtered": 2, "split": 1}, "b": {"filtered": 5}}):
        add_stage_counts(total, part)
    assert total == {"a": {"filtered": 3, "split": 1}, "b": {"filtered": 5}}
