"""pipelines/signal, which `make demo-light` runs: measures without a model find what is not clean speech."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXPECTED = json.loads((ROOT / "pipelines" / "quickstart" / "data" / "expected.json").read_text())
BAD_SOUND = {"15": "A clip of 0.3 s that holds a piece of a word", "34": "A silent clip with a transcript"}
BAD_SOUND |= {"43": "Speech under noise that is louder"}


def lines(folder: Path) -> set[str]:
    """Return the numbers of the records that a folder of the run directory has notes on."""
    notes = [json.loads(line) for shard in folder.iterdir() for line in shard.read_text().splitlines()]
    return {note["_id"].rpartition(":")[2] for note in notes}


def test_bad_sound_is_filtered_by_measures_alone_and_the_report_is_named(tmp_path: Path) -> None:
    heavy = "import sys; sys.modules.update(dict.fromkeys(('torch', 'nemo', 'duckdb', 'scipy', 'av'))); "
    command = f"{heavy}from curate.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", command, "run", str(ROOT / "pipelines" / "signal" / "pipeline.yaml")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CURATE_PLUGINS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run_dir = tmp_path / "runs" / "signal"
    assert BAD_SOUND.items() <= EXPECTED["filtered"].items()
    assert lines(run_dir / "filtered") == set(BAD_SOUND)
    assert lines(run_dir / "quarantine") == set(EXPECTED["quarantined"])
    assert len((run_dir / "curated.jsonl").read_text().splitlines()) == 56 - len(BAD_SOUND) - 5
    assert "Report: runs/signal/report.html" in done.stdout
    assert (run_dir / "report.html").is_file()


def test_make_demo_light_runs_it_without_extras() -> None:
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.partition("\ndemo-light:")[2].partition("\n\n")[0]
    assert "run pipelines/signal/pipeline.yaml" in recipe and "report.html" in recipe
    assert "$(PIP) --editable .\n" in makefile.partition("$(VENV)/.light:")[2].partition("\n\n")[0]
