"""`curate verify`: a published data set against the checksums that were published with it."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import click

from curate.plural import counted


@click.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(folder: Path, as_json: bool) -> None:
    """Check every file of a published data set against its provenance.json; exit 1 if one is damaged or missing."""
    from curate.io.provenance import read_provenance, verify_set

    described = read_provenance(folder)
    damaged = list(verify_set(folder))
    if as_json:
        found = {
            "folder": str(folder),
            "kind": described["kind"],
            "records": described["records"],
            "hours": described["hours"],
            "files": len(described["files"]),
            "damaged": [attrs.asdict(each) for each in damaged],
        }
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        for each in damaged:
            click.echo(f"{each.name} {each.message}")
        verdict = f"{len(damaged):,} damaged" if damaged else "all as published"
        click.echo(
            f"{folder}: {counted(len(described['files']), 'file')} of a {described['kind']} set, "
            f"{counted(described['records'])}, {described['hours']:,.2f} h: {verdict}"
        )
        if damaged:
            click.echo(
                "To restore them, copy them from a backup, or publish the set from a new run: --run-dir, or --fork of "
                f"{described['run']}"
            )
    if damaged:
        click.get_current_context().exit(1)
