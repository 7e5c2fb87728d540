"""Files on web servers, read only: `https://host/path`; `http://` on this machine, or where the user allows it."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from curate.storage.file import Identity
from curate.storage.object_store import (
    HTTP_VARIABLE,
    ObjectScheme,
    Place,
    client_options,
    may_be_plain,
    retry_options,
    split_url,
    unescape,
)
from curate.storage.scheme import StoreError


class ReadOnlyScheme(ObjectScheme):
    """The base of schemes that can only be read."""

    read_only = True

    @contextmanager
    def writing(self, uri: str) -> Generator[BinaryIO]:
        raise StoreError(f"{uri}: {uri.partition(':')[0]}:// can only be read; publish to s3://, gs:// or a folder")
        yield

    def upload(self, path: Path, uri: str) -> None:
        with self.writing(uri):
            pass


class WebScheme(ReadOnlyScheme):
    """The files of web servers."""

    remedy = "only what can be read without signing in is read"

    def place(self, uri: str) -> Place:
        host, path = split_url(uri)
        scheme = uri.partition(":")[0].lower()
        base = f"{scheme}://{host}"
        plain = scheme == "http"
        if plain and not may_be_plain(base):
            raise StoreError(f"{base} is not encrypted; use https, or set {HTTP_VARIABLE}=1 to allow it")
        return Place(self.store_for(base, lambda: web_store(base, plain=plain)), unescape(path), uri)

    def listing(self, prefix: str) -> Iterator[Identity]:
        raise StoreError(f"{prefix}: a web server lists no files; name them")


def web_store(base: str, *, plain: bool, headers: dict[str, str] | None = None) -> Any:
    """Return obstore's store of a web server."""
    store: Any = importlib.import_module("obstore.store").HTTPStore
    return store.from_url(
        base, client_options=client_options(allow_http=plain, headers=headers), retry_config=retry_options()
    )
