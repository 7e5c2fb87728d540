"""`curate init`: says in which form a folder or a file holds speech, and writes a pipeline file that reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from curate.cli.corpus_form import CorpusForm, corpus_path, recognise_form
from curate.cli.session import Session, pass_session
from curate.errors import PlanError, UsageError
from curate.plugin.schemes import schemes_of
from curate.storage import register, write_atomically

_ROOTS = re.compile(r"\n    roots: \[(.*)\]")
_UNSAFE = re.compile(r"[^A-Za-z0-9]+")


@click.command()
@click.argument("path", callback=corpus_path)
@click.option("--output", type=click.Path(path_type=Path), help="The pipeline file; <corpus>.yaml by default.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@pass_session
def init(session: Session, path: Path, output: Path | None, force: bool) -> None:
    """Look at a folder, a file or a URL, name its form, and write a pipeline file that runs as it is."""
    register(schemes_of(session.host))
    form = recognise_form(path)
    name = _UNSAFE.sub("-", path.absolute().stem).strip("-").lower() or "corpus"
    file = output or Path(f"{name}.yaml")
    if file.exists() and not force:
        raise UsageError(f"{file} exists; write another one with --output, or replace it with --force")
    settings, columns = _completed(session, form)
    write_atomically(file, pipeline_text(name, form, settings, columns).encode())
    click.echo(f"{path} is {form.described}.")
    click.echo(f"Wrote {file}. Next:  curate run {file}")


def _completed(session: Session, form: CorpusForm) -> tuple[dict[str, Any], list[str]]:
    """Return the reader's settings, with the roots that its recordings need, and the columns of its records."""
    settings = dict(form.settings)
    reader: Any = session.host.stage(form.reader).load()
    stage = reader(**settings)
    parts = stage.parts() if hasattr(stage, "parts") else [stage]
    try:
        parts[0].check()
    except PlanError as error:
        roots = _ROOTS.search(str(error))
        if roots is None:
            raise
        settings["roots"] = roots[1].split(", ")
        parts = [reader(**settings)]
    return settings, sorted(parts[0].record_columns() or ())


def pipeline_text(name: str, form: CorpusForm, settings: dict[str, Any], columns: list[str]) -> str:
    """Return a pipeline file with comments, for a corpus of a form."""
    lines = [f"    {setting}: {json.dumps(value, ensure_ascii=False)}" for setting, value in settings.items()]
    known = f"  # Its records have the columns {', '.join(columns)}.\n" if columns else ""
    constants = "".join(
        f"    # {setting}: {example}\n"
        for setting, example in (("lang", "en"), ("license", "CC0-1.0"), ("source", "where it is from"))
    )
    return _TEMPLATE.format(
        described=form.described, name=name, known=known, reader=form.reader, settings="\n".join(lines), more=constants
    )


_TEMPLATE = """\
# Reads {described}.
# Written by `curate init`; every line may be changed. Stages and their settings: curate stages
name: {name}

stages:
{known}  - use: {reader}
{settings}
    # One value for all records, where the corpus has none:
{more}
  # Decodes each recording once, and measures how long it is. Damaged files go to quarantine, with the reason.
  - use: audio_duration
    checkpoint: true   # keeps its results: `curate refilter` then filters again without decoding again

  # Keeps records that a model can be trained on. `curate report` shows the hours that each condition costs.
  - use: quality_filter
    expression: 0.1 <= duration <= 40

  # Next steps, between these stages: asr and word_error_rate (compare with a model's transcript), text_rates, snr.

  # Writes one manifest, in the order of the input.
  - use: merge
    path: curated.jsonl

executor: local   # `multiprocessing` uses all cores
run_dir: runs/{name}
"""
