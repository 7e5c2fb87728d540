"""Repairs a run directory: moves damaged files aside and orders the next run to make them again.

Nothing is deleted: what is damaged is in the folder `damaged` afterwards. What has a copy is restored from it. A crash
in the middle leaves damage that the next run names again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from curate.engine.durability.commit import Commit
from curate.engine.durability.commit_file import LinesKind
from curate.engine.durability.copies import copy_of, move_aside, read_run_file
from curate.engine.durability.damage import Damage, damaged_files, find_commits, largest_number
from curate.engine.durability.lock import DriverLock, holder_of, lock_name
from curate.engine.durability.redo_order import RedoOrder, read_orders, write_order
from curate.engine.durability.run_directory import fingerprints_of, has_commits, read_run, write_run
from curate.errors import InfrastructureError
from curate.storage import sync_directory, write_atomically

_UNIT_KINDS: tuple[LinesKind, ...] = ("data", "filtered", "quarantine")


def find_damage(directory: Path) -> list[Damage]:
    """Return all damage to a run directory, including that to new audio, which is read whole.

    Raises:
        RunDirectoryError: the directory holds no run, or `run.json` and its copy are both lost.
        InfrastructureError: a file cannot be read.
    """
    damage = [*_damaged_lock(directory), *_damaged_run_json(directory)]
    described = read_run(directory)
    found = find_commits(directory, fingerprints_of(described))
    valid = found.resolve(described["gathers"], {})
    current = [commit for commits in valid.commits.values() for commit in commits]
    damage.extend(found.damage)
    damage.extend(damaged_files(directory, current, read_orders(directory), thorough=True))
    damage.extend(_damaged_copies(directory, current))
    return damage


def repair_run(directory: Path) -> list[tuple[Damage, str]]:
    """Move damaged files aside, restore them from copies or order the next run to make them again.

    Returns:
        The damage, and the path relative to the run directory that each damaged file has been moved to, "" if there was
        none.

    Raises:
        RunDirectoryError: the directory holds no run, another driver is at work, or `run.json` and its copy are lost.
        InfrastructureError: a file cannot be read or written.
    """
    lock = list(_damaged_lock(directory))
    read_run(directory)
    try:
        with ExitStack() as stack:
            stack.enter_context(DriverLock(directory, replaces_damaged=True))
            done = [(each, _moved_lock(directory, each)) for each in lock]
            return done + _repaired(directory, [each for each in find_damage(directory) if each.kind != "lock"])
    except OSError as error:
        raise InfrastructureError(f"cannot repair {directory}: {error.filename}: {error.strerror or error}") from error


def _damaged_lock(directory: Path) -> Iterator[Damage]:
    holder = holder_of(directory) if directory.is_dir() else None
    if holder is not None and holder.damaged:
        name = lock_name(holder.number)
        yield Damage("lock", name, f"the lock file {directory / name} is damaged")


def _damaged_run_json(directory: Path) -> Iterator[Damage]:
    described, problem = read_run_file(directory / "run.json")
    if problem and (described is not None or copy_of(directory, "run.json").exists() or has_commits(directory)):
        yield Damage("run", "run.json", f"{directory / 'run.json'} {problem}", has_copy=True)


def _damaged_copies(directory: Path, commits: Sequence[Commit]) -> Iterator[Damage]:
    """Yield the copies of commits that are not like their originals."""
    for commit in commits:
        name = f"{commit.unit}.json"
        original, copy = directory / "commits" / name, copy_of(directory, name)
        if original.exists() and copy.exists() and original.read_bytes() != copy.read_bytes():
            yield Damage("copy", f"copies/{name}", f"{copy} is not like the commit that it is a copy of", commit.unit)


def _moved_lock(directory: Path, damage: Damage) -> str:
    """Return where `DriverLock` has moved a damaged lock file."""
    moved = sorted((directory / "damaged").glob(f"{damage.path}*"), key=lambda path: path.stat().st_mtime_ns)
    return str(moved[-1].relative_to(directory)) if moved else ""


def _repaired(directory: Path, damage: Sequence[Damage]) -> list[tuple[Damage, str]]:
    after = largest_number({}, directory)
    orders = read_orders(directory)
    copies = {each.unit for each in damage if each.kind == "commit" and each.has_copy}
    done: list[tuple[Damage, str]] = []
    for each in damage:
        if each.kind == "copy" and each.unit in copies:
            continue  # the copy is the one that is whole
        done.append((each, _repaired_file(directory, each, orders, after)))
    sync_directory(directory / "commits")
    return done


def _repaired_file(directory: Path, damage: Damage, orders: Mapping[str, RedoOrder], after: int) -> str:
    """Repair one file and return where the damaged one is now."""
    if damage.kind == "run":
        described = read_run(directory)  # of its copy, if it cannot be read itself
        copy, problem = read_run_file(copy_of(directory, "run.json"))
        moved = move_aside(directory, damage.path)
        write_run(directory, described if copy is None or problem else copy)
        return moved
    name = f"{damage.unit}.json"
    if damage.kind == "copy":
        moved = move_aside(directory, damage.path)
        copy_of(directory, name).write_bytes((directory / "commits" / name).read_bytes())
        return moved
    if damage.kind == "commit" and damage.has_copy:
        moved = move_aside(directory, damage.path)
        write_atomically(directory / damage.path, copy_of(directory, name).read_bytes())
        return moved
    if damage.kind == "commit":
        return _commit_given_up(directory, damage, after)
    moved = move_aside(directory, damage.path)
    order = RedoOrder(
        damage.unit,
        damage.phase,
        frozenset({damage.kind}),
        positions=damage.positions,
        rows=moved if damage.kind == "data" else "",
    )
    write_order(directory, order.merged(read_orders(directory).get(damage.unit)))
    return moved


def _commit_given_up(directory: Path, damage: Damage, after: int) -> str:
    """Move aside a commit without a copy, and the files of its unit; the order for it keeps the rows to compare."""
    unit = damage.unit
    moved = {kind: move_aside(directory, f"{kind}/{unit}.jsonl") for kind in _UNIT_KINDS}
    move_aside(directory, f"copies/{unit}.json")
    write_order(directory, RedoOrder(unit, damage.phase, frozenset(), rows=moved["data"], after=after))
    return move_aside(directory, damage.path)
