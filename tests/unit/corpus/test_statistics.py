"""`curate stats`: figures of a manifest and of a run, by columns, as a table, JSON and a page."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline
from curate.cli import main
from curate.records import Record
from curate.stages import Merge, QualityFilter, ReadManifest
from tests.made_up import utterances

pytest.importorskip("duckdb", reason="needs duckdb: pip install 'curate-speech[corpus]'")

from curate.corpus.statistics import corpus_statistics
from curate.report.statistics_page import write_statistics

RECORDS: Sequence[Record] = [
    {"audio_filepath": "a.wav", "duration": 2.0, "text": "Hello, hello world!", "speaker": "s1", "lang": "en"},
    {"audio_filepath": "b.wav", "duration": 4.0, "text": "hello hello world", "speaker": "s2", "lang": "en"},
    {"audio_filepath": "a.wav", "duration": 2.0, "text": "我明天来", "speaker": "s1", "lang": "zh"},
    {"audio_filepath": "c.wav", "duration": None, "text": None, "speaker": None, "lang": None},
    {"audio_filepath": "d.wav", "duration": 3592.0, "text": "…", "speaker": 7, "lang": "en"},
]


def manifest(path: Path, records: Sequence[Record] = RECORDS) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return a function that runs `curate stats`, and returns its standard output and error."""

    def run(*arguments: object, code: int = 0) -> Any:
        assert main(["stats", *map(str, arguments)]) == code
        return capsys.readouterr()

    return run


def test_figures_of_all_records() -> None:
    total = corpus_statistics(RECORDS).total
    assert (total.utterances, total.hours, total.speakers) == (5, 1.0, 3)
    assert (total.words, total.vocabulary, total.characters) == (10, 6, 34)
    assert (total.without_duration, total.without_text) == (1, 2)
    assert (total.words_per_s, total.characters_per_s) == (1.25, 4.25)  # 10 words and 34 letters in 8 s
    assert (total.repeated_texts, total.repeated_audio) == (2, 2)
    assert (total.duration_s["min"], total.duration_s["median"], total.duration_s["max"]) == (2.0, 2.0, 3592.0)


def test_groups_have_their_own_figures_and_most_hours_come_first() -> None:
    found = corpus_statistics(RECORDS, by=["lang"])
    assert [(group.group["lang"], group.utterances) for group in found.groups] == [("en", 3), ("zh", 1), (None, 1)]
    assert [group.words for group in found.groups] == [6, 4, 0]
    assert [group.repeated_texts for group in found.groups] == [2, 0, 0]
    assert found.group_count == 3
    assert len(corpus_statistics(RECORDS, by=["lang", "speaker"], limit=2).groups) == 2


def test_histogram_holds_every_duration() -> None:
    histogram = corpus_statistics(RECORDS).histogram
    assert sum(records for _, _, records in histogram) == 4


def test_no_records_give_zeros() -> None:
    found = corpus_statistics([], by=["lang"])
    assert (found.total.utterances, found.total.hours, found.histogram) == (0, 0.0, [])


def test_command_shows_a_table(command: Callable[..., Any], tmp_path: Path) -> None:
    shown = command(manifest(tmp_path / "corpus.jsonl"), "--by", "lang").out
    assert "vocabulary" in shown and "(none)" in shown


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.csv", "corpus.parquet"])
def test_command_reads_any_manifest(command: Callable[..., Any], tmp_path: Path, name: str) -> None:
    records = [{**record, "speaker": str(record["speaker"])} for record in RECORDS if record["text"] != "…"][:3]
    if name.endswith("csv"):
        lines = [
            ",".join(records[0]),
            *(",".join(json.dumps(value, ensure_ascii=False) for value in r.values()) for r in records),
        ]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif name.endswith("parquet"):
        from pyarrow import Table, parquet

        write: Any = parquet
        write.write_table(Table.from_pylist(records), tmp_path / name)
    else:
        manifest(tmp_path / name, records)
    total = json.loads(command(tmp_path / name, "--json").out)["total"]
    assert (total["utterances"], total["words"]) == (3, 10)


def test_command_counts_rows_that_are_no_records(command: Callable[..., Any], tmp_path: Path) -> None:
    path = manifest(tmp_path / "corpus.jsonl")
    path.write_text(path.read_text(encoding="utf-8") + "not json\n[1]\n", encoding="utf-8")
    result = command(path, "--json")
    assert json.loads(result.out)["total"]["utterances"] == 5
    assert "2 rows cannot be read" in result.err and "corpus.jsonl:6" in result.err


def test_command_shows_what_a_run_has_kept(command: Callable[..., Any], tmp_path: Path) -> None:
    path = manifest(tmp_path / "corpus.jsonl")
    stages = [ReadManifest(str(path)), QualityFilter("duration is not None and duration < 100"), Merge("out.jsonl")]
    Pipeline("p", stages).run(run_dir=tmp_path / "run")
    assert json.loads(command(tmp_path / "run", "--json").out)["total"]["utterances"] == 3


def test_a_path_that_does_not_exist_is_a_usage_error(command: Callable[..., Any], tmp_path: Path) -> None:
    assert "missing.jsonl is neither a manifest nor a run" in command(tmp_path / "missing.jsonl", code=2).err


def test_page_holds_the_figures_and_harms_nobody(tmp_path: Path) -> None:
    records = [{**RECORDS[0], "lang": "<script>window.hacked = 1</script>"}, *RECORDS]
    write_statistics(corpus_statistics(records, by=["lang"]), tmp_path / "corpus.jsonl", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>window" not in page
    assert "By lang" in page and "Utterances by duration" in page


@pytest.mark.parametrize(
    "count", [pytest.param(100_000, marks=pytest.mark.slow), pytest.param(1_000_000, marks=pytest.mark.soak)]
)
def test_many_lines_take_bounded_memory(count: int, tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    with path.open("w") as file:
        for number, text in enumerate(utterances(count)):
            record = {"audio_filepath": f"{number}.wav", "duration": 3.0, "text": text, "speaker": f"s{number % 500}"}
            file.write(json.dumps(record) + "\n")
    script = (
        "import sys; from curate.cli import main\n"
        "main()\n"
        # not ru_maxrss, which a process inherits from the one that has started it
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(int(peak.split()[1]) / 1024, file=sys.stderr)"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script, "stats", str(path), "--by", "speaker"],
        capture_output=True,
        text=True,
        check=True,
    )
    peak_mb = float(done.stderr.split()[-1])
    print(f"\n{count:,} lines: {time.perf_counter() - began:.1f} s, {peak_mb:.0f} MB")
    assert f"{count:,}" in done.stdout
    assert peak_mb <= 500
