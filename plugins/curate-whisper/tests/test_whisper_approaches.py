"""`curate bench approaches` with both Whispers on real speech: the table of docs/recognisers.md, and its advice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curate.cli import main
from curate.plugin import PluginHost

pytest.importorskip("curate_whisper", reason="the plugin is not installed: make .venv/.dev-all")

PLUGIN = Path(__file__).parents[1] / "curate_whisper" / "plugin.py"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speech_folder: Path) -> Path:
    """Return a folder with a manifest of the 16 clips, and a pipeline that transcribes them."""
    rows: list[str] = []
    for manifest in sorted(speech_folder.glob("*/manifest.jsonl")):
        for line in manifest.read_text().splitlines():
            row = json.loads(line)
            path = str(manifest.parent / row["audio_filepath"])
            rows.append(json.dumps({"audio_filepath": path, "duration": row["duration"], "text": row["text"]}))
    (tmp_path / "manifest.jsonl").write_text("\n".join(rows) + "\n")
    pipeline = {
        "name": "speech",
        "stages": [
            {"use": "read_manifest", "manifest": "manifest.jsonl", "roots": [str(speech_folder)]},
            {"use": "asr", "recogniser": "whisper", "options": {"model": "tiny.en"}},
        ],
    }
    (tmp_path / "pipeline.yaml").write_text(json.dumps(pipeline))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def bench(recogniser: str, model: Path, *arguments: str) -> None:
    known = "whisper" in {one.name for one in PluginHost().recognisers}
    search = {"beam_size": 1} if recogniser == "whisper" else {}  # openai_whisper is greedy
    options = json.dumps({"model": str(model), "language": "en", **search})
    command = ["bench", "approaches", "pipeline.yaml", "--recogniser", recogniser, "--options", options, *arguments]
    assert main([*([] if known else ["--plugins-file", str(PLUGIN)]), *command]) == 0


@pytest.mark.bench
@pytest.mark.parametrize("recogniser", ["whisper", "openai_whisper"])
def test_advice_follows_from_what_was_measured_and_the_history_compares(
    recogniser: str, project: Path, tiny_en: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_en
    if recogniser == "openai_whisper":
        pytest.importorskip("whisper", reason="needs openai-whisper: make .venv/.dev-all")
        torch_models = pytest.importorskip("torch_models")
        model = torch_models.save_converted(project / "tiny.pt", tiny_en)
    bench(recogniser, model, "--plot", "bench.svg")
    shown = capsys.readouterr().out
    with capsys.disabled():
        print(f"\n{shown}")
    assert "Recommended: " in shown and "<svg" in (project / "bench.svg").read_text()
    bench(recogniser, model, "--approaches", "sequential,batched", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["before"]["trials"][0]["approach"] == "sequential"
    sequential, batched = found["trials"]
    assert sequential["equal_texts"] == 1.0 and sequential["wer"] <= 0.1
    ratio = sequential["trial"]["transcription_s"] / batched["trial"]["transcription_s"]
    with capsys.disabled():
        print(f"batches of 8: {ratio:.2f} times the speed of one clip at a time; recommended: {found['best']}")
    if ratio < 1.1:
        assert found["best"] == "sequential"
        assert found["yaml"].split() == ["batching:", "static", "batch_size:", "1"]
    elif ratio >= 2 + sequential["trial"]["spread"]:
        assert found["best"] == "batched"
