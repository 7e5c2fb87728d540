"""Stores behind URL schemes: what one has to implement, and which ones this process knows."""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from curate.storage.file import Identity, StoredFile
from curate.storage.local import LocalPaths

BUILT_IN: Mapping[str, str] = {
    "s3": "curate.storage.s3:S3Scheme",
    "gs": "curate.storage.gcs:GcsScheme",
    "hf": "curate.storage.hugging_face:HuggingFaceScheme",
    "https": "curate.storage.web:WebScheme",
    "http": "curate.storage.web:WebScheme",
}
"""curate's own schemes, imported when a URL of theirs is first used; the others come from plugins."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class StoreError(OSError):
    """A store that cannot be reached, or refuses everything; the message names the remedy."""


@runtime_checkable
class Scheme(Protocol):
    """A store of objects with URLs of one scheme, such as `s3`. Its methods are called from several threads.

    Errors are `OSError`s with the `errno` of what happened: ENOENT for a missing object, EACCES for one that may not be
    read; any other is taken for trouble of the store, which stops the run.
    """

    def open(self, uri: str) -> StoredFile:
        """Open an object for reading."""
        ...

    def identity(self, uri: str) -> Identity:
        """Return the identity of an object, without reading it."""
        ...

    def writing(self, uri: str) -> AbstractContextManager[BinaryIO]:
        """Write an object that appears whole when the block ends in order, and not at all otherwise."""
        ...


_local: Scheme = LocalPaths()
_registered: dict[str, Scheme] = {}
_made: dict[str, Scheme] = {}
_making = threading.Lock()


def register(schemes: Mapping[str, Scheme]) -> None:
    """Add stores to those that this process knows, by scheme; all of them or, if one is refused, none.

    A store of the same class replaces the one before, so that registering the same plugins again changes nothing.

    Raises:
        ValueError: a scheme is not a valid name, or belongs to a store of another class.
        TypeError: a store does not implement `Scheme`.
    """
    for name, store in schemes.items():
        if not _URL.fullmatch(f"{name}://") or name != name.lower():
            raise ValueError(f"invalid storage scheme {name!r}: write lower-case letters and digits, such as 's3'")
        if not isinstance(store, Scheme):  # pyright: ignore[reportUnnecessaryIsInstance] (a third party's)
            raise TypeError(f"storage scheme {name!r}: {store!r} does not implement curate.storage.Scheme")
        known = _registered.get(name)
        if known is not None and type(known) is not type(store):
            raise ValueError(f"storage scheme {name!r} is registered already, by {type(known).__qualname__}")
    _registered.update(schemes)


def lookup(scheme: str) -> Scheme | None:
    """Return the store of a scheme; None: it is not registered.

    Raises:
        StoreError: it is one of curate's own, and its packages are not installed.
    """
    name = scheme.lower()
    return _registered.get(name) or (_built_in(name) if name in BUILT_IN else None)


def _built_in(name: str) -> Scheme:
    with _making:
        if name not in _made:
            module, _, cls = BUILT_IN[name].partition(":")
            try:
                _made[name] = getattr(importlib.import_module(module), cls)()
            except ModuleNotFoundError as error:
                raise StoreError(f"{name}:// needs {error.name}: pip install 'curate-speech[remote]'") from error
        return _made[name]


def scheme_of(uri: str) -> str | None:
    """Return the scheme of a URL, in lower case; None: it is a local path."""
    found = _URL.match(uri)
    return None if found is None else found[1].lower()


def is_url(place: str | Path) -> bool:
    """Return whether a place is opened as a URL: it begins with a scheme, registered or not."""
    return _URL.match(str(place)) is not None


def store_of(uri: str) -> Scheme:
    """Return the store of a path or URL.

    Raises:
        LookupError: the URL's scheme is not registered.
        StoreError: its packages are not installed.
    """
    scheme = scheme_of(uri)
    if scheme is None:
        return _local
    store = lookup(scheme)
    if store is None:
        known = ", ".join(sorted({*BUILT_IN, *_registered}))
        raise LookupError(f"storage scheme {scheme!r} is not registered (registered: {known}): {uri:.300}")
    return store
