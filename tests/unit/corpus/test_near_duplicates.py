"""Near duplicates of texts: candidates by MinHash against every pair, the verdict on a pair, and the groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.corpus.leaders import find_leaders
from curate.corpus.minhash import BANDS, ROWS, grams, jaccard, text_bands
from curate.corpus.similarity import edit_similarity, is_near_duplicate, near_duplicates
from tests.made_up import every_near_pair, utterances

pytest.importorskip("duckdb", reason="needs duckdb: pip install 'curate-speech[corpus]'")

from curate.corpus import KeyTable
from curate.corpus.neighbours import NEIGHBOURS, pairs_by_hash
from curate.corpus.row_writer import RowWriter
from curate.corpus.text_groups import group_texts


def groups_of(folder: Path, texts: list[str], *, near: bool = True, threads: int | None = None) -> dict[int, int]:
    """Return position → leader."""
    folder.mkdir(exist_ok=True)
    keys = KeyTable(folder, {"text": "VARCHAR", "bands": "BLOB"}, threads=threads)
    bands = text_bands(texts)
    records = ({"_id": str(n), "text": text, "bands": bands[n].tobytes()} for n, text in enumerate(texts))
    keys.fill(records, lambda record: (record["text"], record["bands"]))
    table = group_texts(keys, near=near)
    found = dict(keys.rows(f"SELECT position, leader FROM {table}"))
    keys.close()
    return found


def test_grams_of_a_text_count_its_edges() -> None:
    assert grams("ab") == {"  a", " ab", "ab ", "b  "}
    assert jaccard("ab", "ab") == 1
    assert jaccard("ab", "cd") == 0


def test_bands_of_a_text_do_not_depend_on_its_neighbours() -> None:
    texts = [*utterances(300), "", "a", "\ud800 alone", "日本語のテキスト", "x" * 100_000]
    together = text_bands(texts)
    assert together.shape == (len(texts), BANDS)
    for number, text in enumerate(texts):
        assert (text_bands([text])[0] == together[number]).all()


def test_signatures_estimate_the_jaccard_similarity() -> None:
    texts = list(utterances(400, copies=0.9))
    bands = text_bands(texts)
    pairs = [(a, b) for a in range(200) for b in range(a) if 0.4 < jaccard(texts[a], texts[b]) < 1]
    expected = sum(BANDS * jaccard(texts[a], texts[b]) ** ROWS for a, b in pairs)
    assert sum(int((bands[a] == bands[b]).sum()) for a, b in pairs) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("turn on the light", "turn on the lights", True),
        ("turn on the light", "turn off the radio", False),
        ("abcde", "abcdf", True),  # 1 of 5: exactly 0.8
        ("abcdefghi", "abcdefgxy", False),  # 2 of 9
        ("the committee will meet again on thursday at nine", "the committee will meet again on thursday at ten", True),
        ("the committee will meet again on thursday morning", "the committee has met already on monday evening", False),
    ],
)  # fmt: skip
def test_verdict_on_two_texts(one: str, other: str, same: bool) -> None:
    assert is_near_duplicate(one, other) is same
    assert is_near_duplicate(other, one) is same
    assert near_duplicates([one, other], [other, one]) == [same, same]


def test_edit_similarity_is_of_the_longer_text() -> None:
    assert edit_similarity("abcd", "abcde") == pytest.approx(0.8)


def test_a_duplicate_of_a_duplicate_leads_a_group_of_its_own() -> None:
    # 1 resembles 0, 2 resembles 1 but not 0: 2 is not called a duplicate of 0
    assert dict(find_leaders([(1, 0), (2, 1), (3, 0), (3, 2)], 0, 3)) == {1: 0, 3: 0}


def test_near_groups_find_nearly_every_pair_and_no_false_one(tmp_path: Path) -> None:
    texts = list(utterances(4_000, seed=5))
    leaders = groups_of(tmp_path, texts)
    truth = every_near_pair(texts)
    assert len(truth) > 100
    found = sum(leaders[a] == leaders[b] for a, b in truth)
    assert found >= 0.95 * len(truth)
    assert all(is_near_duplicate(texts[a], texts[b]) for a, b in leaders.items() if texts[a] != texts[b])


def test_groups_do_not_depend_on_threads(tmp_path: Path) -> None:
    texts = list(utterances(3_000, seed=6, copies=0.3))
    one = groups_of(tmp_path / "one", texts, threads=1)
    assert groups_of(tmp_path / "four", texts, threads=4) == one


def test_many_like_texts_are_one_group(tmp_path: Path) -> None:
    texts = [f"the report of the committee on the budget of the year was read aloud {n:04}" for n in range(500)]
    leaders = groups_of(tmp_path, texts)
    assert sum(leader == 0 for leader in leaders.values()) > 400


@pytest.mark.parametrize("run", [1, 2, NEIGHBOURS, NEIGHBOURS + 1, NEIGHBOURS + 2, 200])
def test_rows_of_a_run_are_paired_across_batches(tmp_path: Path, run: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.corpus.neighbours._FETCHED", 64)
    keys = KeyTable(tmp_path, {})
    hashes = [number // run for number in range(1_000)]
    with RowWriter(tmp_path / "rows.parquet", {"hash": "BIGINT", "position": "BIGINT", "shape": "BIGINT"}) as file:
        for position, value in enumerate(hashes):
            file.append((value, position, 2 * position))
    found: set[tuple[int, int]] = set()
    for first, shapes, second, others in pairs_by_hash(keys, f"SELECT * FROM '{tmp_path}/rows.parquet'"):
        assert (shapes == 2 * first).all() and (others == 2 * second).all()
        found |= set(zip(first.tolist(), second.tolist(), strict=True))
    expected: set[tuple[int, int]] = set()
    for later, value in enumerate(hashes):
        start = value * run
        expected |= {(earlier, later) for earlier in range(max(start, later - NEIGHBOURS), later)}
        expected |= {(start, later)} if later > start else set()
    assert found == expected
