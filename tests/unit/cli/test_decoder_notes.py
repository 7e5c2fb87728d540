"""Notes of the MP3 decoder do not reach a terminal; everything else that is written to standard error does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from curate.cli.decoder_notes import without_decoder_notes
from tests.unit.cli.test_cli_terminal import on_a_terminal


def test_notes_are_left_out_and_other_output_stays(capfd: pytest.CaptureFixture[str]) -> None:
    stderr = sys.stderr
    with without_decoder_notes():
        print("from Python", file=sys.stderr)  # directly: between two parts of a line, it would end up inside it
        os.write(2, b"[src/libmpg123/id3.c:process_comment():587] error: No comment text / valid description?\n")
        os.write(2, b"from C\nNote: Illegal Audio-MPEG-Header 0x00000000 at offset 22414.\n[a bracket]\nno line ")
        os.write(2, b"end\nWarning: something of a stage")
    assert sys.stderr is stderr
    os.write(2, b"afterwards\n")
    printed = capfd.readouterr().err
    assert sorted(printed.replace("stage", "stage\n", 1).split("\n")) == sorted(
        ["from C", "[a bracket]", "no line end", "Warning: something of a stage", "from Python", "afterwards", ""]
    )


ESTIMATED = """
stages:
  - {use: read_folder, folder: "."}
  - use: audio_duration
  - {use: merge, path: out.jsonl}
"""


def damaged_mp3(folder: Path) -> Path:
    path = folder / "a.mp3"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(64_000), 16_000)
    content = bytearray(path.read_bytes())
    content[2000:2600] = b"\x55" * 600
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("verb", ["inspect . --audio", "plan p.yaml --estimate --sample-s 1"])
def test_verbs_that_decode_keep_the_notes_out_of_a_terminal(tmp_path: Path, verb: str) -> None:
    damaged_mp3(tmp_path)
    (tmp_path / "p.yaml").write_text(ESTIMATED)
    code, shown = on_a_terminal([sys.executable, "-m", "curate.cli", *verb.split()], tmp_path)
    assert code == 0, shown
    assert "Note: " not in shown and "libmpg123" not in shown, shown


def test_damaged_mp3_is_decoded_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = damaged_mp3(tmp_path)
    soundfile.read(path)
    assert "Note: " in capfd.readouterr().err  # libmpg123 is as noisy as ever
    with without_decoder_notes():
        soundfile.read(path)
    assert capfd.readouterr().err == ""


def test_terminal_is_restored_after_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), without_decoder_notes():
        raise KeyboardInterrupt
    os.write(2, b"[src/libmpg123/x.c:y():1] error: z\n")
    assert "libmpg123" in capfd.readouterr().err
