"""Stores of objects behind `s3://`, `gs://`, `https://` and `hf://`, through obstore (the extra `remote`).

A scheme derives from `ObjectScheme`, which has retries, timeouts, ranges and errors in one place. Credentials are read
by obstore, or from where the vendor's own tools keep them, in every process that needs them: they are in no URL, no
message, no pickle. A URL that may hold some, with a password or a query, is refused.
"""

from __future__ import annotations

import errno
import http.client
import importlib
import os
import re
import tempfile
import threading
import urllib.error
import urllib.request
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NoReturn, cast
from urllib.parse import unquote, urlsplit

import attrs

from curate.storage.file import Identity
from curate.storage.remote_file import HEAD_BYTES, RemoteFile
from curate.storage.scheme import StoreError

RETRY_VARIABLE = "CURATE_STORAGE_RETRY_S"
"""The environment variable that says how long a request is repeated before the store counts as dead."""

HTTP_VARIABLE = "CURATE_ALLOW_HTTP"
"""The environment variable that allows connections without TLS to other machines than this one, if it is 1."""

_RETRY_S = 120.0
_RETRIES = 1000  # time is the bound
_BODY_TRIES = 3
_CONNECT_TIMEOUT, _TIMEOUT = timedelta(seconds=10), timedelta(seconds=120)
_HELD_IN_MEMORY = 1 << 26

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_QUERY = re.compile(r"\?[^\s\"']*")

_CREDENTIAL_CODES = frozenset(
    {
        *("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"),
        *(
            "InvalidClientTokenId",
            "AuthorizationHeaderMalformed",
            "RequestTimeTooSkewed",
            "UnrecognizedClientException",
        ),
    }
)
"""Answers of S3 that concern the credentials themselves, and so every object."""


@attrs.frozen
class Place:
    """Where an object lies.

    Args:
        store: obstore's store, of a bucket or a host.
        key: the name in it.
        uri: the URL, for messages.
    """

    store: Any
    key: str
    uri: str


def client_options(*, allow_http: bool, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Return obstore's options for the connections of a store."""
    options: dict[str, Any] = {
        "allow_http": allow_http,
        "connect_timeout": _CONNECT_TIMEOUT,
        "timeout": _TIMEOUT,
        "user_agent": "curate",
    }
    return options if headers is None else {**options, "default_headers": headers}


def retry_options() -> dict[str, Any]:
    """Return obstore's options for repeated requests: with exponential backoff, for `CURATE_STORAGE_RETRY_S` seconds.

    Raises:
        StoreError: the variable is not a number of seconds.
    """
    given = os.environ.get(RETRY_VARIABLE, "")
    try:
        seconds = float(given or _RETRY_S)
    except ValueError:
        raise StoreError(f"{RETRY_VARIABLE}={given!r:.40} is not a number of seconds") from None
    backoff = {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2}
    return {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=max(0.0, seconds)), "backoff": backoff}


def may_be_plain(url: str) -> bool:
    """Return whether a connection to a server may be without TLS: to this machine, or where the user allows it."""
    return (urlsplit(url).hostname or "") in _LOOPBACK or os.environ.get(HTTP_VARIABLE) == "1"


def metadata_headers(path: str) -> Mapping[str, str]:
    """Return the headers with which the service that lends credentials to a machine in a cloud answers; none where
    there is none, which is known after a second.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://169.254.169.254{path}", timeout=1) as answer:
            return dict(answer.headers.items())
    except urllib.error.HTTPError as error:
        return dict(error.headers.items())
    except (OSError, http.client.HTTPException):
        return {}


class ObjectScheme:
    """The base of schemes whose objects are read and written through obstore: define `place(uri)`."""

    remedy: ClassVar[str] = ""
    """What to do when the credentials are refused or missing."""

    def __init__(self) -> None:
        _obstore()  # now, so that a missing package is known before anything is read
        self._stores: dict[tuple[int, object], Any] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # connections and credentials are each process's own

    def __setstate__(self, state: dict[str, Any]) -> None:
        ObjectScheme.__init__(self)

    @abstractmethod
    def place(self, uri: str) -> Place:
        """Return where an object lies.

        Raises:
            StoreError: there are no credentials.
            OSError: the URL names no object; its `errno` is EINVAL.
        """
        raise NotImplementedError

    def store_for(self, name: object, make: Callable[[], Any]) -> Any:
        """Return the store of a bucket or a host, made once in a process."""
        key = (os.getpid(), name)
        with self._lock:
            if key not in self._stores:
                self._stores[key] = make()
            return self._stores[key]

    def open(self, uri: str) -> RemoteFile:
        """Open an object: its first bytes are read with the request that opens it."""
        place = self.place(uri)
        with self._errors(uri):
            about, head = self._first(place)
        found = _identity(uri, about)
        condition = {"if_match": found.tag} if found.tag and not found.tag.startswith("W/") else {}
        tag = found.tag

        def fetch(start: int, stop: int) -> bytes:
            with self._errors(uri):
                return _content(place, {"range": (start, stop), **condition}, tag)

        return RemoteFile(found, fetch, head)

    def identity(self, uri: str) -> Identity:
        """Return the identity of an object, without reading it."""
        place = self.place(uri)
        with self._errors(uri):
            return _identity(uri, self._head(place))

    @contextmanager
    def writing(self, uri: str) -> Generator[BinaryIO]:
        """Write an object that appears whole when the block ends in order, and not at all otherwise."""
        place = self.place(uri)
        with tempfile.SpooledTemporaryFile(_HELD_IN_MEMORY) as file:
            yield cast("BinaryIO", file)
            file.seek(0)
            self._put(place, file)

    def upload(self, path: Path, uri: str) -> None:
        """Write a local file as an object."""
        with path.open("rb") as file:
            self._put(self.place(uri), file)

    def delete(self, uri: str) -> None:
        """Remove an object, if it is there."""
        place = self.place(uri)
        with self._errors(uri):
            _obstore().delete(place.store, place.key)

    def listing(self, prefix: str) -> Iterator[Identity]:
        """Yield the objects below a URL that ends in `/`, in the order of their names."""
        place = self.place(f"{prefix.rstrip('/')}/_")
        folder = place.key.removesuffix("_")
        base = prefix.rstrip("/")
        found: list[Identity] = []
        with self._errors(prefix):
            for batch in _obstore().list(place.store, folder or None, chunk_size=1000):
                found += [_identity(f"{base}/{about['path'].removeprefix(folder)}", about) for about in batch]
        found.sort(key=attrgetter("uri"))
        yield from found

    def _put(self, place: Place, file: Any) -> None:
        with self._errors(place.uri):
            _obstore().put(place.store, place.key, file)

    def _head(self, place: Place) -> Any:
        try:
            return _obstore().head(place.store, place.key)
        except _exceptions().PermissionDeniedError:
            # an answer to HEAD has no content, and the reason is in the content
            _obstore().get(place.store, place.key, options={"range": (0, 1)})
            raise

    def _first(self, place: Place) -> tuple[Any, bytes]:
        """Return the description of an object, and its first bytes."""
        try:
            result = _obstore().get(place.store, place.key, options={"range": (0, HEAD_BYTES)})
            return result.meta, bytes(result.bytes())
        except _exceptions().GenericError as error:
            if _status(error) not in (400, 416):
                raise
        # an empty object, or a store that refuses a range which reaches behind the end
        about = self._head(place)
        size = min(HEAD_BYTES, about["size"])
        return about, _content(place, {"range": (0, size)}, "") if size else b""

    @contextmanager
    def _errors(self, uri: str) -> Generator[None]:
        """Turn errors of obstore into those of the operating system; their chain, which may hold a URL with a
        signature, is cut off.
        """
        try:
            yield
        except OSError as error:
            self._raise(error, uri)
        except RuntimeError as error:
            if "fork" not in str(error).lower():
                raise
            raise StoreError(
                f"{uri}: this process was forked from one that has used the store, which cannot work; "
                "start processes by spawn, as curate's own executors do"
            ) from None
        except _exceptions().BaseError as error:
            self._raise(error, uri)

    def _raise(self, error: Exception, uri: str) -> NoReturn:
        message = _QUERY.sub("?…", str(error).partition("\n")[0])[:500]
        code = match[1] if (match := _CODE.search(str(error))) else ""
        status, kinds = _status(error), _exceptions()
        if isinstance(error, StoreError):
            raise error from None
        if code in _CREDENTIAL_CODES or status == 401 or isinstance(error, kinds.UnauthenticatedError):
            raise StoreError(
                f"{uri}: the credentials are refused ({code or status or message}): {self.remedy}"
            ) from None
        if code == "NoSuchBucket":
            raise StoreError(f"{uri}: there is no such bucket") from None
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, "there is no such object", uri) from None
        if isinstance(error, kinds.PermissionDeniedError):
            raise PermissionError(errno.EACCES, f"access is denied ({code or status}); {self.remedy}", uri) from None
        if isinstance(error, kinds.PreconditionError):
            raise StoreError(f"{uri} has changed while it was read") from None
        if "169.254.169.254" in message or "metadata" in message.lower():
            raise StoreError(f"{uri}: there are no credentials: {self.remedy}") from None
        raise StoreError(f"{uri}: {message}") from None


def split_url(uri: str) -> tuple[str, str]:
    """Return the host or bucket of a URL, and the path behind it.

    Raises:
        OSError: there is no path, or the URL has a password or a query, which may be credentials; `errno` is EINVAL.
    """
    scheme, _, rest = uri.partition("://")
    host, _, path = rest.partition("/")
    if not host or not path or path.endswith("/"):
        raise OSError(errno.EINVAL, "the URL names no object", f"{scheme}://{host}/{path}")
    if "@" in host:
        raise OSError(errno.EINVAL, "a URL must not hold a password", f"{scheme}://…@{host.rpartition('@')[2]}/{path}")
    return host, path


def unescape(path: str) -> str:
    """Return the path of a URL of the web without its escapes.

    Raises:
        OSError: it has a query or a fragment; `errno` is EINVAL.
    """
    if "?" in path or "#" in path:
        shown = re.split(r"[?#]", path)[0]
        raise OSError(errno.EINVAL, "a URL must not have a query, which may hold credentials", f"…/{shown}?…")
    return unquote(path)


def _identity(uri: str, about: Any) -> Identity:
    modified = about["last_modified"]
    mtime_ns = None if modified is None else round(modified.timestamp() * 1e6) * 1000
    tag = about["e_tag"] or ""
    return Identity(uri, about["size"], mtime_ns, tag if tag.strip('W/"') else "")


def _content(place: Place, options: dict[str, Any], tag: str) -> bytes:
    """Return a range; one whose content breaks off is asked for again."""
    for left in reversed(range(_BODY_TRIES)):
        try:
            result = _obstore().get(place.store, place.key, options=options)
            if tag and (result.meta["e_tag"] or tag) != tag:
                raise StoreError(f"{place.uri} has changed while it was read")
            return bytes(result.bytes())
        except _exceptions().GenericError as error:
            if not left or _status(error) is not None:
                raise
    raise AssertionError


def _status(error: Exception) -> int | None:
    found = _STATUS.search(str(error))
    return None if found is None else int(found[1])


def _obstore() -> Any:
    return importlib.import_module("obstore")


def _exceptions() -> Any:
    return importlib.import_module("obstore.exceptions")
