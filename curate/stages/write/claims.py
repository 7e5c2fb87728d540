"""Objects that a run publishes behind URLs: which of them are its own, and how they get there.

A run directory is where a run knows its local files from. Behind a URL it knows them by a claim, which is written down
in `claims.json` of the run directory before the first byte is sent. What is there without a claim is another's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

from curate.errors import InfrastructureError, PlanError
from curate.io.failpoints import failpoint
from curate.storage import (
    delete,
    identity,
    listing,
    lookup,
    open_file,
    path_of,
    read_json,
    scheme_of,
    upload,
    write_json,
)

CLAIMS = "claims.json"

_UPLOADS = 8


def is_url(path: str | Path) -> bool:
    """Return whether a writer's path is a URL."""
    return scheme_of(str(path)) is not None


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


def require_own_object(url: str, directory: Path) -> None:
    """Check that nothing, or this run's own object, lies at a URL.

    Raises:
        PlanError: another's does.
        InfrastructureError: the store cannot be reached.
    """
    if is_claimed(url, directory):
        return
    try:
        identity(url)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InfrastructureError(f"cannot publish {url}: {error}") from error
    raise PlanError(f"{url} is there already, and this run has not written it: choose another path, or delete it")


def require_own_folder(url: str, provenance: str, directory: Path) -> None:
    """Check that nothing, or this run's own data set, lies below a URL.

    Args:
        url: of the data set.
        provenance: the name of the file in it that says whose it is.
        directory: the run directory.

    Raises:
        PlanError: another's does.
        InfrastructureError: the store cannot be reached.
    """
    if is_claimed(url, directory):
        return
    owner = read_object(f"{url}/{provenance}").get("run")
    if owner is not None:
        raise PlanError(f"{url} is the data set of another run, {owner}: choose another path, or delete it")
    try:
        found = next(iter(listing(f"{url}/")), None)
    except LookupError:  # a store that lists nothing
        return
    except OSError as error:
        raise InfrastructureError(f"cannot publish {url}: {error}") from error
    if found is not None:
        raise PlanError(
            f"{url} is not empty ({found.uri} is there), and is not a data set that curate has published: "
            "choose another path, or delete it"
        )


def is_claimed(url: str, directory: Path) -> bool:
    """Return whether this run has begun to publish to a URL."""
    return url in cast("list[str]", read_json(directory / CLAIMS).get("urls", []))


def claim(url: str, directory: Path) -> None:
    """Write down that this run publishes to a URL."""
    urls = cast("list[str]", read_json(directory / CLAIMS).get("urls", []))
    if url not in urls:
        write_json(directory / CLAIMS, {"urls": [*urls, url]})


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


def upload_folder(folder: Path, url: str, provenance: str, directory: Path) -> None:
    """Publish a folder below a URL: its shards, then what describes them, and `provenance.json` last.

    A file that an earlier attempt of this run has published, by the `provenance.json` that is there, is not sent again,
    and what the set no longer has is removed.

    Args:
        folder: what is published.
        url: where.
        provenance: the name of the file in it that has the size and the checksum of the others.
        directory: the run directory.

    Raises:
        OSError: a file cannot be uploaded.
    """
    before: dict[str, Any] = dict(read_object(f"{url}/{provenance}").get("files", {}))
    after: dict[str, Any] = dict(read_json(folder / provenance).get("files", {}))
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    names = [name for name in names if name not in after or before.get(name) != after[name]]
    linked = [name for name in names if (folder / name).stat().st_nlink > 1]
    described = [name for name in names if name not in linked and name != provenance]
    claim(url, directory)
    _upload_all(folder, url, linked)
    failpoint("set.before_rename")
    _upload_all(folder, url, described)
    _upload_all(folder, url, [provenance])
    failpoint("set.after_rename")
    for name in sorted(before.keys() - after.keys()):
        delete(f"{url}/{name}")


def _upload_all(folder: Path, url: str, names: Iterable[str]) -> None:
    """Upload files under their names, several at the same time."""
    with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="upload") as pool:
        futures = [pool.submit(upload, folder / name, f"{url}/{name}") for name in names]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
