"""`sort`, `shuffle`, `sample`, `balance` and `rate_outliers`: what they keep, and in which order."""

from __future__ import annotations

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curate import Gather, Pipeline
from curate.errors import PlanError
from curate.records import Record
from curate.stages import Balance, QualityFilter, RateOutliers, ReadRecords, Sample, Shuffle, Sort

pytest.importorskip("duckdb", reason="needs duckdb: pip install 'curate-speech[corpus]'")


def gathered(stage: Gather, records: Sequence[Record]) -> Any:
    return Pipeline("p", [ReadRecords(list(records)), stage]).run()


def kept(stage: Gather, records: Sequence[Record], column: str = "n") -> list[Any]:
    return [record[column] for record in gathered(stage, records).records()]


def corpus(count: int = 400, seed: int = 0) -> list[Record]:
    draw = random.Random(seed)
    weights = {"en": 70, "de": 25, "cy": 5}
    return [
        {
            "n": number,
            "duration": round(draw.lognormvariate(1.5, 0.6), 3),
            "lang": draw.choices(list(weights), list(weights.values()))[0],
            "speaker": f"s{int(draw.paretovariate(1.1)) % 40}",
        }
        for number in range(count)
    ]


def hours_by(records: Sequence[Record], column: str) -> dict[Any, float]:
    found: dict[Any, float] = defaultdict(float)
    for record in records:
        found[record.get(column)] += record["duration"] / 3600
    return dict(found)


# Order.


def test_sort_compares_numbers_strings_and_nulls() -> None:
    values = [3, "b", None, 1.5, "a", None, True, -2, "ä", [1], 10**400]
    records = [{"n": number, "x": value} for number, value in enumerate(values)]
    ascending = kept(Sort(["x"]), records)
    assert [values[n] for n in ascending[:5]] == [-2, True, 1.5, 3, 10**400]
    assert [values[n] for n in ascending[5:9]] == [[1], "a", "b", "ä"]
    assert ascending[9:] == [2, 5]
    descending = kept(Sort(["-x"]), records)
    assert descending == [*ascending[:5][::-1], *ascending[5:9][::-1], 2, 5]


def test_sort_by_several_columns_equals_pythons() -> None:
    records = corpus()
    expected = sorted(records, key=lambda record: (record["lang"], -record["duration"], record["n"]))
    assert kept(Sort(["lang", "-duration"]), records) == [record["n"] for record in expected]


def test_equal_values_keep_the_order_of_the_input() -> None:
    records = [{"n": n, "x": n % 3} for n in range(30)]
    assert kept(Sort(["-x"]), records) == sorted(range(30), key=lambda n: (-(n % 3), n))


def test_shuffle_is_a_permutation_that_follows_from_the_seed() -> None:
    records = corpus()
    one, again, other = kept(Shuffle(), records), kept(Shuffle(), records), kept(Shuffle(seed=1), records)
    assert one == again and sorted(one) == list(range(400))
    assert one != other and one != sorted(one)
    # No trace of the input's order: the rank correlation of a random permutation of 400 is below 0.2 but for 1 in 10^4.
    assert abs(statistics.correlation(range(400), one)) < 0.2


def test_added_records_do_not_move_others_relative_to_each_other() -> None:
    longer = kept(Shuffle(), corpus(500))
    assert [n for n in longer if n < 400] == kept(Shuffle(), corpus(400))


# Samples.


def test_sample_of_hours_fills_them_but_no_more() -> None:
    records = corpus()
    result = list(gathered(Sample(hours=0.2), records).records())
    total = sum(record["duration"] for record in result) / 3600
    longest = max(record["duration"] for record in records) / 3600
    assert 0.2 - longest <= total <= 0.2
    assert [record["n"] for record in result] == sorted(record["n"] for record in result)


def test_larger_sample_contains_the_smaller_one() -> None:
    small, large = kept(Sample(count=50), corpus()), kept(Sample(count=100), corpus())
    assert (len(small), len(large)) == (50, 100) and set(small) < set(large)
    assert set(small) != set(kept(Sample(count=50, seed=1), corpus()))


def test_sample_of_each_group_takes_small_ones_whole(messages: list[str]) -> None:
    records = corpus()
    result = gathered(Sample(hours=0.1, by=["lang"]), records)
    found, there = hours_by(list(result.records()), "lang"), hours_by(records, "lang")
    assert there["cy"] < 0.1 and found["cy"] == pytest.approx(there["cy"])
    assert 0.09 < found["en"] <= 0.1 and 0.09 < found["de"] <= 0.1
    assert {note.reason for note in result.filtered} == {
        "not among the 0.1 hours drawn of lang=en",
        "not among the 0.1 hours drawn of lang=de",
    }
    assert any("lang=cy has" in message and "less than was asked for" in message for message in messages)


def test_record_without_duration_is_in_no_sample_of_hours() -> None:
    records = [{"n": 0, "duration": 1.0}, {"n": 1, "duration": None}, {"n": 2, "duration": 1.0}]
    result = gathered(Sample(hours=1), records)
    assert [record["n"] for record in result.records()] == [0, 2]
    assert [note.reason for note in result.filtered] == ["no duration: it cannot be in a sample of hours"]
    assert kept(Sample(count=3), records) == [0, 1, 2]


# Balance.


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, 1000.0])
def test_hours_that_groups_keep_are_in_proportion_to_the_power(temperature: float) -> None:
    records = corpus(3000)
    there = hours_by(records, "lang")
    found = hours_by(list(gathered(Balance(["lang"], temperature=temperature), records).records()), "lang")
    smallest = min(there.values())
    for lang, hours in there.items():
        expected = smallest * (hours / smallest) ** (1 / temperature)
        assert expected - 0.02 <= found[lang] <= expected + 1e-9, lang


def test_total_of_hours_is_shared_and_small_groups_stay_whole() -> None:
    records = corpus(3000)
    there = hours_by(records, "lang")
    result = gathered(Balance(["lang"], temperature=2, hours=2.0), records)
    found = hours_by(list(result.records()), "lang")
    assert found["cy"] == pytest.approx(there["cy"])
    assert sum(found.values()) == pytest.approx(2.0, abs=0.02) and sum(found.values()) <= 2.0
    assert found["en"] / found["de"] == pytest.approx(math.sqrt(there["en"] / there["de"]), rel=0.05)
    assert all("has more than its" in note.reason for note in result.filtered)


def test_more_hours_than_there_are_keep_everything() -> None:
    records = corpus()
    assert kept(Balance(["lang"], hours=1000), records) == list(range(400))


def test_caps_hold_for_each_value() -> None:
    records = corpus(2000)
    result = gathered(Balance(caps={"speaker": 0.02, "lang": 0.5}), records)
    rows = list(result.records())
    assert max(hours_by(rows, "speaker").values()) <= 0.02
    assert max(hours_by(rows, "lang").values()) <= 0.5
    there, found = hours_by(records, "speaker"), hours_by(rows, "speaker")
    small = [speaker for speaker, hours in there.items() if hours <= 0.02]
    assert small and sum(found.values()) > 0.3
    reasons = {note.reason for note in result.filtered}
    assert "speaker=s1 has more than its 0.02 hours" in reasons


def test_caps_come_before_the_balance_of_groups() -> None:
    records = corpus(3000)
    rows = list(gathered(Balance(["lang"], caps={"speaker": 0.05}, temperature=1000), records).records())
    assert max(hours_by(rows, "speaker").values()) <= 0.05
    found = hours_by(rows, "lang")
    assert max(found.values()) - min(found.values()) < 0.01


def test_missing_value_is_a_group_and_has_no_cap() -> None:
    records = [{"n": n, "duration": 36.0, "lang": None if n < 50 else "de"} for n in range(100)]
    assert len(kept(Balance(["lang"]), records)) == 100
    assert len(kept(Balance(caps={"lang": 0.1}), records)) == 50 + 10


# Outliers.


def brute_force(records: Sequence[Record], by: str | None) -> dict[int, bool | None]:
    groups: dict[Any, list[float]] = defaultdict(list)
    for record in records:
        if record["rate"] is not None:
            groups[record.get(by or "")].append(record["rate"])
    marks: dict[int, bool | None] = {}
    for record in records:
        values = groups[record.get(by or "")]
        if record["rate"] is None or len(values) < 20:
            marks[record["n"]] = None
            continue
        q1, _, q3 = statistics.quantiles(values, n=4, method="inclusive")
        marks[record["n"]] = not q1 - 1.5 * (q3 - q1) <= record["rate"] <= q3 + 1.5 * (q3 - q1)
    return marks


@pytest.mark.parametrize("by", [None, "lang", "speaker"])
def test_outliers_are_those_of_exact_quartiles(by: str | None) -> None:
    draw = random.Random(1)
    records = [
        record | {"rate": None if draw.random() < 0.05 else round(draw.gauss(14, 2) * draw.choice([1, 1, 1, 1, 3]), 2)}
        for record in corpus(600)
    ]
    stage = RateOutliers("rate", by=[by] if by else [])
    marks = {record["n"]: record["rate_outlier"] for record in gathered(stage, records).records()}
    assert marks == brute_force(records, by)
    assert {True, False, None} == set(marks.values())


def test_outlier_of_its_language_passes_in_the_whole_corpus() -> None:
    rates = [{"n": n, "lang": "zh", "chars_per_s": 4 + n % 5 / 10} for n in range(100)]
    rates += [{"n": 100 + n, "lang": "en", "chars_per_s": 14 + n % 5 / 10} for n in range(100)]
    rates.append({"n": 200, "lang": "zh", "chars_per_s": 14.0})
    by_language = kept(RateOutliers(by=["lang"]), rates, "rate_outlier")
    assert by_language == [False] * 200 + [True]
    assert kept(RateOutliers(), rates, "rate_outlier") == [False] * 201


def test_outliers_are_filtered_by_an_expression() -> None:
    rates = [{"n": n, "chars_per_s": 14 + n % 5 / 10} for n in range(40)] + [{"n": 40, "chars_per_s": 40.0}]
    stages = [ReadRecords(rates), RateOutliers(), QualityFilter("rate_outlier is None or not rate_outlier")]
    assert len(list(Pipeline("p", stages).run().records())) == 40


# Plans.


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Sort([]), "by is empty"),
        (Sort("duration"), "must be a list"),
        (Sort(["-"]), "a minus stands in front"),
        (Sort(["n", "-n"]), "stands twice"),
        (Sort(["m"]), "reads column 'm'"),
        (Sample(), "set one of them"),
        (Sample(hours=1, count=1), "set one of them"),
        (Sample(hours=0), "above 0"),
        (Sample(count=0), "whole number"),
        (Sample(count=1, by=["m"]), "reads column 'm'"),
        (Balance(), "by is empty"),
        (Balance(["lang"], temperature=0.5), "from 1 on"),
        (Balance(["lang"], caps={"speaker": 0}), "caps: speaker=0: must be above 0"),
        (Balance(["m"]), "reads column 'm'"),
        (RateOutliers(), "reads column 'chars_per_s'"),
        (RateOutliers("n", min_records=3), "at least 4"),
        (RateOutliers("n", factor=-1), "from 0 on"),
    ],
)
def test_mistake_is_found_in_the_plan(stage: Gather, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Pipeline("p", [ReadRecords(corpus(3)), stage]).plan()


@pytest.mark.parametrize(
    "stage", [Sort(["n"]), Shuffle(), Sample(hours=1), Balance(["lang"]), RateOutliers("duration")]
)
def test_empty_corpus_stays_empty(stage: Gather) -> None:
    records = [{"n": 1, "lang": "en", "duration": 1.0}]
    result = Pipeline("p", [ReadRecords(records), QualityFilter("n > 1"), stage]).run()
    assert list(result.records()) == []


def test_values_of_any_kind_are_groups(tmp_path: Path) -> None:
    odd = [1, 1.0, "1", "o'clock", "\ud800", None, True, ["a"], {"b": 1}]
    records = [{"n": n, "lang": value, "duration": 1.0} for n, value in enumerate(odd)]
    assert len(kept(Sample(count=1, by=["lang"]), records)) == 7
    assert len(kept(Balance(["lang"], caps={"lang": 1}), records)) >= 7
