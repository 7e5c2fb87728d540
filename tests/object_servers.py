"""Servers of objects on loopback: a real S3 server (nanio) and a web server with ranges, behind a meter of bytes."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import attrs
import pytest

KEY_ID, SECRET = "AKIACURATETESTKEYID", "a-secret-of-the-test-and-of-nothing-else"

needs_s3 = pytest.mark.skipif(
    importlib.util.find_spec("obstore") is None or importlib.util.find_spec("nanio") is None,
    reason="needs obstore and nanio: make .venv/.dev-all",
)
needs_remote = pytest.mark.skipif(
    importlib.util.find_spec("obstore") is None, reason="needs obstore: make .venv/.dev-all"
)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@attrs.define
class Meter:
    """A relay to a server, which counts the connections and the bytes that the server sends.

    Args:
        port: of the server.
    """

    port: int
    own_port: int = attrs.field(factory=free_port)
    sent: int = 0
    connections: int = 0
    _listener: Any = None
    _lock: Any = attrs.field(factory=threading.Lock)

    def __enter__(self) -> Meter:
        self._listener = socket.create_server(("127.0.0.1", self.own_port))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.own_port}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                try:
                    server = socket.create_connection(("127.0.0.1", self.port))
                except OSError:
                    client.close()
                    continue
                threading.Thread(target=self._copy, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._copy, args=(server, client, True), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while block := source.recv(1 << 16):
                if counted:
                    with self._lock:
                        self.sent += len(block)
                target.sendall(block)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class S3Server:
    """nanio in a process of its own: buckets are folders, so what it holds outlives it.

    Args:
        folder: of the buckets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: Any = None
        (folder / "speech").mkdir(parents=True)

    def start(self) -> None:
        environment = {**os.environ, "NANIO_ACCESS_KEY": KEY_ID, "NANIO_SECRET_KEY": SECRET}
        environment.pop("PYTHONPATH", None)
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "nanio", "serve", "--data-dir", str(self.folder), "--host", "127.0.0.1"),
                *("--port", str(self.port), "--log-level", "error", "--no-access-log"),
            ],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self.port, self._process)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def put(self, key: str, content: bytes) -> None:
        path = self.folder / "speech" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def get(self, key: str) -> bytes:
        return (self.folder / "speech" / key).read_bytes()

    def names(self) -> list[str]:
        folder = self.folder / "speech"
        found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        return sorted(key for key in found if not key.startswith(".nanio"))


class GoogleServer(S3Server):
    """nanio without signatures, by the interface of XML that Google shares with S3, which `gs://` uses."""

    def start(self) -> None:
        script = (
            "import pathlib, sys, uvicorn; from nanio.app import build_app; from nanio.config import Settings; "
            "app = build_app(Settings(data_dir=pathlib.Path(sys.argv[1]), auth_disabled=True)); "
            "uvicorn.run(app, host='127.0.0.1', port=int(sys.argv[2]), log_level='error', access_log=False)"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, str(self.folder), str(self.port)],
            env={**os.environ, "PYTHONPATH": "", "NANIO_ACCESS_KEY": "none", "NANIO_SECRET_KEY": "none"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self.port, self._process)


def wait_for_port(port: int, process: Any) -> None:
    """Wait until a server accepts connections."""
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, f"the server has ended with {process.returncode}"
            assert time.monotonic() < until, "the server does not listen"
            threading.Event().wait(0.05)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    server = S3Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def s3_environment(url: str, home: Path, *, secret: str = SECRET, key_id: str = KEY_ID) -> dict[str, str]:
    """Return the variables with which a process finds the server and its credentials."""
    return {
        "AWS_ACCESS_KEY_ID": key_id,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(home),
    }


class _Ranges(BaseHTTPRequestHandler):
    """Serves a folder, with ranges, ETags and 404; `server.fail_next` answers are 503."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def _answer(self, *, with_content: bool) -> None:
        server: Any = self.server
        server.requests.append((self.command, self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        path = server.folder / unquote(self.path.partition("?")[0]).lstrip("/")
        status, content, more = 200, b"", {}
        if server.fail_next:
            server.fail_next -= 1
            status = 503
        elif not path.is_file():
            status = 404
        else:
            content = path.read_bytes()
            more["ETag"] = f'"{hash(content) & 0xFFFFFFFF:x}"'
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if wanted is not None and int(wanted[1]) >= len(content):
                status, content = 416, b""
            elif wanted is not None:
                first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
                more["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                status, content = 206, content[first : last + 1]
        self.send_response(status)
        for name, value in {**more, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_content:
            self.wfile.write(content)


@contextmanager
def web_server(folder: Path) -> Iterator[Any]:
    """Serve a folder; the server has `url`, `requests` and `fail_next`."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Ranges)
    server.folder, server.requests, server.fail_next = folder, [], 0
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
