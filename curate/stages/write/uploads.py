"""Sends files behind URLs: several at the same time, and of a data set the shards before what describes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from curate.io.failpoints import failpoint
from curate.io.provenance import PROVENANCE
from curate.stages.write.claims import read_object
from curate.storage import delete, read_json, upload

_UPLOADS = 8


def upload_folder(folder: Path, url: str) -> None:
    """Publish a folder below a URL: its shards, then what describes them, and `provenance.json` last.

    A file that an earlier attempt of this run has published, by the `provenance.json` that is there, is not sent again,
    and what the set no longer has is removed.

    Args:
        folder: what is published.
        url: where.

    Raises:
        OSError: a file cannot be uploaded.
    """
    before: dict[str, Any] = dict(read_object(f"{url}/{PROVENANCE}").get("files", {}))
    after: dict[str, Any] = dict(read_json(folder / PROVENANCE).get("files", {}))
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    names = [name for name in names if name not in after or before.get(name) != after[name]]
    linked = [name for name in names if (folder / name).stat().st_nlink > 1]
    described = [name for name in names if name not in linked and name != PROVENANCE]
    _upload_all(folder, url, linked)
    failpoint("set.before_rename")
    _upload_all(folder, url, described)
    _upload_all(folder, url, [PROVENANCE])
    failpoint("set.after_rename")
    for name in sorted(before.keys() - after.keys()):
        delete(f"{url}/{name}")


def _upload_all(folder: Path, url: str, names: Iterable[str]) -> None:
    """Upload files of a folder under their names."""
    upload_files({f"{url}/{name}": folder / name for name in names})


def upload_files(files: Mapping[str, Path]) -> None:
    """Upload files, several at the same time.

    Args:
        files: URL → the file.

    Raises:
        OSError: a file cannot be uploaded.
    """
    with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="upload") as pool:
        futures = [pool.submit(upload, path, url) for url, path in files.items()]
        try:
            for future in futures:
                future.result()
                failpoint("object.after_upload")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
