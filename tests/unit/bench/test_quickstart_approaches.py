"""`curate bench approaches` on the quickstart: NeMo by each approach, the plot, and the comparison with before."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.cli import main

PIPELINE = Path(__file__).parents[3] / "pipelines" / "quickstart" / "pipeline.yaml"


@pytest.mark.nemo
def test_the_quickstart_is_compared_by_each_approach_and_with_the_run_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib (the extra `bench`)")
    monkeypatch.chdir(tmp_path)
    command = ["bench", "approaches", str(PIPELINE), "--approaches", "sequential,batched,packed", "--limit", "8"]
    for _ in range(2):
        assert main([*command, "--repeats", "1", "--plot", "bench.svg"]) == 0
    first, second = capsys.readouterr().out.split("Stage ")[1:]
    rows = [line.split() for line in first.splitlines() if line.startswith(("sequential", "batched", "packed"))]
    assert [row[:2] for row in rows] == [["sequential", "8"], ["batched", "8"], ["packed", rows[2][1]]]
    assert int(rows[2][1]) < 8
    assert "Recommended: " in first and "Compared with" in second
    assert "<svg" in (tmp_path / "bench.svg").read_text()
    assert len((tmp_path / "runs" / "quickstart.bench.jsonl").read_text().splitlines()) == 2
