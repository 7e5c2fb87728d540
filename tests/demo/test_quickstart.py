"""The demo, as a person runs it: the expected records are kept, left out and quarantined, and again the same bytes."""

from __future__ import annotations

import json
import random
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.config import load_pipeline
from curate.plugin import PluginHost

pytestmark = pytest.mark.nemo

PROJECT = Path(__file__).resolve().parents[2]
QUICKSTART = PROJECT / "pipelines" / "quickstart"
PIPELINE = QUICKSTART / "pipeline.yaml"
MANIFEST = QUICKSTART / "data" / "manifest.jsonl"

CODES = {9: "truncated", 20: "missing_file", 27: "bad_json", 37: "not_audio", 48: "empty_file"}
"""Which lines of the manifest go to quarantine, and why."""

Rows = list[dict[str, Any]]
Run = Callable[..., Any]


def run(directory: Path, *sets: str) -> Any:
    """Run the demo through the Python API."""
    configured = load_pipeline(PIPELINE, host=PluginHost(), sets=sets, run_dir=directory)
    return configured.pipeline.run(configured.executor, run_dir=configured.run_dir)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run of the demo: its directory and its result."""
    directory = tmp_path_factory.mktemp("quickstart") / "run"
    return directory, run(directory)


def rows(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def noted(directory: Path, folder: str) -> dict[int, dict[str, Any]]:
    """What a run noted about records that it did not keep, by line of the manifest."""
    notes = [note for shard in (directory / folder).iterdir() for note in rows(shard)]
    return {int(note["_id"].rpartition(":")[2]): note for note in notes}


def expected(fate: str) -> set[int]:
    return set(map(int, json.loads((QUICKSTART / "data" / "expected.json").read_text("utf-8"))[fate]))


def check_outcome(directory: Path) -> None:
    """Hold a finished run directory to what the issue asks of the demo."""
    summary = json.loads((directory / "summary.json").read_text("utf-8"))
    assert summary["status"] == "finished"
    assert summary["records_in"] == len(MANIFEST.read_text("utf-8").splitlines()) >= 40
    assert summary["kept"] + summary["filtered"] + summary["quarantined"] == summary["records_in"]
    assert summary["filtered"] >= 3
    assert summary["quarantined"] >= 3
    assert set(noted(directory, "filtered")) == expected("filtered")
    assert {line: note["code"] for line, note in noted(directory, "quarantine").items()} == CODES
    assert set(CODES) == expected("quarantined")
    curated = rows(directory / "curated.jsonl")
    assert len(curated) == summary["kept"]
    assert all(isinstance(row["pred_text"], str) and 0 <= row["wer"] <= 0.3 for row in curated)
    assert statistics.median(row["wer"] for row in curated) <= 0.1


def test_the_run_comes_out_as_the_data_were_made(finished: tuple[Path, Any]) -> None:
    directory, result = finished
    check_outcome(directory)
    assert result.summary == json.loads((directory / "summary.json").read_text("utf-8"))


def test_what_was_left_out_says_which_clause_it_failed(finished: tuple[Path, Any]) -> None:
    for note in noted(finished[0], "filtered").values():
        assert note["stage"] == "quality"
        assert note["reason"].startswith(("wer <= 0.3 (wer = ", "0.5 <= duration <= 30 (duration = "))
        assert note["record"]["pred_text"] is not None


def test_what_failed_says_where_and_why(finished: tuple[Path, Any]) -> None:
    for line, note in noted(finished[0], "quarantine").items():
        assert note["_id"] == f"{MANIFEST}:{line}"
        assert note["stage"] == ("read_manifest" if line == 27 else "asr")
        assert note["message"]
        assert note["attempts"] == 1


def test_the_output_stands_in_the_order_of_the_input(finished: tuple[Path, Any]) -> None:
    left_out = expected("filtered") | expected("quarantined")
    lines = enumerate(MANIFEST.read_text("utf-8").splitlines(), start=1)
    wanted = [json.loads(line) for number, line in lines if number not in left_out]
    curated = rows(finished[0] / "curated.jsonl")
    assert [(row["text"], row.get("offset")) for row in curated] == [(row["text"], row.get("offset")) for row in wanted]
    assert [row["audio_filepath"] for row in curated] == [
        str(QUICKSTART / "data" / row["audio_filepath"]) for row in wanted
    ]


def test_run_again_it_is_done_at_once_with_the_same_bytes(
    finished: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from curate.asr import NemoRecogniser

    def refuse(_: object) -> None:
        raise AssertionError("the model was loaded again")

    directory, result = finished
    before = (directory / "curated.jsonl").read_bytes()
    monkeypatch.setattr(NemoRecogniser, "setup", refuse)
    again = run(directory)
    assert (directory / "curated.jsonl").read_bytes() == before
    counts = ("status", "records_in", "kept", "filtered", "quarantined", "failures", "audio_hours", "fingerprint")
    assert {name: again.summary[name] for name in counts} == {name: result.summary[name] for name in counts}


@pytest.mark.parametrize("batch_size", [1, 7])
def test_the_batch_size_changes_no_byte(finished: tuple[Path, Any], tmp_path: Path, batch_size: int) -> None:
    run(tmp_path, f"stages.asr.batch_size={batch_size}")
    assert (tmp_path / "curated.jsonl").read_bytes() == (finished[0] / "curated.jsonl").read_bytes()


def test_a_clip_has_the_same_text_wherever_it_stands_in_the_manifest(
    finished: tuple[Path, Any], tmp_path: Path
) -> None:
    lines = MANIFEST.read_text("utf-8").splitlines()
    random.Random(3).shuffle(lines)
    shutil.copytree(QUICKSTART / "data" / "audio", tmp_path / "audio")
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines), "utf-8")
    run(tmp_path / "run", f"vars.manifest={tmp_path / 'manifest.jsonl'}")

    def by_clip(directory: Path) -> dict[Any, Any]:
        return {
            (Path(row["audio_filepath"]).name, row.get("offset"), row["text"]): (row["pred_text"], row["wer"])
            for row in rows(directory / "curated.jsonl")
        }

    assert by_clip(tmp_path / "run") == by_clip(finished[0])


@pytest.mark.slow
def test_the_command_line_does_the_same_even_beside_a_broken_plugin(
    finished: tuple[Path, Any], quickstart_command: tuple[Path, subprocess.CompletedProcess[str]]
) -> None:
    directory, done = quickstart_command
    check_outcome(directory)
    assert (directory / "curated.jsonl").read_bytes() == (finished[0] / "curated.jsonl").read_bytes()
    balance = [line.split() for line in done.stdout.splitlines() if line.startswith("records")]
    assert balance == [["records", "56", "44", "7", "5"]]
    assert "Traceback" not in done.stderr
    readme = (QUICKSTART.parents[1] / "README.md").read_text(encoding="utf-8")
    expected = readme.partition("```text\n")[2].partition("```")[0]
    assert _without_times(done.stdout.replace(str(directory), "runs/quickstart")) == _without_times(expected)


def _without_times(output: str) -> list[list[str]]:
    return [re.sub(r"[\d.]+ s$", "", line.rstrip()).split() for line in output.splitlines()]


def test_a_broken_plugin_is_listed_with_its_error(broken_plugin_environment: dict[str, str]) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "curate.cli", "plugins", "--json"],
        env=broken_plugin_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    states = {row["name"]: (row["status"], row["error"]) for row in json.loads(listed.stdout)}
    assert states["curate-broken"] == ("failed", "RuntimeError: broken on purpose")
    assert states["curate-speech"][0] == "active"


def test_planning_imports_neither_torch_nor_nemo() -> None:
    code = (
        "import sys; from curate.cli import main; code = main(['plan', sys.argv[1], '--json']); "
        "print({'torch', 'nemo', 'soundfile', 'ray'} & set(sys.modules), code, file=sys.stderr)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(PIPELINE)], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert shown.stderr.strip().endswith("set() 0")
    plan = json.loads(shown.stdout)
    assert [stage["name"] for stage in plan["stages"]] == [
        "read_manifest",
        "partition",
        "asr",
        "wer",
        "quality",
        "merge",
    ]
    assert "wer" in plan["stages"][-1]["columns"]
    assert len(plan["fingerprint"]) == 64
    assert plan["phases"][0]["hops"][0]["resources"]["cpus"] == 1.0
