"""A real S3 server on loopback: read from, published to, killed in mid-run, and asked with wrong credentials."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curate import Pipeline, storage
from curate.audio import load, probe
from curate.errors import PlanError
from curate.testing.audio import write_tone
from tests.docs.test_your_data import FILES
from tests.object_servers import KEY_ID, SECRET, Meter, S3Server, needs_s3, s3_environment, s3_server

pytestmark = needs_s3

_ROOT = Path(__file__).parents[2]
_CLIPS, _IN_TAR = 6, 12
_INDEX = "tarred_audio_manifest.json"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    with s3_server(tmp_path / "s3") as running:
        yield running


@pytest.fixture
def meter(server: S3Server) -> Iterator[Meter]:
    with Meter(server.port) as counting:
        yield counting


def _corpus(server: S3Server, folder: Path, padding: int = 0) -> list[str]:
    """Put recordings, a tar of recordings and a manifest into the bucket; return the texts."""
    rows: list[dict[str, Any]] = []
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for number in range(_CLIPS + _IN_TAR):
            content = write_tone(folder / "tone.wav", seconds=0.5 + number / 100).read_bytes()
            name = f"clip-{number:02d}.wav"
            if number < _CLIPS:
                server.put(f"wav/{name}", content)
                rows.append({"audio_filepath": f"wav/{name}", "text": f"number {number}"})
                continue
            for member, held in ((f"noise-{number}.bin", bytes(padding)), (name, content)):
                about = tarfile.TarInfo(member)
                about.size = len(held)
                tar.addfile(about, io.BytesIO(held))
            rows.append({"audio_filepath": f"s3://speech/shards/a.tar::{name}", "text": f"number {number}"})
    server.put("shards/a.tar", packed.getvalue())
    rows.append({"audio_filepath": "wav/gone.wav", "text": "missing"})
    server.put("manifest.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    return [row["text"] for row in rows[:-1]]


def _pipeline(folder: Path, output: str, *, more: str = "", executor: str = "local") -> Path:
    file = folder / "pipeline.yaml"
    file.write_text(
        f"""\
name: remote
stages:
  - use: read_manifest
    manifest: s3://speech/manifest.jsonl
  - use: partition
    max_records: 2
{more}
  - use: audio_duration
  - use: merge
    path: {output}
executor: {executor}
"""
    )
    return file


def _run(folder: Path, file: Path, environment: dict[str, str], *options: str, wait: bool = True) -> Any:
    process = subprocess.Popen(
        [sys.executable, "-m", "curate.cli", *options, "run", str(file), "--run-dir", str(folder / "run")],
        cwd=folder,
        env={**os.environ, "CURATE_PLUGINS": "", "PYTHONPATH": str(_ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if not wait:
        return process
    output, _ = process.communicate(timeout=120)
    return process.returncode, output


def _bytes_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def _texts(content: bytes) -> list[str]:
    return [json.loads(line)["text"] for line in content.splitlines()]


def test_corpus_on_s3_is_read_and_published_and_its_credentials_are_in_no_file(
    tmp_path: Path, server: S3Server, meter: Meter
) -> None:
    texts = _corpus(server, tmp_path)
    file = _pipeline(tmp_path, "s3://speech/out/curated.jsonl", executor="multiprocessing")
    environment = s3_environment(meter.url, tmp_path)
    code, output = _run(tmp_path, file, environment)
    assert code == 0, output
    published = server.get("out/curated.jsonl")
    assert _texts(published) == texts
    assert json.loads(published.splitlines()[-1])["audio_filepath"] == "s3://speech/shards/a.tar::clip-17.wav"
    assert "Wrote s3://speech/out/curated.jsonl" in output
    quarantined = _bytes_below(tmp_path / "run" / "quarantine")
    assert b'"missing_file"' in quarantined and b"s3://speech/wav/gone.wav" in quarantined
    described = json.loads((tmp_path / "run/run.json").read_text())
    assert described["inputs"][0]["path"] == "s3://speech/manifest.jsonl"
    # again: nothing has changed, and the object is this run's own
    assert _run(tmp_path, file, environment)[0] == 0
    # a changed manifest is noticed; another run does not replace the object
    server.put("manifest.jsonl", server.get("manifest.jsonl") + b'{"audio_filepath": "wav/clip-00.wav"}\n')
    code, output = _run(tmp_path, file, environment)
    assert code == 2 and "the input s3://speech/manifest.jsonl has changed" in output
    (tmp_path / "run").rename(tmp_path / "before")
    code, output = _run(tmp_path, file, environment)
    assert code == 2 and "s3://speech/out/curated.jsonl is there already" in output
    assert server.get("out/curated.jsonl") == published
    held = _bytes_below(tmp_path / "before") + _bytes_below(tmp_path / "run") + output.encode()
    assert SECRET.encode() not in held and KEY_ID.encode() not in held


def test_member_of_a_tar_is_read_by_its_range(tmp_path: Path, server: S3Server, meter: Meter, monkeypatch: Any) -> None:
    for name, value in s3_environment(meter.url, tmp_path).items():
        monkeypatch.setenv(name, value)
    _corpus(server, tmp_path, padding=300_000)
    whole = (tmp_path / "s3/speech/shards/a.tar").stat().st_size
    audio = load("s3://speech/shards/a.tar::clip-09.wav", roots=["s3://speech"])
    assert len(audio) == round(16_000 * 0.59)
    with_index = meter.sent
    assert with_index < whole / 5, "the headers, and one member"
    load("s3://speech/shards/a.tar::clip-10.wav", roots=["s3://speech"])
    member = 44 + 2 * round(16_000 * 0.60)
    assert member < meter.sent - with_index < member + 2_000, "one member, and the headers of one answer"
    before = meter.sent
    server.put("long.wav", write_tone(tmp_path / "long.wav", seconds=60).read_bytes())
    assert probe("s3://speech/long.wav", roots=["s3://speech"]).duration_s == 60
    assert meter.sent - before < 150_000, "the header of 1.9 MB"


def test_server_that_is_killed_in_mid_run_costs_retries_and_nothing_else(
    tmp_path: Path, server: S3Server, meter: Meter
) -> None:
    texts = _corpus(server, tmp_path)
    plugin = tmp_path / "gate.py"
    plugin.write_text(_GATE)
    file = _pipeline(tmp_path, "s3://speech/curated.jsonl", more="  - use: gate\n", executor="multiprocessing")
    environment = {**s3_environment(meter.url, tmp_path), "GATE": str(tmp_path)}
    process = _run(tmp_path, file, environment, "--plugins-file", str(plugin), wait=False)
    _wait_for(tmp_path / "reached", process)
    server.kill()
    before = meter.connections
    (tmp_path / "open").touch()
    pause = threading.Event()
    while meter.connections < before + 3:  # the records behind the gate are asked for while there is no server
        assert process.poll() is None
        pause.wait(0.02)
    server.start()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert _texts(server.get("curated.jsonl")) == texts
    assert json.loads((tmp_path / "run/summary.json").read_text())["quarantined"] == 1


def test_dead_server_is_exit_4_and_the_same_command_resumes(tmp_path: Path, server: S3Server) -> None:
    texts = _corpus(server, tmp_path)
    plugin = tmp_path / "gate.py"
    plugin.write_text(_GATE)
    file = _pipeline(tmp_path, "curated.jsonl", more="  - use: gate\n")
    url = f"http://127.0.0.1:{server.port}"
    environment = {**s3_environment(url, tmp_path), "GATE": str(tmp_path), "CURATE_STORAGE_RETRY_S": "1"}
    process = _run(tmp_path, file, environment, "--plugins-file", str(plugin), wait=False)
    _wait_for(tmp_path / "reached", process)
    server.kill()
    (tmp_path / "open").touch()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 4, output
    assert "s3://speech/" in output and "cannot read" in output
    server.start()
    code, output = _run(tmp_path, file, environment, "--plugins-file", str(plugin))
    assert code == 0, output
    assert _texts((tmp_path / "run/curated.jsonl").read_bytes()) == texts


def test_manifest_behind_a_url_is_inspected_and_its_pipeline_runs(
    tmp_path: Path, server: S3Server, meter: Meter
) -> None:
    texts = _corpus(server, tmp_path)
    environment = {**os.environ, "CURATE_PLUGINS": "", **s3_environment(meter.url, tmp_path)}

    def curate(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "curate.cli", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env={**environment, "PYTHONPATH": str(_ROOT)}, capture_output=True, check=False
        )
        return done.returncode, (done.stdout + done.stderr).decode()

    assert curate("inspect", "s3://speech/manifest.jsonl", "--json")[1].count("missing_file") >= 1
    assert curate("init", "s3://speech/manifest.jsonl", "--output", "p.yaml")[0] == 0
    code, output = curate("run", "p.yaml", "--run-dir", "run")
    assert code == 0, output
    assert _texts((tmp_path / "run/curated.jsonl").read_bytes()) == texts
    code, output = curate("init", "s3://speech/none.jsonl")
    assert code == 2 and "s3://speech/none.jsonl does not exist" in output


def test_folder_behind_a_url_is_inspected_and_the_pipeline_of_the_page_runs(
    tmp_path: Path, server: S3Server, meter: Meter
) -> None:
    for number, name in enumerate(("s1/1", "s1/2", "s2/a b", "s2/long/1")):
        server.put(f"calls/{name}.wav", write_tone(tmp_path / "tone.wav", seconds=0.5 + number).read_bytes())
        server.put(f"calls/{name}.txt", f"call {name}".encode())
    (tmp_path / "page.yaml").write_text(FILES["bucket"].replace("s3://corpora", "s3://speech"))
    environment = {**os.environ, "CURATE_PLUGINS": "", **s3_environment(meter.url, tmp_path)}

    def curate(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "curate.cli", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env={**environment, "PYTHONPATH": str(_ROOT)}, capture_output=True, check=False
        )
        return done.returncode, " ".join((done.stdout + done.stderr).decode().split())

    code, output = curate("init", "s3://speech/calls/", "--output", "p.yaml")
    assert code == 0 and "s3://speech/calls is a folder of recordings: 4, transcripts in .txt files" in output
    assert 'folder: "s3://speech/calls"' in (tmp_path / "p.yaml").read_text()
    code, output = curate("inspect", "s3://speech/calls", "--json")
    assert code == 0 and '"records": 4' in output and "wav" in output.lower()
    code, output = curate("run", "page.yaml", "--executor", "multiprocessing")
    assert code == 0, output
    published = {name: server.get(name) for name in server.names() if name.startswith("curated/")}
    assert {name: _texts(content) for name, content in published.items()} == {
        "curated/s1.jsonl": ["call s1/1", "call s1/2"],
        "curated/s2.jsonl": ["call s2/a b"],
    }
    assert b"s3://speech/calls/s2/a b.wav" in published["curated/s2.jsonl"]
    quarantined = _bytes_below(tmp_path / "runs/bucket/quarantine")
    assert b"does not have the pattern {speaker}/{_}" in quarantined
    code, output = curate("run", "page.yaml", "--run-dir", "other")
    assert code == 2 and "s3://speech/curated/s1.jsonl is there already" in output


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"secret": "wrong"}, "the credentials are refused (SignatureDoesNotMatch): set AWS_ACCESS_KEY_ID"),
        ({"key_id": "AKIAWRONG"}, "the credentials are refused (InvalidAccessKeyId): set AWS_ACCESS_KEY_ID"),
    ],
)
def test_wrong_credentials_are_an_error_that_names_the_remedy(
    tmp_path: Path, server: S3Server, meter: Meter, wrong: dict[str, str], expected: str
) -> None:
    _corpus(server, tmp_path)
    file = _pipeline(tmp_path, "curated.jsonl")
    code, output = _run(tmp_path, file, s3_environment(meter.url, tmp_path, **wrong))
    assert code == 2 and expected in " ".join(output.split()), output
    assert not (tmp_path / "run").exists()


def test_data_set_in_shards_is_published_below_a_url_whole_and_the_index_last(
    tmp_path: Path, server: S3Server, meter: Meter, monkeypatch: Any
) -> None:
    for name, value in s3_environment(meter.url, tmp_path).items():
        monkeypatch.setenv(name, value)
    stages: Any = importlib.import_module("curate.stages")
    texts = _corpus(server, tmp_path)

    def run(run_dir: str, shards: int) -> Any:
        written = stages.NemoTarredWriter("s3://speech/sets/one", shards=shards, lang="en")
        chain = [stages.ReadManifest("s3://speech/manifest.jsonl"), stages.AudioDuration(), written]
        return Pipeline("set", chain).run(run_dir=tmp_path / run_dir)

    result = run("run", 3)
    assert [str(path) for path in result.outputs] == ["s3://speech/sets/one"]
    keys = [key.removeprefix("sets/one/") for key in server.names() if key.startswith("sets/")]
    assert [key for key in keys if key.endswith(".tar")] == ["audio_0.tar", "audio_1.tar", "audio_2.tar"]
    described = json.loads(server.get("sets/one/provenance.json"))
    assert set(keys) == {*described["files"], "provenance.json"}
    reader = stages.NemoTarredReader("s3://speech/sets/one/tarred_audio_manifest.json")
    back = Pipeline("back", [reader, stages.AudioDuration()]).run()
    assert sorted(record["text"] for record in back.records()) == sorted(texts) and not back.quarantined
    # the same run again: nothing is sent but what describes the set
    before = (tmp_path / "s3/speech/sets/one/audio_0.tar").stat().st_mtime_ns
    run("run", 3)
    assert (tmp_path / "s3/speech/sets/one/audio_0.tar").stat().st_mtime_ns == before
    with pytest.raises(PlanError, match="is the data set of another run"):
        run("other", 3)
    _verify(tmp_path, server)
    server.put("sets/two/mine.txt", b"x")
    written = stages.NemoTarredWriter("s3://speech/sets/two", lang="en")
    two = Pipeline("two", [stages.ReadManifest("s3://speech/manifest.jsonl"), written])
    with pytest.raises(PlanError, match="is not empty"):
        two.run(run_dir=tmp_path / "two")
    storage.delete("s3://speech/sets/two/mine.txt")
    assert list(storage.listing("s3://speech/sets/two/")) == []


def _verify(folder: Path, server: S3Server) -> None:
    """Check that `curate verify` passes the set as it was published, and names each object that is not so any more."""

    def verify(url: str, **environment: str) -> tuple[int, str, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "curate.cli", "verify", url, "--json"],
            env={**os.environ, "CURATE_PLUGINS": "", "PYTHONPATH": str(_ROOT), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, " ".join(done.stderr.split()), json.loads(done.stdout) if done.stdout else None

    code, problem, found = verify("s3://speech/sets/one/")
    assert (code, problem) == (0, "") and found["kind"] == "nemo_tarred" and found["damaged"] == []

    def put(name: str, content: bytes) -> None:
        with storage.path_of(f"s3://speech/sets/one/{name}").writing() as file:  # type: ignore[attr-defined]
            file.write(content)

    before = {name: server.get(f"sets/one/{name}") for name in ("audio_0.tar", "audio_1.tar", _INDEX)}
    flipped = bytearray(before["audio_0.tar"])
    flipped[700] ^= 1
    put("audio_0.tar", bytes(flipped))
    put("audio_1.tar", before["audio_1.tar"][:-512])
    storage.delete(f"s3://speech/sets/one/{_INDEX}")
    put("notes/mine.txt", b"x")
    code, _, found = verify("s3://speech/sets/one")
    named = {each["name"]: each["damage"] for each in found["damaged"]}
    assert code == 1 and named == {
        "audio_0.tar": "content",
        "audio_1.tar": "size",
        _INDEX: "missing",
        "notes/mine.txt": "unknown",
    }
    for name, content in before.items():
        put(name, content)
    storage.delete("s3://speech/sets/one/notes/mine.txt")
    assert verify("s3://speech/sets/one")[0] == 0
    code, problem, _ = verify("s3://speech/sets/none")
    assert code == 2 and "s3://speech/sets/none is not a published data set" in problem
    code, problem, _ = verify("s3://speech/sets/one", AWS_SECRET_ACCESS_KEY="wrong")
    assert code == 4 and "the credentials are refused (SignatureDoesNotMatch)" in problem
    code, problem, _ = verify("box://speech/sets/one")
    assert code == 2 and "storage scheme 'box' is not registered" in problem


def _wait_for(path: Path, process: Any) -> None:
    pause = threading.Event()
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        pause.wait(0.02)


_GATE = '''
import os, pathlib, threading
from curate import processing_stage

@processing_stage(name="gate", reads=["text"], writes=[])
def gate(record: dict) -> dict:
    """Let the first records through, and the others when the file `open` is there."""
    folder = pathlib.Path(os.environ["GATE"])
    if record["text"] not in ("number 0", "number 1", "number 2"):
        (folder / "reached").touch()
        while not (folder / "open").exists():
            threading.Event().wait(0.01)
    return record
'''
