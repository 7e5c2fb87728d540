"""pipelines/long-recordings, as a user starts it, on a short version with a real recogniser."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from tests.unit.signal.real_speech import needs_speech
from tests.unit.stages.long_speech import RATE_HZ, LongSpeech, long_speech

ROOT = Path(__file__).parents[2]
MISSING = [name for name in ("pocketsphinx", "webrtcvad", "pyloudnorm") if importlib.util.find_spec(name) is None]


@needs_speech
@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
def test_recordings_become_scored_utterances_with_text(tmp_path: Path) -> None:
    made: dict[str, LongSpeech] = {f"{seed}.flac": long_speech(1, seed=seed, snr_db=30) for seed in (1, 2)}
    for name, recording in made.items():
        soundfile.write(tmp_path / name, recording.samples, RATE_HZ)
    lines = [json.dumps({"audio_filepath": name, "corpus": "test"}) for name in (*made, "missing.flac")]
    (tmp_path / "recordings.jsonl").write_text("\n".join(lines) + "\n")
    plugins = [str(path) for path in (ROOT / "plugins").glob("*/")]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "curate.cli", "run", str(ROOT / "pipelines/long-recordings/pipeline.yaml")),
            *("--set", f"vars.manifest={tmp_path / 'recordings.jsonl'}", "--run-dir", str(tmp_path / "run")),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *plugins])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in (tmp_path / "run" / "utterances.jsonl").read_text().splitlines()]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["records_in"], summary["split_parents"], summary["quarantined"]) == (3, 2, 1)
    assert summary["children"] == summary["kept"] + summary["filtered"]
    assert len(rows) == summary["kept"] >= 10
    for row in rows:
        assert row["corpus"] == "test"
        assert 0.5 <= row["duration"] <= 20
        assert row["snr_db"] is None or row["snr_db"] >= 10
        assert row["pred_text"] and row["chars_per_s"]
        assert "speech" not in row
    text = " ".join(row["pred_text"].lower() for row in rows)
    assert any(phrase in text for phrase in ("clubs", "country", "forward ten", "made amiable", "narrative")), text
