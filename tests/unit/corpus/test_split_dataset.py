"""A division into splits: hours, groups, leaks, a previous division, and wishes that cannot be met."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from curate import InfrastructureError, Pipeline
from curate.errors import PlanError
from curate.records import Record
from curate.stages import Merge, ReadRecords, SplitDataset
from tests.made_up import words

pytest.importorskip("duckdb", reason="needs duckdb: pip install 'curate-speech[corpus]'")


def corpus(speakers: range, seed: int = 0) -> list[Record]:
    """Return utterances of speakers whose hours are log-normal."""
    records: list[Record] = []
    for speaker in speakers:
        numbers = random.Random(f"{seed} {speaker}")
        left = numbers.lognormvariate(0, 1) * 200
        while left > 0:
            duration = round(numbers.uniform(2, 12), 3)
            left -= duration
            text = " ".join(words(6, numbers))
            records.append({"speaker": f"s{speaker}", "duration": duration, "text": text})
    return records


def run(folder: Path, records: Sequence[Record], **settings: Any) -> list[Record]:
    stages = [ReadRecords(records), SplitDataset(**{"audio": "none", **settings}), Merge("out.jsonl")]
    Pipeline("p", stages).run(run_dir=folder / "run")
    return [json.loads(line) for line in (folder / "run" / "out.jsonl").read_text().splitlines()]


def splits_by(rows: Sequence[Record], column: str) -> dict[Any, set[str]]:
    found: dict[Any, set[str]] = defaultdict(set)
    for row in rows:
        found[row[column]].add(row["split"])
    return found


def hours(rows: Sequence[Record]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for row in rows:
        found[row["split"]] += row["duration"] / 3600
    return found


def published(folder: Path) -> dict[str, str]:
    from pyarrow import parquet

    table: Any = parquet
    return {row["speaker"]: row["split"] for row in table.read_table(folder / "run" / "splits.parquet").to_pylist()}


def test_splits_have_their_hours_and_share_no_speaker_and_no_text(tmp_path: Path) -> None:
    records = corpus(range(500))
    numbers = random.Random(1)
    records += [{**numbers.choice(records), "speaker": f"s{numbers.randrange(500)}"} for _ in range(300)]
    rows = run(tmp_path, records)
    found, total = hours(rows), sum(record["duration"] for record in records) / 3600
    assert found["dev"] == pytest.approx(0.05 * total, rel=0.1)
    assert found["test"] == pytest.approx(0.05 * total, rel=0.1)
    assert found["train"] == pytest.approx(0.9 * total, rel=0.1)
    assert all(len(splits) == 1 for splits in splits_by(rows, "speaker").values())
    assert all(len(splits) == 1 for splits in splits_by(rows, "text").values())
    assert len(rows) < len(records)  # some leaked, and were filtered


def test_more_data_moves_nobody(tmp_path: Path) -> None:
    before = run(tmp_path / "one", corpus(range(500)))
    previous = str(tmp_path / "one" / "run" / "splits.parquet")
    rows = run(tmp_path / "two", corpus(range(550)), previous=previous)
    first, second = splits_by(before, "speaker"), splits_by(rows, "speaker")
    assert {speaker: second[speaker] for speaker in first} == first
    found = hours(rows)
    assert found["dev"] == pytest.approx(0.05 * sum(found.values()), rel=0.1)
    assert len({speaker for speaker, splits in second.items() if splits == {"dev"}} - first.keys()) > 0  # topped up


def test_the_published_file_names_every_group_and_keeps_those_that_are_gone(tmp_path: Path) -> None:
    rows = run(tmp_path / "one", corpus(range(100)))
    assert published(tmp_path / "one") == {key: next(iter(value)) for key, value in splits_by(rows, "speaker").items()}
    previous = str(tmp_path / "one" / "run" / "splits.parquet")
    run(tmp_path / "two", corpus(range(50, 100)), previous=previous, tolerance=1.0)
    assert published(tmp_path / "two") == published(tmp_path / "one")


def test_another_seed_gives_another_division_and_the_same_seed_the_same(tmp_path: Path) -> None:
    first, again, other = (
        run(tmp_path / str(number), corpus(range(100)), seed=seed) for number, seed in enumerate((1, 1, 2))
    )
    assert first == again
    assert splits_by(first, "speaker") != splits_by(other, "speaker")


def test_order_of_the_input_does_not_change_the_division(tmp_path: Path) -> None:
    records = corpus(range(100))
    one, other = run(tmp_path / "one", records), run(tmp_path / "two", records[::-1])
    assert splits_by(one, "speaker") == splits_by(other, "speaker")


def test_a_group_larger_than_the_small_splits_goes_to_train(tmp_path: Path) -> None:
    large = [{"speaker": "large", "duration": 30.0, "text": f"{number}"} for number in range(400)]
    rows = run(tmp_path, [*large, *corpus(range(200))], splits={"dev": "30min", "test": "30min"})
    assert splits_by(rows, "speaker")["large"] == {"train"}


def test_a_record_without_a_speaker_goes_to_train(tmp_path: Path) -> None:
    rows = run(tmp_path, [*corpus(range(100)), {"speaker": None, "duration": 3.0, "text": "x"}])
    assert splits_by(rows, "speaker")[None] == {"train"}


def test_groups_may_be_of_several_columns_and_of_numbers(tmp_path: Path) -> None:
    records = [{**record, "book": number % 3} for number, record in enumerate(corpus(range(60)))]
    rows = run(tmp_path, records, group=["book", "speaker"], tolerance=0.2)
    groups: dict[Any, set[str]] = defaultdict(set)
    for row in rows:
        groups[row["book"], row["speaker"]].add(row["split"])
    assert all(len(splits) == 1 for splits in groups.values())
    previous = str(tmp_path / "run" / "splits.parquet")
    assert run(tmp_path / "again", records, group=["book", "speaker"], previous=previous, tolerance=0.2) == rows


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"splits": {"dev": "1000h"}},
            r"dev wants 1000\.000 h and has .* in 40 groups; train has 0\.000 h",
        ),
        ({"group": ["language"]}, "dev, test cannot be filled"),
        ({"splits": {"dev": "1s"}}, r"dev cannot be filled: dev wants 0\.000 h"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_with_figures(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    records = [{**record, "language": "en"} for record in corpus(range(40))]
    with pytest.raises(InfrastructureError, match=message):
        run(tmp_path, records, **settings)


def test_too_many_leaks_are_refused_with_figures(tmp_path: Path) -> None:
    records = [{**record, "text": "everyone reads this same sentence"} for record in corpus(range(100))]
    with pytest.raises(InfrastructureError, match=r"records with .* hours .* more than max_dropped=0\.1 allows"):
        run(tmp_path, records)
    assert len(run(tmp_path / "none", records, text="none")) == len(records)


def test_records_without_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="the records have no audio"):
        run(tmp_path, [{"speaker": "a", "duration": None, "text": "x"}] * 2)


def test_a_previous_division_with_a_group_in_two_splits_is_refused(tmp_path: Path) -> None:
    lines = [{"speaker": "s1", "split": split} for split in ("dev", "train")]
    (tmp_path / "previous.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InfrastructureError, match="more than once"):
        run(tmp_path, corpus(range(40)), previous=str(tmp_path / "previous.jsonl"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"splits": {}}, "splits is empty"),
        ({"splits": {"dev": 0.05}}, "0.05 is not an amount: write '5%'"),
        ({"splits": {"dev": "60%", "test": "40%"}}, "leaves nothing for the rest"),
        ({"splits": {"train": "5%"}}, "rest='train': must be a name that splits does not have"),
        ({"group": "speaker"}, "must be a list of columns"),
        ({"group": ["client_id"]}, "reads column 'client_id'"),
        ({"publish": "splits.csv"}, "must end in .parquet"),
        ({"previous": "missing.parquet"}, "cannot read missing.parquet"),
        ({"tolerance": 2}, "must be a share"),
    ],
)
def test_a_mistake_is_found_by_the_plan(settings: dict[str, Any], message: str) -> None:
    stages = [ReadRecords(corpus(range(3))), SplitDataset(**{"audio": "none", **settings})]
    with pytest.raises(PlanError, match=message):
        Pipeline("p", stages).plan()


@pytest.mark.parametrize(("audio", "leaked"), [("exact", {"same"}), ("near", {"same", "quiet", "later"})])
def test_splits_share_no_recording(audio: str, leaked: set[str], tmp_path: Path) -> None:
    """Copies of speech by other speakers: the same samples in another container, at half the level, 0.2 s later."""
    noise = np.random.default_rng(0)
    records: list[Record] = []
    for number in range(60):
        samples = np.convolve(noise.standard_normal(12_000) * 0.1, np.ones(4) / 4, "same")
        forms = {"own": samples}
        if number % 3 == 0:
            silence = np.zeros(1_600)
            forms |= {"same": samples, "quiet": samples / 2, "later": np.concatenate((silence, samples[:-1_600]))}
        for place, (form, changed) in enumerate(forms.items()):
            path = tmp_path / f"{number}-{form}.{'flac' if form == 'same' else 'wav'}"
            soundfile.write(path, np.round(changed * 32_767).astype(np.int16), 8_000)
            speaker = f"s{(number + 7 * place) % 60}"
            records.append({"audio_filepath": str(path), "duration": 1.5, "speaker": speaker, "recording": number})
    settings = {"splits": {"dev": "30%"}, "audio": audio, "text": "none", "tolerance": 0.5, "max_dropped": 0.6}
    rows = run(tmp_path, records, **settings)
    kept: dict[str, dict[int, str]] = {form: {} for form in ("own", "same", "quiet", "later")}
    for row in rows:
        kept[Path(row["audio_filepath"]).stem.partition("-")[2]][row["recording"]] = row["split"]
    compared = [splits for form, splits in kept.items() if form == "own" or form in leaked]
    for number in range(60):
        assert len({splits[number] for splits in compared if number in splits}) <= 1, number
    assert 0 < len(records) - len(rows) < 60
    assert {row["split"] for row in rows} == {"dev", "train"}
