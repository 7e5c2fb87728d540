"""The storage schemes of plugins, in a form that travels to workers and imports nothing before it is used."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, BinaryIO

from loguru import logger

from curate.errors import InfrastructureError, PluginError
from curate.plugin.discovery import BUILTIN as CURATE
from curate.plugin.host import PluginHost
from curate.plugin.references import SchemeRef
from curate.plugin.status import FILE_MODULE
from curate.storage import Identity, Scheme, StoredFile


class AnnouncedScheme:
    """A store that is imported and made when the first object of its scheme is opened.

    It is pickled by the reference of an installed plugin; of a plugins-file, which no worker could import, the class
    itself travels.
    """

    def __init__(self, reference: SchemeRef) -> None:
        self._reference = reference
        self.cls: Any = reference.load() if reference.target.startswith(FILE_MODULE) else None
        self._store: Scheme | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_store": None}

    def open(self, uri: str) -> StoredFile:
        """Open an object for reading."""
        return self._made().open(uri)

    def identity(self, uri: str) -> Identity:
        """Return the identity of an object, without reading it."""
        return self._made().identity(uri)

    def writing(self, uri: str) -> AbstractContextManager[BinaryIO]:
        """Write an object that appears whole when the block ends in order, and not at all otherwise."""
        return self._made().writing(uri)

    def __getattr__(self, name: str) -> Any:
        """Return a method that a store has in addition, such as `upload` and `listing`."""
        if name.startswith("_") or name == "cls":
            raise AttributeError(name)
        return getattr(self._made(), name)

    def _made(self) -> Scheme:
        """Return the store.

        Raises:
            InfrastructureError: it cannot be imported or made, which no record is to blame for.
        """
        if self._store is None:
            try:
                self._store = (self.cls or self._reference.load())()
            except PluginError as error:
                raise InfrastructureError(str(error)) from error
            except Exception as error:
                raise InfrastructureError(f"{self._reference} cannot be made: {error}") from error
        assert self._store is not None
        return self._store


def schemes_of(host: PluginHost) -> dict[str, Scheme]:
    """Return the stores that plugins announce, by scheme; one that two of them claim is a warning, and left out.

    Those of curate itself are left out, because `curate.storage` knows them.
    """
    found: dict[str, Scheme] = {}
    for name in {reference.name for reference in host.schemes if reference.distribution != CURATE}:
        try:
            found[name] = AnnouncedScheme(host.schemes.resolve(name))
        except PluginError as error:
            logger.warning("{}", error)
    return found
