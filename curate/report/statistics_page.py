"""The page of `curate stats`: the statistics of a corpus in the look of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curate._version import __version__
from curate.corpus.statistics import CorpusStatistics, GroupStatistics
from curate.durations import duration_text
from curate.report.figures import count, number, share
from curate.report.page import fill_page
from curate.report.panels import BarChart, Column, Panel, Section, Table
from curate.report.sanitize import printable
from curate.storage import write_atomically

_DRAWN_GROUPS = 30


def write_statistics(found: CorpusStatistics, source: Path, path: Path) -> None:
    """Write the page: one HTML file that opens from disk.

    Args:
        found: the statistics.
        source: the manifest or run directory.
        path: the file.

    Raises:
        InfrastructureError: the page cannot be written.
    """
    page: dict[str, Any] = {
        "name": printable(source.name or str(source), 200),
        "title": "the statistics of a corpus",
        "curate": __version__,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "state": None,
        "facts": [printable(str(source), 200)],
        "figures": _figures(found.total),
        "sections": list(_sections(found)),
        "short_ids": {},
        "next": [],
        "rate_column": "",
        "problems": [],
    }
    write_atomically(path, fill_page(page).encode())


def _figures(total: GroupStatistics) -> Sequence[Mapping[str, str]]:
    every = max(total.utterances, 1)
    speakers = f"{count(total.speakers)} speakers" if total.speakers else ""
    return [
        _figure("audio", duration_text(3600 * total.hours), speakers),
        _figure("utterances", count(total.utterances), f"{count(total.without_text)} without text"),
        _figure("words", count(total.words), f"{count(total.vocabulary)} different ones"),
        _figure("words per second", number(total.words_per_s), f"{number(total.characters_per_s)} characters"),
        _figure("repeated texts", share(total.repeated_texts / every), f"{count(total.repeated_texts)} utterances"),
        _figure("repeated audio", share(total.repeated_audio / every), f"{count(total.repeated_audio)} utterances"),
    ]


def _figure(what: str, value: str, more: str) -> dict[str, str]:
    return {"kind": "", "what": what, "value": value, "more": more}


def _sections(found: CorpusStatistics) -> Iterator[Section]:
    if found.histogram:
        yield Section("durations", "Durations", _spread(found.total), [_durations(found)])
    if found.by:
        names = ", ".join(printable(name, 60) for name in found.by)
        cut = found.group_count - len(found.groups)
        intro = f"{count(found.group_count)} groups, the one with most audio first."
        yield Section("groups", f"By {names}", intro + (f" {count(cut)} are not shown." if cut else ""), _groups(found))


def _spread(total: GroupStatistics) -> str:
    shown = ", ".join(f"{name} {number(value)} s" for name, value in total.duration_s.items())
    missing = f" {count(total.without_duration)} records have no duration." if total.without_duration else ""
    return f"{shown}.{missing}"


def _durations(found: CorpusStatistics) -> Panel:
    names = [f"{first:g}" for first, _, _ in found.histogram]
    names[-1] += "+"
    chart = BarChart(names, {"utterances": [records for _, _, records in found.histogram]}, "utterances")
    return Panel("Utterances by duration in seconds", "duration-histogram", chart=chart, wide=True)


def _groups(found: CorpusStatistics) -> list[Panel]:
    drawn = found.groups[:_DRAWN_GROUPS]
    chart = BarChart([_name(group) for group in drawn], {"hours": [group.hours for group in drawn]}, "hours")
    titles = ("utterances", "hours", "speakers", "words", "vocabulary", "words/s", "characters/s", "median s")
    repeated = ("repeated texts", "repeated audio")
    columns = [*(Column(name, "name") for name in found.by), *(Column(name, "number") for name in (*titles, *repeated))]
    rows = [
        (
            *("(none)" if group.group.get(name) is None else group.group[name] for name in found.by),
            *(count(value) for value in (group.utterances,)),
            f"{group.hours:,.2f}",
            *(count(value) for value in (group.speakers, group.words, group.vocabulary)),
            *(number(value) for value in (group.words_per_s, group.characters_per_s, group.duration_s.get("median"))),
            *(count(value) for value in (group.repeated_texts, group.repeated_audio)),
        )
        for group in found.groups
    ]
    return [
        Panel("Hours", "hours-by-group", chart=chart, wide=True),
        Panel("Figures", "figures-by-group", table=Table(columns, rows), wide=True),
    ]


def _name(group: GroupStatistics) -> str:
    return " / ".join("(none)" if value is None else value for value in group.group.values())
