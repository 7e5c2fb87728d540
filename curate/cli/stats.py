"""`curate stats`: hours, words, rates, durations and duplicates of a manifest or of what a run has kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from curate.cli.listing import new_table
from curate.cli.session import Session, pass_session
from curate.errors import PlanError
from curate.records import Record

if TYPE_CHECKING:
    from curate.corpus.statistics import CorpusStatistics, GroupStatistics


@attrs.define
class _Unreadable:
    """The rows of a manifest that cannot be records: their number, and the first."""

    count: int = 0
    first: str = ""


@click.command()
@click.argument("path", metavar="PATH|RUN", type=click.Path(path_type=Path))
@click.option("--by", default="", help="The columns whose values make groups, separated by commas: lang,speaker.")
@click.option("--limit", default=50, show_default=True, help="How many groups, those with most hours; 0: all.")
@click.option("--text-key", default="text", show_default=True, help="The column with the text.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page to this file.")
@pass_session
def stats(session: Session, path: Path, by: str, limit: int, text_key: str, as_json: bool, html: Path | None) -> None:
    """Show the hours, words, vocabulary, rates, durations and duplicates of a corpus.

    PATH is a manifest in any format that can be read, and RUN a run directory, of which the kept records are counted.
    """
    from curate.corpus.database import check_duckdb
    from curate.corpus.statistics import corpus_statistics

    try:
        check_duckdb()
    except PlanError as error:
        raise PlanError(f"curate stats {error}") from None
    columns = tuple(filter(None, (name.strip() for name in by.split(","))))
    unreadable = _Unreadable()
    found = corpus_statistics(_records(session, path, unreadable), by=columns, limit=limit or None, text_key=text_key)
    if unreadable.count:
        session.messages.print(
            f"warning: {unreadable.count:,} rows cannot be read; the first: {unreadable.first}", soft_wrap=True
        )
    if as_json:
        click.echo(json.dumps({"path": str(path), **found.to_dict()}, indent=1, ensure_ascii=False))
    else:
        _show(session, found)
    if html is not None:
        from curate.report.statistics_page import write_statistics

        write_statistics(found, path, html)
        session.messages.print(f"Wrote {html}", soft_wrap=True)


def _records(session: Session, path: Path, unreadable: _Unreadable) -> Iterator[Record]:
    """Yield the records of a manifest or a run; a row that is none is counted and left out.

    Raises:
        UsageError: there is neither.
    """
    from curate.errors import RecordError
    from curate.io import read_rows

    if path.is_dir():
        from curate.engine import RunReader

        yield from RunReader(path).records()
        return
    if not path.exists():
        raise PlanError(f"{path} is neither a manifest nor a run: nothing is there")
    reference = session.host.format_of(path)
    for number, row in read_rows(path, format=None if reference is None else reference.load()):
        if isinstance(row, RecordError):
            unreadable.count += 1
            unreadable.first = unreadable.first or f"{path}:{number}: {row}"
        else:
            yield row


_FIGURES = (
    ("utterances", "utterances"),
    ("hours", "hours"),
    ("speakers", "speakers"),
    ("words", "words"),
    ("vocabulary", "vocabulary"),
    ("words/s", "words_per_s"),
    ("characters/s", "characters_per_s"),
    ("repeated texts", "repeated_texts"),
    ("repeated audio", "repeated_audio"),
    ("without text", "without_text"),
    ("without duration", "without_duration"),
)

_GROUP_FIGURES = (
    ("utterances", "utterances"),
    ("hours", "hours"),
    ("words", "words"),
    ("vocabulary", "vocabulary"),
    ("words/s", "words_per_s"),
    ("repeated", "repeated_texts"),
)
"""The figures of each group in the table, which fits into 80 columns; JSON and the page have all."""


def _show(session: Session, found: CorpusStatistics) -> None:
    show = session.console.print
    table = new_table("", "all")
    for title, name in _FIGURES:
        table.add_row(title, _number(getattr(found.total, name)))
    for name, value in found.total.duration_s.items():
        table.add_row(f"duration {name}", f"{value:g} s")
    show(table)
    if found.by:
        show()
        show(_group_table(found))
        if found.group_count > len(found.groups):
            show(f"{found.group_count - len(found.groups):,} more groups: --limit 0 shows all of them")


def _group_table(found: CorpusStatistics) -> Any:
    table = new_table(*found.by, *(title for title, _ in _GROUP_FIGURES), "median s")
    for group in found.groups:
        figures = [_number(getattr(group, name)) for _, name in _GROUP_FIGURES]
        table.add_row(*_values(group, found), *figures, _median(group))
    return table


def _values(group: GroupStatistics, found: CorpusStatistics) -> list[str]:
    return [value if (value := group.group.get(name)) is not None else "(none)" for name in found.by]


def _median(group: GroupStatistics) -> str:
    return f"{group.duration_s['median']:g}" if group.duration_s else ""


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
