"""`curate inspect`: shows the columns, the audio and the strangest records of a corpus, without a pipeline."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from curate.cli.corpus_form import corpus_path, recognise_form
from curate.cli.corpus_sample import CorpusSample, describe_sample, measure_sample, read_sample
from curate.cli.decoder_notes import quiet_decoders
from curate.cli.listing import new_table
from curate.cli.session import Session, pass_session
from curate.plugin.schemes import schemes_of
from curate.plural import counted
from curate.storage import register


@click.command()
@click.argument("path", callback=corpus_path)
@click.option("--records", default=10_000, show_default=True, type=click.IntRange(min=1), help="How many to read.")
@click.option(
    "--files", default=200, show_default=True, type=click.IntRange(min=0), help="How many recordings to open."
)
@click.option("--audio", "measure", is_flag=True, help="Also measure the recordings that are opened (audio_profile).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_session
def inspect(session: Session, path: Path, records: int, files: int, measure: bool, as_json: bool) -> None:
    """Describe the speech in a folder, a file or behind a URL: first records, columns, audio, strangest records."""
    register(schemes_of(session.host))
    form = recognise_form(path)
    reader: Any = session.host.stage(form.reader).load()
    with quiet_decoders(session):
        found, roots = read_sample(reader(**form.settings), records)
        sample = describe_sample(found, roots, files)
        measures = measure_sample(session.host.stage("audio_profile").load(), found, files) if measure else {}
    if as_json:
        about = {"described": form.described, "reader": form.reader, "settings": dict(form.settings)}
        measured = {"measures": measures} if measure else {}
        click.echo(json.dumps({**about, **sample.as_json(), **measured}, indent=2, ensure_ascii=False, default=str))
        return
    click.echo(f"{path} is {form.described}; {form.reader} reads it.")
    _show(session, sample, records)
    if measure:
        _show_measures(session, measures)
    click.echo(f"\nNext, a pipeline file that reads it:  curate init {shlex.quote(str(path))}")


def _show(session: Session, sample: CorpusSample, limit: int) -> None:
    show = session.console.print
    records = f"{sample.records:,} or more records" if sample.records == limit else counted(sample.records)
    show(f"\n{records}, {sample.failed:,} of them broken; {sample.hours_text()}")
    show("\nFirst records:")
    for record in sample.first:
        shown = json.dumps(record, ensure_ascii=False, default=str)[:400]
        show(f"  {shown}", soft_wrap=True, markup=False, highlight=False)
    columns = new_table("column", "types", "null", "example")
    for name, column in sample.columns.items():
        columns.add_row(name, ", ".join(sorted(column.types)), f"{column.null_share:.0%}", column.example)
    show()
    show(columns)
    audio = new_table("audio", "recordings")
    for name, count in sample.audio.items():
        audio.add_row(name, f"{count:,}")
    show()
    show(audio)
    if not sample.strangest:
        show("\nNo record is far from the others in length, transcript or speaking rate.")
        return
    strange = new_table("strangest records", "why")
    for identity, why in sample.strangest:
        strange.add_row(identity, why)
    show()
    show(strange)


def _show_measures(session: Session, measures: Mapping[str, Mapping[str, float]]) -> None:
    table = new_table("measure", "recordings", "5 %", "median", "95 %")
    for name, one in measures.items():
        table.add_row(name, f"{one['recordings']:,}", *(f"{one[key]:,.4g}" for key in ("low", "median", "high")))
    session.console.print()
    session.console.print(table)
