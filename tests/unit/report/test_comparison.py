"""Two runs are compared record by record, by id, in memory that does not grow with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.cli import main
from curate.report.comparison import comparing
from tests.runs import peak_memory, pipeline, small_run, synthetic_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return small_run(folder, most=0.5), small_run(folder, most=0.2)


def compared(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["compare", *map(str, runs), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_changed_threshold_names_exactly_the_records_that_changed_fate(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    told = compared(runs, capsys)
    assert [setting["name"] for setting in told["settings"]] == ["expression"]
    assert [(change["id"], change["a"]["fate"], change["b"]["fate"]) for change in told["changed"]] == [
        ("records:2", "kept", "filtered"),
        ("records:3", "kept", "filtered"),
    ]
    assert told["changed"][0]["b"] == {
        "fate": "filtered",
        "stage": "quality_filter",
        "because": "wer <= 0.2 (wer = 0.25)",
    }
    assert {(row["a"], row["b"]): row["records"] for row in told["fates"]} == {
        ("kept", "kept"): 2,
        ("kept", "filtered"): 2,
        ("filtered", "filtered"): 3,
        ("quarantined", "quarantined"): 2,
    }
    assert (told["a"]["kept"], told["b"]["kept"]) == (4, 2)
    assert told["error_rates"] == {"records": 7, "better": 0, "worse": 0} | {
        name: told["error_rates"][name] for name in ("mean_a", "mean_b")
    }


def test_it_is_told_in_words(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, runs), "--limit", "1"]) == 0
    out = capsys.readouterr().out
    assert "2 of 9 records ended differently." in out
    assert "2 kept in A, filtered in B" in out
    assert "records:2" in out and "records:3" not in out
    assert "1 more: --limit 0 or --json shows all of them" in out


def test_a_run_is_the_same_as_itself(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs[0]), str(runs[0])]) == 0
    out = capsys.readouterr().out
    assert "The settings, inputs and versions are the same." in out
    assert "0 of 9 records ended differently." in out


def test_records_of_one_run_only_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"audio_filepath": "a.wav", "duration": 1.0, "text": "a", "pred_text": word, "fate": "kept"} for word in "abc"
    ]
    for name, records in (("short", rows[:1]), ("long", rows)):
        pipeline(records, tmp_path).run(run_dir=tmp_path / name)
    told = compared((tmp_path / "short", tmp_path / "long"), capsys)
    assert (told["only_in_a"], told["only_in_b"], told["changed"]) == (0, 2, [])


def test_a_folder_that_is_no_run_is_a_usage_error(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(runs[0]), str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    def peak(records: int) -> int:
        run_dir = synthetic_run(tmp_path / str(records), records)
        script = (
            "import sys; from pathlib import Path; from curate.report.comparison import comparing\n"
            "with comparing(Path(sys.argv[1]), Path(sys.argv[1])) as told: assert told.changed == 0\n"
        )
        return peak_memory(script, str(run_dir))

    assert peak(200_000) - peak(2_000) < 75_000_000  # the bound of the index's cache, and no dict of 200,000 records


def test_the_index_is_gone_afterwards(runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with comparing(*runs) as told:
        assert told.changed == 2
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []
