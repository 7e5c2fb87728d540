"""How much input there is: counted, opened, or extrapolated, and said so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile

from curate.errors import UsageError
from curate.estimate import input_size
from curate.estimate.input_size import _spread, survey  # pyright: ignore[reportPrivateUsage]
from curate.records import Record
from curate.stage import Source
from curate.stages import FolderReader, ReadManifest, ReadRecords


@dataclass
class Endless(Source):
    """A source of which a clock that jumps leaves `read` records before the time is over."""

    files: list[Path] = field(default_factory=list[Path])
    known: int | None = None

    def read(self, after: str | None = None) -> Iterator[Record]:
        for number in range(1_000_000):
            yield {"_id": f"x:{number}", "duration": 3.6}

    def count(self) -> int | None:
        return self.known

    def inputs(self) -> list[Path]:
        return self.files


def clock_of(records: int) -> Iterator[float]:
    """Return a clock by which the time ends behind this many records."""
    yield from [0.0] * records
    while True:
        yield 1e9


def test_records_and_hours_are_counted_from_a_manifest(tmp_path: Path) -> None:
    rows = [{"audio_filepath": "a.wav", "duration": seconds} for seconds in (1, 2, 6)]
    (tmp_path / "m.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = survey(ReadManifest(tmp_path / "m.jsonl"))
    assert (found.size.records, found.size.audio_s, found.size.longest) == (3, 9, 6)
    assert found.size.basis == "3 records counted, lengths by `duration`"
    assert sorted(found.amounts) == [1, 2, 6]
    for position, record, amount in zip(found.positions, found.candidates, found.amounts, strict=True):
        assert record["_id"].endswith(f":{position + 1}") and record["duration"] == amount


def test_lengths_of_a_folder_are_those_of_its_files(tmp_path: Path) -> None:
    for name, seconds in (("a.wav", 1.5), ("b.flac", 0.5)):
        soundfile.write(tmp_path / name, np.zeros(round(16_000 * seconds)), 16_000)
    (tmp_path / "c.mp3").write_text("<html>not found</html>")
    size = survey(FolderReader(tmp_path)).size
    assert (size.records, size.unit) == (3, "seconds")
    assert size.audio_s == pytest.approx(2.0), "what cannot be opened fails quickly, and has no audio"
    assert size.basis == "3 records counted, lengths by headers of files, 1 not opened"


def test_records_count_where_lengths_are_unknown() -> None:
    size = survey(ReadRecords([{"text": "a"}, {"text": "b"}])).size
    assert (size.records, size.amount, size.unit, size.audio_s) == (2, 2, "records", None)
    assert "lengths unknown" in size.basis


def test_records_without_a_length_count_as_the_mean() -> None:
    records = [{"duration": 4.0}, {"duration": 2.0}, {"text": "remote"}]
    size = survey(ReadRecords(records)).size
    assert size.audio_s == 9
    assert size.basis.endswith("1 without a length taken as the mean")


def test_rest_is_extrapolated_by_the_count_of_the_source() -> None:
    ticks = clock_of(10)
    size = survey(Endless(known=1000), clock=lambda: next(ticks)).size
    assert size.records == 1000
    assert size.audio_s == pytest.approx(3600)
    assert size.basis.startswith("10 of 1,000 records read and the rest extrapolated")


def test_rest_is_extrapolated_by_bytes_where_it_is_not_counted(tmp_path: Path) -> None:
    line = len(json.dumps({"_id": "x:0", "duration": 3.6}))
    (tmp_path / "big").write_bytes(bytes(100 * 10 * line))
    ticks = clock_of(10)
    size = survey(Endless([tmp_path / "big"]), clock=lambda: next(ticks)).size
    assert size.records == pytest.approx(1000, rel=0.05)
    assert f"about {10 * line:,} of {1000 * line:,} bytes" in size.basis


def test_input_of_unknown_size_is_an_error_with_the_remedy() -> None:
    ticks = clock_of(10)
    with pytest.raises(UsageError, match="--hours"):
        survey(Endless(), clock=lambda: next(ticks))


def test_empty_input_is_an_error() -> None:
    with pytest.raises(UsageError, match="has no records"):
        survey(ReadRecords([]))


def test_candidates_are_spread_over_all_that_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_size, "CANDIDATES", 50)
    ticks = clock_of(5000)
    found = survey(Endless(known=5000), clock=lambda: next(ticks))
    assert len(set(found.positions)) == 50
    thirds = [sum(third * 1667 <= place < (third + 1) * 1667 for place in found.positions) for third in range(3)]
    assert min(thirds) >= 8
    assert [record["_id"] for record in found.candidates] == [f"x:{place}" for place in found.positions]


def test_candidates_begin_with_the_median_length_and_its_quartiles() -> None:
    lengths = [float(length) for length in (7, 1, 5, 3, 2, 6, 4)]
    assert list(survey(ReadRecords([{"duration": length} for length in lengths])).amounts) == [4, 2, 6, 1, 5, 3, 7]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 100])
def test_spread_has_every_number_once(count: int) -> None:
    assert sorted(_spread(count)) == list(range(count))


def test_other_hours_scale_records_and_audio() -> None:
    size = survey(ReadRecords([{"duration": 3600.0}, {"duration": 1800.0}])).size.with_hours(300)
    assert (size.records, size.audio_s) == (400, 300 * 3600)
    with pytest.raises(UsageError, match="--hours needs the lengths"):
        survey(ReadRecords([{"text": "a"}])).size.with_hours(10)
