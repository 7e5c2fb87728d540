"""A run and servers for the tests of the explorer."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import soundfile

from curate import Pipeline
from curate.stages import Merge, Partition, QualityFilter, ReadManifest, WordErrorRate

HOSTILE = "<img src=x onerror=\"document.body.dataset.broken='yes'\">"
RUN = (
    *(sys.executable, "-m", "curate.cli", "--quiet", "run", "pipeline.yaml"),
    *("--no-report", "--max-failures", "20"),
)
PIPELINE = """
name: explored
stages:
  - use: read_manifest
    manifest: manifest.jsonl
  - use: word_error_rate
  - use: audio_duration
  - use: quality_filter
    expression: "wer <= 0.3 and duration <= 3"
  - use: merge
    path: out.jsonl
run_dir: run
"""


def write_corpus(folder: Path, records: int = 40) -> Path:
    """Write clips of noise and their manifest: every fifth has wrong words, every seventh no file."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    rows: list[Mapping[str, Any]] = []
    for number in range(records):
        path, length_s = folder / f"{number:03}.wav", 0.4 + 0.1 * (number % 30)
        if number % 7 or not number:
            soundfile.write(path, 0.1 * random.standard_normal(int(length_s * 8000)), 8000)
        text = HOSTILE if number == 2 else f"one two three number {number}"
        transcript = text.replace("three", "four").replace("two", "too") if number % 5 == 0 else text
        rows.append(
            {
                "audio_filepath": path.name,
                "duration": 1.0,
                "text": text,
                "pred_text": transcript,
                "lang": ("en", "de")[number % 2],
            }
        )
    (folder / "manifest.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "pipeline.yaml").write_text(PIPELINE)
    return folder


def run_corpus(folder: Path) -> Path:
    """Run the pipeline over a corpus by the command line, and return the run directory."""
    write_corpus(folder)
    subprocess.run(RUN, cwd=folder, check=True)
    return folder / "run"


def filtered_run(folder: Path, records: list[dict[str, Any]], expression: str) -> Pipeline:
    """Return a pipeline over records with a filter; they lie in a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "records.jsonl"
    if not manifest.exists():
        manifest.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    stages = [
        ReadManifest(str(manifest)),
        Partition(max_records=64),
        WordErrorRate(),
        QualityFilter(expression),
        Merge("kept.jsonl"),
    ]
    return Pipeline("filtered", stages)


def run_twice(folder: Path) -> tuple[Path, Path]:
    """Run the pipeline over a corpus, and again with another filter over the same rows, of which some have changed.

    The second run has other transcripts of the records 6 and 8, and keeps those of up to 2 s.
    """
    first = run_corpus(folder)
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    for number in (6, 8):
        rows[number]["pred_text"] = rows[number]["pred_text"].replace("one", "won")
    (folder / "manifest.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    expression = "stages.quality_filter.expression=wer <= 0.3 and duration <= 2"
    changed = ["--run-dir", "second", "--set", expression]
    subprocess.run([*RUN, *changed], cwd=folder, check=True)
    return first, folder / "second"


@attrs.frozen
class Server:
    """A server that runs, in a process of its own."""

    port: int
    token: str
    process: subprocess.Popen[str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    @property
    def comparison(self) -> str:
        return f"http://127.0.0.1:{self.port}/compare?token={self.token}"

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
        """Send a request with the token's cookie, unless `cookie` says otherwise."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"cookie": f"curate-{self.port}={self.token}", **headers}
        if body is None:
            connection.request("GET", path, headers=sent)
        else:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **sent})
        response = connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())

    def answer(self, path: str, body: Any = None) -> Any:
        status, content, _ = self.ask(path, body)
        assert status == 200, content
        return json.loads(content)


@contextmanager
def explored(target: Path, cache: Path, *options: str, complete: bool = True) -> Generator[Server]:
    """Serve a run or a manifest until the block ends; it is stopped as Ctrl-C would.

    With another one among the options, the two are compared.

    Args:
        complete: whether the block begins when the index is complete.
    """
    plugin = Path(__file__).parents[1] / "plugins/curate-explorer/curate_explorer/plugin.py"
    added = () if _installed() else ("--plugins-file", str(plugin))
    asked = ("explore", str(target), "--no-open", "--cache", str(cache), *options)
    process = subprocess.Popen(
        [sys.executable, "-m", "curate.cli", *added, *asked],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        found = re.search(r"127\.0\.0\.1:(\d+)/(?:compare)?\?token=(\S+)", process.stdout.readline())
        assert found is not None
        server = Server(int(found[1]), found[2], process)
        while complete and not server.answer("/api/state")["complete"]:
            pass  # asked again and again, since the index itself says when it is complete
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        process.stdout.close()


def _installed() -> bool:
    from importlib.metadata import entry_points

    return any(each.name == "explorer" for each in entry_points(group="curate"))
