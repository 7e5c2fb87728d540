"""The explorer on a run of a million records: the first screen, the index, and the answers to the page after it."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("duckdb", reason="needs duckdb: make .venv/.dev-all")
pytest.importorskip("starlette", reason="needs starlette: make .venv/.dev-all")
pytest.importorskip("uvicorn", reason="needs uvicorn: make .venv/.dev-all")

from tests.explored import Server, explored
from tests.runs import synthetic_run

RECORDS = 1_000_000
FIRST_SCREEN_S, INDEX_S, ANSWER_S, MEMORY_BYTES = 2.0, 60.0, 0.3, 500_000_000

WORDS = (
    "fox",
    "brown fox",
    "speaker-97",
    "jsonl:77",
    "lazy dog and",
    "12345",
    "wer <= 0.5",
    "xyzzy",
    "the quick",
    "dog",
)
TYPED = "lazy dog and runs"
FILTER = "quality_filter"

ASKED: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "search": [("table", {"search": word}) for word in WORDS],
    "facets of a search": [("facets", {"search": word}) for word in WORDS],
    "typing": [("table", {"search": TYPED[:end]}) for end in range(1, len(TYPED) + 1)],
    "sort": [
        ("table", {"sort": name, "descending": down})
        for name in ("duration", "wer", "text", "speaker", "#outcome")
        for down in (True, False)
    ],
    "facet": [("table", {"facets": {"#outcome": [name]}}) for name in ("kept", "filtered", "failed")],
    "slider": [
        ("threshold", {"expression": f"wer <= {at / 20} and duration > {at / 10}", "filter": FILTER})
        for at in range(1, 20)
    ],
    "histogram": [("histogram", {"column": name}) for name in ("duration", "wer")],
    "scatter": [
        ("scatter", {"x": "duration", "y": "wer"}),
        ("scatter", {"x": "duration", "y": "wer", "search": "fox"}),
    ],
}


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_million_records_are_explored_without_waiting(browser: Any, tmp_path: Path) -> None:
    run = synthetic_run(tmp_path / "run", RECORDS)
    with explored(run, tmp_path / "cache", complete=False) as server:
        began = time.perf_counter()
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        page = context.new_page()
        page.goto(server.address)
        page.wait_for_selector(".line:not(.wait)")
        first_s = time.perf_counter() - began
        assert "Making the index" in page.locator("#progress").inner_text()
        page.wait_for_selector("#progress", state="hidden", timeout=600_000)
        context.close()
        index_s, index_cpu_s = time.perf_counter() - began, used(server)["cpu_s"]
        print(f"\nfirst screen {first_s:.2f} s, index {index_s:.1f} s, {index_cpu_s:.1f} CPU s")
        slowest = {name: measured(server, name, questions) for name, questions in ASKED.items()}
        memory = used(server)["memory"]
        print(f"most memory {memory / 1e6:,.0f} MB")
    assert memory <= MEMORY_BYTES
    assert first_s <= FIRST_SCREEN_S
    assert index_s <= INDEX_S
    assert {name: s for name, s in slowest.items() if s > ANSWER_S} == {}


def measured(server: Server, name: str, questions: list[tuple[str, dict[str, Any]]]) -> float:
    """Ask, print how long the answers took, and return the 95th percentile in seconds."""
    times: list[float] = []
    before = used(server)["cpu_s"]
    for path, wanted in questions:
        began = time.perf_counter()
        server.answer(f"/api/{path}", wanted)
        times.append(time.perf_counter() - began)
    cpu_ms = 1000 * (used(server)["cpu_s"] - before) / len(times)
    worst = sorted(times)[round(0.95 * (len(times) - 1))]
    median_ms = 1000 * statistics.median(times)
    print(f"{name:20} median {median_ms:5.0f} ms, 95 % {1000 * worst:5.0f} ms, {cpu_ms:5.0f} CPU ms each")
    return worst


def used(server: Server) -> dict[str, float]:
    """Return the CPU seconds that the server's process has used, and its largest memory in bytes."""
    process = Path(f"/proc/{server.process.pid}")
    ticks = process.joinpath("stat").read_text().rpartition(")")[2].split()
    memory = next(line for line in process.joinpath("status").read_text().splitlines() if line.startswith("VmHWM"))
    return {"cpu_s": (int(ticks[11]) + int(ticks[12])) / 100, "memory": int(memory.split()[1]) * 1024.0}
