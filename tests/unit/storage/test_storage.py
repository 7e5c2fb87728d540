"""Objects are opened by path or URL, read in ranges, and identified without reading them."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from curate.audio.files import open_file as open_audio
from curate.errors import InfrastructureError, RecordError
from curate.storage import (
    Identity,
    NotRegularError,
    Scheme,
    StoredFile,
    identity,
    lookup,
    open_file,
    open_local,
    open_range,
    register,
    scheme_of,
)
from curate.storage import scheme as scheme_module


class Held(StoredFile):
    """An object in memory."""

    def __init__(self, uri: str, content: bytes) -> None:
        super().__init__(Identity(uri, len(content), tag="v1"))
        self._content = content

    def pread(self, length: int, offset: int) -> bytes:
        return self._content[offset : offset + length]


class MemoryStore:
    """A third-party store."""

    def __init__(self, **objects: bytes) -> None:
        self.objects = {f"mem://box/{name}": content for name, content in objects.items()}

    def open(self, uri: str) -> StoredFile:
        return Held(uri, self._content(uri))

    def identity(self, uri: str) -> Identity:
        return Identity(uri, len(self._content(uri)), tag="v1")

    @contextmanager
    def writing(self, uri: str) -> Generator[BinaryIO]:
        held = io.BytesIO()
        yield held
        self.objects[uri] = held.getvalue()

    def _content(self, uri: str) -> bytes:
        if uri.endswith("broken"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), uri)
        if uri not in self.objects:
            raise FileNotFoundError(uri)
        return self.objects[uri]


@pytest.fixture(autouse=True)
def _schemes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheme_module, "_registered", {})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(100)))
    return path


def test_local_file_is_seekable_and_has_its_identity(path: Path) -> None:
    with open_file(path) as file:
        assert (file.size, file.identity) == (100, identity(path))
        assert file.identity.mtime_ns == path.stat().st_mtime_ns
        assert (file.read(2), file.tell(), file.seek(-1, os.SEEK_END), file.read()) == (b"\0\1", 2, 99, b"c")
        assert file.pread(3, 10) == b"\n\v\f"
        assert file.tell() == 100
        assert os.fstat(file.descriptor or -1).st_size == 100
    assert file.closed
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file.fileno())


def test_range_is_a_file_of_its_own(path: Path) -> None:
    with open_range(path, 10, 20) as part:
        assert (part.size, part.read()) == (20, bytes(range(10, 30)))
        assert (part.pread(50, 15), part.pread(5, 20), part.descriptor) == (bytes(range(25, 30)), b"", None)
    with open_range(path, 90, 50) as part:
        assert part.size == 10
    with open_range(path, 200, 5) as part:
        assert (part.size, part.read()) == (0, b"")
    with pytest.raises(ValueError, match="offset=-1"):
        open_range(path, -1, 5)


def test_ranges_may_be_read_from_several_threads(path: Path) -> None:
    with open_file(path) as file, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: file.pread(1, place), range(100)))
    assert b"".join(found) == bytes(range(100))


def test_identity_changes_with_the_content(path: Path) -> None:
    before = identity(path)
    path.write_bytes(b"another")
    assert identity(path) != before
    with pytest.raises(FileNotFoundError):
        identity(path.with_name("none"))


def test_what_is_not_a_file_is_refused_without_opening_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, kind in (("fifo", "a FIFO"), ("", "a directory")):
        with pytest.raises(NotRegularError) as caught:
            open_file(tmp_path / name)
        assert caught.value.kind == kind


def test_a_link_is_refused_where_none_may_be(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    with open_local(str(link)) as file:
        assert file.size == 100
    with pytest.raises(OSError, match=r"\[Errno 40\]") as caught:
        open_local(str(link), follow_link=False)
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize(
    ("uri", "scheme"), [("s3://a/b", "s3"), ("HTTPS://a", "https"), ("a/b.wav", None), ("c:/x", None), ("a:b//c", None)]
)
def test_scheme_of_a_path_is_none(uri: str, scheme: str | None) -> None:
    assert scheme_of(uri) == scheme


def test_url_of_a_registered_scheme_is_opened_by_its_store() -> None:
    store = MemoryStore(a=b"hello")
    register({"mem": store})
    assert lookup("mem") is store
    with open_file("mem://box/a") as file:
        assert (file.read(), file.descriptor) == (b"hello", None)
    with open_range("mem://box/a", 1, 3) as part:
        assert part.read() == b"ell"
    assert identity("mem://box/a") == Identity("mem://box/a", 5, tag="v1")


def test_url_of_another_scheme_is_a_lookup_error_with_the_known_ones() -> None:
    with pytest.raises(LookupError, match=r"'az' is not registered \(registered: gs, hf, http, https, s3\)"):
        open_file("az://bucket/key")
    register({"mem": MemoryStore()})
    with pytest.raises(LookupError, match=r"\(registered: gs, hf, http, https, mem, s3\)"):
        identity("az://bucket/key")


@pytest.mark.parametrize(
    ("name", "store", "error"),
    [("S3", MemoryStore(), ValueError), ("a b", MemoryStore(), ValueError), ("s3", object(), TypeError)],
)
def test_registration_is_refused_as_a_whole(name: str, store: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        register({"mem": MemoryStore(), name: store})
    assert lookup("mem") is None


def test_scheme_has_one_owner() -> None:
    class Other(MemoryStore): ...

    register({"mem": MemoryStore()})
    register({"mem": MemoryStore(a=b"1")})
    with pytest.raises(ValueError, match="'mem' is registered already, by MemoryStore"):
        register({"mem": Other()})


def test_scheme_is_a_protocol() -> None:
    assert isinstance(MemoryStore(), Scheme)
    assert not isinstance(object(), Scheme)


def audio_code(url: str, roots: Any) -> str:
    with pytest.raises(RecordError) as caught, open_audio(url, roots):
        pass
    return caught.value.code


def test_audio_behind_a_url_is_opened_by_its_store_below_its_roots() -> None:
    register({"mem": MemoryStore(**{"a.wav": b"RIFF", "empty": b""})})
    for roots in (None, ["mem://box"], ["mem://box/"], ["/corpus", "mem://box"]):
        with open_audio("mem://box/a.wav", roots) as file:
            assert (file.size, file.pread(4, 0)) == (4, b"RIFF")
    for url, roots in (
        ("mem://box/a.wav", ["/corpus"]),
        ("mem://box/a.wav", []),
        ("mem://box/a.wav", ["mem://bo"]),
        ("mem://box/inner/../a.wav", ["mem://box/inner"]),
        ("mem://box/inner/%2E%2e/a.wav", ["mem://box/inner"]),
    ):
        assert audio_code(url, roots) == "outside_root"
    assert audio_code("mem://box/none", None) == "missing_file"
    assert audio_code("mem://box/empty", None) == "empty_file"
    assert audio_code("az://box/a.wav", None) == "bad_path"
    with pytest.raises(InfrastructureError, match="cannot read 'mem://box/broken'"), open_audio("mem://box/broken"):
        pass


def test_audio_behind_a_url_is_decoded() -> None:
    import numpy as np

    from curate.audio import load, probe
    from tests.unit.audio.audio_files import encoded, tone

    content = encoded(tone())
    register({"mem": MemoryStore(**{"a.wav": content})})
    samples = load("mem://box/a.wav")
    assert probe("mem://box/a.wav").duration_s == pytest.approx(len(samples) / 16_000, abs=1e-3)
    assert float(np.abs(samples).max()) > 0.01
