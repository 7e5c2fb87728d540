"""Short ids: as short as they can be, and never two the same."""

from __future__ import annotations

from curate.report.short_ids import short_ids


def test_folders_are_left_out_where_the_file_is_the_only_one_of_its_name() -> None:
    ids = ["/data/a/train.jsonl:17", "/data/b/dev.jsonl:17/0/2", "plain.jsonl:1", "records"]
    assert list(short_ids(ids).values()) == ["…/train.jsonl:17", "…/dev.jsonl:17/0/2", "plain.jsonl:1", "records"]


def test_as_many_folders_are_left_as_distinguish_the_inputs() -> None:
    ids = ["/corpus/en/train/m.jsonl:3", "/corpus/de/train/m.jsonl:3", "/corpus/de/test/m.jsonl:3#2", "m.jsonl:3"]
    short = short_ids(ids)
    assert list(short.values()) == [
        "…/en/train/m.jsonl:3",
        "…/de/train/m.jsonl:3",
        "…/test/m.jsonl:3#2",
        "m.jsonl:3",
    ]


def test_an_input_of_which_no_record_is_shown_counts_as_well() -> None:
    assert short_ids(["/a/m.jsonl:1"], ["/a/m.jsonl", "/b/m.jsonl"]) == {"/a/m.jsonl:1": "…/a/m.jsonl:1"}


def test_children_and_parents_of_deep_ids_stay_different() -> None:
    ids = [f"/x/m.jsonl:{line}{child}" for line in (1, 11) for child in ("", "/1", "/1/1", "/11")]
    assert len(set(short_ids(ids).values())) == len(ids)
