"""The report of a run of a million records: what it takes, against a plain pass over the same rows."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.runs import peak_memory, synthetic_run

RECORDS = 1_000_000

_WRITES = "import sys; from curate.report import write_report; write_report(sys.argv[1])"


@pytest.mark.bench
@pytest.mark.timeout(900)
def test_a_million_records_in_bounded_memory_and_a_small_file(tmp_path: Path) -> None:
    run_dir = synthetic_run(tmp_path / "run", RECORDS)
    began = time.perf_counter()
    rows = 0
    for shard in sorted(run_dir.glob("[dfq]*/p*.jsonl")):
        with shard.open("rb") as file:
            rows += sum(1 for line in file if json.loads(line))
    plain_s = time.perf_counter() - began
    assert rows == RECORDS

    began = time.perf_counter()
    memory = peak_memory(_WRITES, str(run_dir))
    report_s = time.perf_counter() - began
    size = (run_dir / "report.html").stat().st_size
    print(
        f"\n{RECORDS:,} records: report in {report_s:.1f} s, parsing alone {plain_s:.1f} s, "
        f"{memory / 1e6:,.0f} MB of memory, file of {size / 1e6:.1f} MB"
    )
    assert memory < 1_000_000_000
    assert size < 15_000_000
    assert report_s < 8 * plain_s
