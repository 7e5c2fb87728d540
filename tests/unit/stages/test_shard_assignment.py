"""Every record is in exactly one shard, whatever the sizes, folders and buckets; the order is that of the input."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.records import ID, Record
from curate.stages.write.assignment import POSITION, SHARD, AssignShards, folder_name
from curate.stages.write.bins import duration_bins, token_bins
from curate.stages.write.formats import member_name
from curate.stages.write.input_order import RestoreOrder
from curate.stages.write.packing import CutShards


def rows(count: int, step: float = 0.0, **columns: Any) -> list[Record]:
    return [
        {
            ID: f"in.jsonl:{number}",
            "duration": 1.0 + number % 7 + step * (number % 11),
            **{name: at(number) for name, at in columns.items()},
        }
        for number in range(count)
    ]


def assigned(gather: AssignShards, records: list[Record]) -> dict[str, list[int]]:
    """Return the numbers of the records of each shard, by its folder and rank there."""
    batches = list(CutShards().partition(iter(gather.gather(iter(records)))))  # type: ignore[arg-type]
    ranks: Counter[str] = Counter()
    found: dict[str, list[int]] = {}
    for batch in batches:
        label = batch.data[0][SHARD].rpartition("#")[0]
        found[f"{label}#{ranks[label]}"] = [int(record[ID].rpartition(":")[2]) for record in batch.data]
        ranks[label] += 1
    return found


@pytest.mark.parametrize(("shards", "made"), [(1, 1), (16, 16), (1023, 1023), (1024, 1023)])
def test_every_record_is_in_one_of_the_wanted_shards(shards: int, made: int) -> None:
    found = assigned(AssignShards(shards=shards), rows(1023))
    assert len(found) == made
    assert list(itertools.chain.from_iterable(found.values())) == list(range(1023))
    sizes = list(map(len, found.values()))
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("shards", [16, 1024])
def test_buckets_with_borders_may_be_empty_and_lose_nothing(shards: int) -> None:
    found = assigned(AssignShards(shards=shards, buckets=[2.5, 4.2, 4.5, 6.0]), rows(1023))
    folders = Counter(label.partition("#")[0] for label in found)
    assert set(folders) == {"bucket1", "bucket2", "bucket4", "bucket5"}  # nothing is between 4.2 and 4.5 s
    assert sorted(itertools.chain.from_iterable(found.values())) == list(range(1023))
    in_folder = Counter(label.partition("#")[0] for label, numbers in found.items() for _ in numbers)
    assert all(count == min(shards, in_folder[label]) for label, count in folders.items())


def test_counted_buckets_have_about_the_same_hours() -> None:
    records = rows(1001, step=0.1)
    found = assigned(AssignShards(shards=1, buckets=5), records)
    hours = [sum(records[number]["duration"] for number in numbers) for numbers in found.values()]
    assert len(hours) == 5
    assert max(hours) / min(hours) < 1.1


def test_shards_by_length_hold_about_as_much_audio() -> None:
    records = rows(500)
    found = assigned(AssignShards(shard_s=100.0), records)
    lengths = [sum(records[number]["duration"] for number in numbers) for numbers in found.values()]
    assert len(lengths) == round(sum(record["duration"] for record in records) / 100)
    assert all(90 <= length <= 110 for length in lengths)


def test_values_of_columns_have_folders_of_their_own_in_order() -> None:
    found = assigned(AssignShards(shard_records=10, by=["split"]), rows(100, split=lambda n: "dev" if n % 5 else None))
    assert list(found) == [*(f"dev#{number}" for number in range(8)), "none#0", "none#1"]
    assert all(numbers == sorted(numbers) for numbers in found.values())


@given(
    durations=st.lists(st.floats(0, 40), min_size=1, max_size=60),
    labels=st.lists(st.sampled_from(["a", "b", None]), min_size=60, max_size=60),
    size=st.sampled_from(["shards", "shard_records", "shard_s"]),
    amount=st.integers(1, 70),
    buckets=st.sampled_from([None, 1, 3, [5.0, 10.0]]),
)
def test_no_assignment_loses_or_repeats_a_record(
    durations: list[float], labels: list[str | None], size: str, amount: int, buckets: Any
) -> None:
    records = [
        {ID: f"i:{number}", "duration": duration, "split": labels[number]} for number, duration in enumerate(durations)
    ]
    gather = AssignShards(by=["split"], buckets=buckets, **{size: amount})  # type: ignore[arg-type]
    found = assigned(gather, records)
    assert sorted(itertools.chain.from_iterable(found.values())) == list(range(len(durations)))


def test_different_values_have_different_folders() -> None:
    values = [None, "none", "a/b", "a_b", "", ".", "..", "ü", "x" * 300, "x" * 301, 1, 1.5]
    assert len({folder_name(value) for value in values}) == len(values)
    assert all("/" not in folder_name(value) and folder_name(value) not in ("", ".", "..") for value in values)


def test_different_ids_have_different_names_without_a_dot() -> None:
    ids = ["/a/in.jsonl:1", "/b/in.jsonl:1", "in.jsonl:1/0", "in.jsonl:1/1", "in.jsonl:1_0", "in:11", "x.y.z:1"]
    names = [member_name(identity) for identity in ids]
    assert len(set(names)) == len(ids)
    assert all("." not in name and "/" not in name and not name.startswith("-") for name in names)
    assert member_name("corpus/in.jsonl:12/3").startswith("in-12_3-")


def test_bins_of_durations_hold_as_many_hours() -> None:
    assert duration_bins({100: 300, 200: 150, 300: 100, 1000: 30}, 4) == [1.0, 2.0, 3.0]
    assert duration_bins({100: 1000, 200: 1, 300: 1}, 4) == [1.0]
    assert duration_bins({500: 1}, 30) == []
    assert duration_bins({}, 30) == []


def test_bins_of_tokens_lie_within_those_of_durations() -> None:
    lengths = {(100, 5): 40, (100, 20): 10, (200, 10): 10, (200, 50): 2}
    assert token_bins(lengths, 2, 2) == [[1.0, 5], [1.0, 20], [2.0, 10], [2.0, 50]]


@pytest.mark.parametrize("folders", [1, 3, 700])
@pytest.mark.parametrize("characters", [0, 5_000])
def test_order_of_the_input_is_restored(tmp_path: Path, folders: int, characters: int) -> None:
    lot = random.Random(0)
    made = rows(1_500, text=lambda number: "ü" * (characters if number % 97 == 0 else 3))
    for record in made:
        record["speaker"] = f"s{lot.randrange(folders)}"
    shuffled = list(AssignShards(by=["speaker"], shard_records=10).gather(iter([dict(each) for each in made])))
    assert folders == 1 or [record[ID] for record in shuffled] != [record[ID] for record in made]  # type: ignore[index]
    restored = list(RestoreOrder().gather_again(shuffled, tmp_path))  # type: ignore[arg-type]
    assert [{**record, SHARD: None} for record in restored] == [{**record, SHARD: None} for record in made]  # type: ignore[dict-item]


def test_order_is_restored_in_memory_that_does_not_grow_with_the_records(tmp_path: Path) -> None:
    def in_folders(count: int) -> Iterator[Record]:
        for folder in range(4):
            for number in range(folder, count, 4):
                yield {ID: f"in.jsonl:{number}", POSITION: number, "text": "word " * 20}

    def peak_bytes(count: int) -> int:
        tracemalloc.start()
        try:
            found = sum(1 for _ in RestoreOrder().gather_again(in_folders(count), tmp_path))
            assert found == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_bytes(100)
    assert peak_bytes(20_000) <= peak_bytes(10_000) + 100_000
