"""The `audio:` block of a pipeline file, and the bound on the memory for decoded audio."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate import AudioSettings
from curate.config import load_pipeline
from curate.errors import ConfigError
from curate.plugin import PluginHost

STAGES = "stages:\n  - use: read_manifest\n    manifest: ${here}/in.jsonl\n  - use: audio_duration\n"


def loaded(folder: Path, text: str, *sets: str):
    (folder / "in.jsonl").write_text('{"audio_filepath": "a.wav"}\n')
    (folder / "pipeline.yaml").write_text(text + STAGES)
    host = PluginHost(environment={"CURATE_PLUGINS": ""})
    return load_pipeline(folder / "pipeline.yaml", host=host, sets=sets)


def test_the_audio_block_is_the_pipelines_and_can_be_set(tmp_path: Path) -> None:
    text = "audio:\n  channel: loudest\n  end_tolerance_s: 0.5\n"
    assert loaded(tmp_path, text).pipeline.audio == AudioSettings(channel="loudest", end_tolerance_s=0.5)
    assert loaded(tmp_path, text, "audio.channel=1").pipeline.audio.channel == 1
    assert loaded(tmp_path, "", "audio.duration_mismatch=fail").pipeline.audio.duration_mismatch == "fail"
    assert loaded(tmp_path, "").pipeline.audio == AudioSettings()


def test_the_audio_block_is_in_the_fingerprint_and_the_memory_is_not(tmp_path: Path) -> None:
    plain, changed, memory = (
        loaded(tmp_path, text).pipeline.plan().fingerprint
        for text in ("", "audio: {channel: 0}\n", "audio_memory: 1GB\n")
    )
    assert plain == memory != changed


def test_audio_memory_is_a_size(tmp_path: Path) -> None:
    assert loaded(tmp_path, "audio_memory: 64MiB\n").audio_memory_bytes == 64 * 2**20
    assert loaded(tmp_path, "audio_memory: 0\n").audio_memory_bytes == 0
    with pytest.raises(ConfigError, match=r"pipeline.yaml:1:15: `audio_memory`: .*'much' is not a size"):
        loaded(tmp_path, "audio_memory: much\n")


def test_the_spool_has_a_folder_and_a_size_in_gb_and_is_not_in_the_fingerprint(tmp_path: Path) -> None:
    spooled = loaded(tmp_path, "spool_dir: /scratch\nspool_gb: 0.5\n")
    assert (spooled.spool_directory, spooled.spool_bytes) == (Path("/scratch"), 500_000_000)
    plain = loaded(tmp_path, "spool_dir: null\n")
    assert (plain.spool_directory, plain.spool_bytes) == (None, 32 * 10**9)
    assert spooled.pipeline.plan().fingerprint == plain.pipeline.plan().fingerprint
    assert loaded(tmp_path, "", "spool_gb=2").spool_bytes == 2 * 10**9
    for text in ("spool_gb: 0\n", "spool_gb: much\n"):
        with pytest.raises(ConfigError, match=r"pipeline.yaml:1:11: `spool_gb`"):
            loaded(tmp_path, text)
    with pytest.raises(ConfigError, match=r"pipeline.yaml:1:12: `spool_dir`"):
        loaded(tmp_path, "spool_dir: [a]\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("audio: {chanel: 0}\n", r"pipeline.yaml:1:9: .*no option 'chanel'.*channel"),
        ("audio: {channel: quietest}\n", r"pipeline.yaml:1:\d+: .*channel"),
        ("audio: {duration_mismatch: ignore}\n", r"pipeline.yaml:1:\d+: .*duration_mismatch"),
        ("audio: loudest\n", r"pipeline.yaml:1:8: `audio`"),
    ],
)
def test_a_mistake_in_the_audio_block_is_found_at_its_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        loaded(tmp_path, text)
