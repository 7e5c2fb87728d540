"""Records by dataset, language and speaker: exact sums, whatever the number of values."""

from __future__ import annotations

from typing import Any

import pytest

from curate.report.breakdown import Breakdown
from curate.report.samples import Fate


def see(breakdown: Breakdown, fate: Fate, rate: float | None = None, words: int = 0, **record: Any) -> None:
    breakdown.see(fate, {"duration": 1.5, **record}, rate, words)


def test_groups_have_the_sums_of_their_records_those_with_most_audio_first() -> None:
    breakdown = Breakdown()
    see(breakdown, "kept", 0.5, 4, lang="en")
    see(breakdown, "filtered", 1.0, 4, lang="en")
    see(breakdown, "quarantined", lang=None)
    see(breakdown, "kept", 0.0, 10, lang="de", duration=20.0)
    see(breakdown, "kept", 0.0, 10)
    groups, others, rest = breakdown.found("lang", 10)
    assert [value for value, _ in groups] == ["de", "en", None]
    english = dict(groups)["en"]
    assert (english.records, english.kept, english.ms, english.kept_ms) == (2, 1, 3000, 1500)
    assert english.errors / english.words == 0.75
    assert (others, rest.records) == (0, 0)
    assert breakdown.found("speaker", 10)[0] == []


def test_values_beyond_the_maximum_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.report.breakdown.MAX_VALUES", 5)
    breakdown = Breakdown()
    for number in range(40):
        see(breakdown, "kept", speaker=f"s{number % 8}")
    groups, others, rest = breakdown.found("speaker", 3)
    assert [(value, group.records) for value, group in groups] == [("s0", 5), ("s1", 5), ("s2", 5)]
    assert (others, rest.records) == (None, 25)
