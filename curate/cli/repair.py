"""`curate repair`: lists the damage to a run directory, moves it aside, and has the next run redo what is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from curate.cli.session import Session, pass_session
from curate.plural import counted

if TYPE_CHECKING:
    from curate.engine import Damage


@click.command()
@click.argument("run_dir", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="List the damage, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_session
def repair(session: Session, run_dir: Path, dry_run: bool, as_json: bool) -> None:
    """Repair a run directory: move damaged files aside, and have the next run process their records again.

    No file is deleted: damaged ones are in the folder `damaged` of the run directory afterwards. What has a copy is
    restored from it. The run is not resumed; run its command again to process the records of damaged units, and
    nothing else.
    """
    from curate.engine import find_damage, repair_run

    repaired = [(each, "") for each in find_damage(run_dir)] if dry_run else repair_run(run_dir)
    if as_json:
        click.echo(json.dumps([_described(*pair) for pair in repaired], indent=1, ensure_ascii=False))
        return
    show = session.console.print
    if not repaired:
        show(f"{run_dir}: nothing is damaged", soft_wrap=True)
        return
    for damage, moved in repaired:
        show(f"{damage.problem}: {damage.loss}" + (f"; moved to {run_dir / moved}" if moved else ""), soft_wrap=True)
    known, hours, unknown = _cost([damage for damage, _ in repaired])
    cost = f"{counted(known)} ({hours:.2f} h of audio)" + (", and those of commits without a copy" if unknown else "")
    if dry_run:
        show(
            f"curate repair {run_dir} moves these files aside; the next run then processes {cost} again", soft_wrap=True
        )
    elif known or unknown:
        show(f"Run the same command as before: it processes {cost} again, and nothing else.", soft_wrap=True)
    else:
        show("No record has to be processed again. Run the same command as before to resume the run.", soft_wrap=True)


def _cost(damage: list[Damage]) -> tuple[int, float, bool]:
    """Return the number of records to process again, their hours, and whether there are more, of unknown number.

    Of several files of one unit, the one that costs most counts, because its records are processed once.
    """
    by_unit: dict[str, tuple[int, int]] = {}
    unknown = False
    for each in damage:
        if each.has_copy or each.kind in ("copy", "lock", "run"):
            continue
        if each.records is None:
            unknown = True
            continue
        records, audio_ms = by_unit.get(each.unit, (0, 0))
        if each.kind == "audio":  # each is of another record
            by_unit[each.unit] = records + each.records, audio_ms + each.audio_ms
        else:
            by_unit[each.unit] = max(records, each.records), max(audio_ms, each.audio_ms)
    return sum(records for records, _ in by_unit.values()), sum(ms for _, ms in by_unit.values()) / 3_600_000, unknown


def _described(damage: Damage, moved: str) -> dict[str, Any]:
    return {
        "path": damage.path,
        "kind": damage.kind,
        "problem": damage.problem,
        "unit": damage.unit,
        "phase": damage.phase,
        "records": 0 if damage.has_copy else damage.records,
        "audio_hours": 0.0 if damage.has_copy else round(damage.audio_ms / 3_600_000, 6),
        "has_copy": damage.has_copy,
        "moved_to": moved,
    }
