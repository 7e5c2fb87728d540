"""Repositories of the Hugging Face hub, read only: `hf://datasets/owner/name@revision/path`.

What a URL names is resolved by huggingface_hub, with its token and endpoint (`HF_TOKEN`, `HF_ENDPOINT`, the login of
`hf auth login`); the bytes are read by range from the place it resolves to.
"""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Iterator
from typing import Any

from curate.storage.file import Identity
from curate.storage.object_store import Place, may_be_plain, unescape
from curate.storage.scheme import StoreError
from curate.storage.web import ReadOnlyScheme, web_store


class HuggingFaceScheme(ReadOnlyScheme):
    """The files in repositories of the hub."""

    remedy = "set HF_TOKEN, or run `hf auth login`, with a token that may read this repository"

    def __init__(self) -> None:
        super().__init__()
        importlib.import_module("huggingface_hub")

    def place(self, uri: str) -> Place:
        found = self._resolved(uri)
        hub: Any = importlib.import_module("huggingface_hub")
        url: str = hub.hf_hub_url(found.repo_id, found.path_in_repo, repo_type=found.repo_type, revision=found.revision)
        scheme, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        base = f"{scheme}://{host}"

        def make() -> Any:
            headers: dict[str, str] = hub.utils.build_hf_headers(library_name="curate")
            return web_store(base, plain=may_be_plain(base), headers=headers)

        return Place(self.store_for(base, make), unescape(path), uri)

    def listing(self, prefix: str) -> Iterator[Identity]:
        base = prefix.rstrip("/")
        with self._hub_errors(prefix):
            found: dict[str, Any] = self._file_system().find(base.removeprefix("hf://"), detail=True)
        names = self._resolved(f"{base}/_")
        folder = f"{names.unresolve().rpartition('/')[0]}/"
        for name, about in sorted(found.items()):
            yield Identity(f"{base}/{name.removeprefix(folder)}", about["size"], None, about.get("blob_id") or "")

    def _resolved(self, uri: str) -> Any:
        path = uri.partition("://")[2]
        with self._hub_errors(uri):
            found = self._file_system().resolve_path(path)
        if not getattr(found, "path_in_repo", ""):
            raise OSError(errno.EINVAL, "the URL names no file in a repository", uri)
        return found

    def _file_system(self) -> Any:
        return self.store_for("", importlib.import_module("huggingface_hub").HfFileSystem)

    def _hub_errors(self, uri: str) -> Any:
        return _HubErrors(uri, self.remedy)


class _HubErrors:
    """Turns errors of huggingface_hub into those of a store; their chain may hold the headers of a request."""

    def __init__(self, uri: str, remedy: str) -> None:
        self._uri = uri
        self._remedy = remedy

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None or not isinstance(error, Exception):
            return
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, "there is no such repository or file", self._uri) from None
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise StoreError(f"{self._uri}: access is denied ({status}): {self._remedy}") from None
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise StoreError(f"{self._uri}: the hub cannot be reached{offline}: {type(error).__name__}") from None
