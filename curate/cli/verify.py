"""`curate verify`: a published data set against the checksums that were published with it."""

from __future__ import annotations

import json

import attrs
import click

from curate.plural import counted


@click.command()
@click.argument("place", metavar="FOLDER")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(place: str, as_json: bool) -> None:
    """Check every file of a published data set against its provenance.json; exit 1 if one is damaged or missing.

    FOLDER may be the URL of a set, such as s3://bucket/set.
    """
    from curate.errors import InfrastructureError, UsageError
    from curate.io.provenance import read_provenance, verify_set
    from curate.storage import StoreError, is_url, path_of
    from curate.storage.scheme import store_of

    try:
        folder = path_of(place.rstrip("/") if is_url(place) else place)
        store_of(place)
    except (LookupError, ValueError) as error:
        raise UsageError(f"{place} cannot be read: {error}") from error
    except StoreError as error:
        raise UsageError(f"{place}: {error}") from error
    try:
        described = read_provenance(folder)
        damaged = list(verify_set(folder))
    except StoreError as error:
        raise InfrastructureError(str(error)) from error
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
