"""A third-party store from a plugins-file: manifests, patterns, audio and published files behind its scheme."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from curate.testing.audio import write_tone

_ROOT = Path(__file__).parents[2]

_PLUGIN = '''
import contextlib, io, os, pathlib
from curate.plugin import SchemeRef, hookimpl
from curate.storage import Identity, StoredFile


class Held(StoredFile):
    """An object in memory."""

    def __init__(self, uri, content):
        super().__init__(Identity(uri, len(content), tag=str(hash(content) & 0xFFFF)))
        self._content = content

    def pread(self, length, offset):
        return self._content[offset : offset + length]


class Boxes:
    """Objects behind `box://name/key`, in a folder that the environment names."""

    def __init__(self):
        self._folder = pathlib.Path(os.environ["BOXES"])

    def _path(self, uri):
        return self._folder / uri.removeprefix("box://")

    def open(self, uri):
        return Held(uri, self._path(uri).read_bytes())

    def identity(self, uri):
        status = self._path(uri).stat()
        return Identity(uri, status.st_size, status.st_mtime_ns)

    @contextlib.contextmanager
    def writing(self, uri):
        held = io.BytesIO()
        yield held
        self._path(uri).write_bytes(held.getvalue())

    def listing(self, prefix):
        for path in sorted(self._path(prefix).rglob("*")):
            if path.is_file():
                yield self.identity(f"box://{path.relative_to(self._folder)}")


@hookimpl
def curate_storage_schemes():
    return [SchemeRef("box", f"{__name__}:Boxes", "Boxes")]
'''


def _run(tmp_path: Path, executor: str, run_dir: str, file: str = "pipeline.yaml") -> tuple[int, str]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "curate.cli", "--plugins-file", "boxes.py", "run", file),
            *("--executor", executor, "--run-dir", run_dir),
        ],
        cwd=tmp_path,
        env={**os.environ, "CURATE_PLUGINS": "", "PYTHONPATH": str(_ROOT), "BOXES": str(tmp_path / "boxes")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
def test_store_of_a_plugins_file_has_manifests_audio_and_published_files(tmp_path: Path, executor: str) -> None:
    (tmp_path / "boxes.py").write_text(_PLUGIN)
    for number in (1, 2):
        write_tone(tmp_path / f"boxes/in/clips/{number}.wav", float(number))
        row = {"audio_filepath": f"clips/{number}.wav", "text": str(number)}
        outside = {"audio_filepath": f"box://out/{number}.wav", "text": "outside"}
        (tmp_path / f"boxes/in/part-{number}.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(outside)}\n")
    (tmp_path / "pipeline.yaml").write_text(
        """\
name: boxes
stages:
  - {use: read_manifest, manifest: "box://in/part-*.jsonl"}
  - {use: audio_duration}
  - {use: merge, path: "box://in/kept.jsonl"}
"""
    )
    code, output = _run(tmp_path, executor, "run")
    assert code == 0, output
    kept = [json.loads(line) for line in (tmp_path / "boxes/in/kept.jsonl").read_text().splitlines()]
    assert [(one["audio_filepath"], one["duration"]) for one in kept] == [
        ("box://in/clips/1.wav", 1.0),
        ("box://in/clips/2.wav", 2.0),
    ]
    assert json.loads((tmp_path / "run/summary.json").read_text())["quarantined"] == 2
    inputs = json.loads((tmp_path / "run/run.json").read_text())["inputs"]
    assert [one["path"] for one in inputs] == ["box://in/part-1.jsonl", "box://in/part-2.jsonl"]
    if executor != "local":
        return
    code, output = _run(tmp_path, executor, "other")
    assert code == 2 and "box://in/kept.jsonl is there already" in output
    (tmp_path / "boxes/in/part-3.jsonl").write_text("{}\n")
    code, output = _run(tmp_path, executor, "run")
    assert code == 0 and "box://in/part-3.jsonl among them" in " ".join(output.split())


@pytest.mark.parametrize("executor", ["local", "multiprocessing"])
def test_store_of_a_plugins_file_has_folders_of_recordings_and_objects_for_each_value(
    tmp_path: Path, executor: str
) -> None:
    (tmp_path / "boxes.py").write_text(_PLUGIN)
    for speaker, number in ((1, 1), (1, 2), (2, 1)):
        path = write_tone(tmp_path / f"boxes/in/clips/s{speaker}/{number}.wav", float(number))
        path.with_suffix(".txt").write_text(f"{speaker} {number}")
    (tmp_path / "boxes/out").mkdir()
    (tmp_path / "folder.yaml").write_text(
        """\
name: boxes
stages:
  - {use: read_folder, folder: "box://in/clips/", pattern: "{speaker}/{_}"}
  - {use: audio_duration}
  - {use: merge, path: "box://out/{speaker}.jsonl"}
"""
    )
    code, output = _run(tmp_path, executor, "run", "folder.yaml")
    assert code == 0, output
    found = {path.name: path.read_text().splitlines() for path in (tmp_path / "boxes/out").iterdir()}
    kept = {name: [json.loads(line) for line in lines] for name, lines in found.items()}
    assert {name: [(row["text"], row["duration"]) for row in rows] for name, rows in kept.items()} == {
        "s1.jsonl": [("1 1", 1.0), ("1 2", 2.0)],
        "s2.jsonl": [("2 1", 1.0)],
    }
    assert kept["s2.jsonl"][0]["audio_filepath"] == "box://in/clips/s2/1.wav"
    listed = (tmp_path / "run/listing.jsonl").read_text().splitlines()
    assert [json.loads(name) for name in listed] == ["s1/1.wav", "s1/2.wav", "s2/1.wav"]
