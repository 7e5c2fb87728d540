"""What of the whole job was proved, and what was not and why: printed after the tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_HERE = "test_whole_job.py::"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print a line for each part of the job: proved with its figures, skipped with the reason, or failed."""
    lines = [*_parts(terminalreporter.stats)]
    if lines:
        terminalreporter.section("the whole job")
        for line in lines:
            terminalreporter.write_line(line)


def _parts(stats: dict[str, list[Any]]) -> Iterator[str]:
    for outcome, word in (("passed", "proved "), ("skipped", "skipped"), ("failed", "FAILED "), ("error", "FAILED ")):
        for report in stats.get(outcome, ()):
            if _HERE not in report.nodeid:
                continue
            part = report.nodeid.partition(_HERE)[2].removeprefix("test_").replace("_", " ")
            reason = str(report.longrepr[2]) if outcome == "skipped" else ""
            yield f"{word} {part}" + (f": {reason.removeprefix('Skipped: ')}" if reason else "")
            for name, value in report.user_properties:
                yield f"{'':8} {name}: {value}"
