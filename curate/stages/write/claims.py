"""Which files and objects outside its run directory a run may write: those that it has claimed.

A file or an object is noted in `claims.json` of the run directory before its first byte is written. What lies at a
place without a claim is another's, and is refused. A data set names its run itself, in `provenance.json`; one behind a
URL gets this file last, so until then a claim of the whole set counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any, cast

from curate.errors import InfrastructureError, PlanError
from curate.io.provenance import PROVENANCE
from curate.storage import (
    RemotePath,
    identity,
    is_url,
    listing,
    lookup,
    open_file,
    path_of,
    read_json,
    scheme_of,
    write_json,
)

CLAIMS = "claims.json"


def is_meant_as_url(path: str | Path) -> bool:
    """Return whether a writer's path is meant as a URL: `check_url` refuses one with a malformed scheme."""
    return "://" in str(path)


def check_url(url: str) -> None:
    """Check a URL that is published to, before work starts.

    Raises:
        PlanError: its scheme is not registered, its packages are not installed, or it is malformed.
    """
    try:
        store = lookup(scheme_of(url) or "")
        if getattr(store, "read_only", False):
            raise PlanError(f"path={url!r} can only be read; publish to s3://, gs:// or a folder")
        if store is None:
            raise PlanError(f"path={url!r}: the scheme of this URL is not known; see curate plugins")
        path_of(url)
    except (OSError, ValueError) as error:
        raise PlanError(f"path={url!r}: {error}") from error


def claim(stage: str, places: Iterable[Path], directory: Path) -> list[Path]:
    """Note the files, objects or folders that a stage writes, and return the local ones that it no longer writes.

    Args:
        stage: its name.
        places: paths and URLs.
        directory: the run directory.
    """
    before = claimed(stage, directory)
    now = {str(place.absolute()) for place in places}
    now.update(place for place in before if is_url(place))
    _note(stage, now, directory)
    return [Path(place) for place in before if place not in now]


def claimed(stage: str, directory: Path) -> list[str]:
    """Return the paths and URLs that a stage has claimed."""
    return cast("list[str]", read_json(directory / CLAIMS).get(stage, []))


def release(stage: str, urls: Iterable[str], directory: Path) -> None:
    """Give up the claim on objects that a stage has deleted: what lies there next is another's."""
    _note(stage, set(claimed(stage, directory)).difference(urls), directory)


def _note(stage: str, places: Set[str], directory: Path) -> None:
    noted = read_json(directory / CLAIMS)
    if set(noted.get(stage, [])) != places:
        write_json(directory / CLAIMS, {**noted, stage: sorted(places)})


def require_own_file(place: Path, directory: Path) -> None:
    """Check that nothing, or what this run has written, lies at a path or URL.

    Args:
        place: outside the run directory.
        directory: the run directory.

    Raises:
        PlanError: something else does.
        InfrastructureError: the store cannot be reached.
    """
    if _is_claimed(place, directory):
        return
    try:
        identity(place)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InfrastructureError(f"cannot publish {place}: {error}") from error
    raise PlanError(f"{place} is there already, and this run has not written it: choose another path, or move it away")


def require_own_folder(place: Path, directory: Path) -> None:
    """Check that nothing, or this run's own data set, lies below a path or URL.

    Args:
        place: of the data set.
        directory: the run directory.

    Raises:
        PlanError: something else does.
        InfrastructureError: the store cannot be reached.
    """
    remote = isinstance(place, RemotePath)
    described = read_object(f"{place}/{PROVENANCE}") if remote else read_json(place / PROVENANCE)
    owner = described.get("run")
    if owner == str(directory.absolute()) or (remote and owner is None and _is_claimed(place, directory)):
        return
    if owner is not None:
        raise PlanError(f"{place} is the data set of another run, {owner}: choose another path, or delete it")
    found = _first_object(place) if remote else _first_file(place)
    if found is not None:
        raise PlanError(
            f"{place} is not empty ({found} is there), and is not a data set that curate has published: "
            "choose another path, or move it away"
        )


def _is_claimed(place: Path, directory: Path) -> bool:
    claims = cast("Mapping[str, list[str]]", read_json(directory / CLAIMS))
    return any(str(place.absolute()) in places for places in claims.values())


def _first_file(place: Path) -> Path | None:
    if place.is_dir():
        return next(place.iterdir(), None)
    return place if place.exists() else None


def _first_object(place: Path) -> str | None:
    try:
        return next((found.uri for found in listing(f"{place}/")), None)
    except LookupError:  # a store that lists nothing
        return None
    except OSError as error:
        raise InfrastructureError(f"cannot publish {place}: {error}") from error


def read_object(url: str) -> Mapping[str, Any]:
    """Return the JSON object behind a URL; an empty one if there is none.

    Raises:
        InfrastructureError: the store cannot be reached.
    """
    try:
        with open_file(url) as file:
            return cast("Mapping[str, Any]", json.loads(file.read()))
    except (FileNotFoundError, ValueError):
        return {}
    except OSError as error:
        raise InfrastructureError(f"cannot read {url}: {error}") from error
