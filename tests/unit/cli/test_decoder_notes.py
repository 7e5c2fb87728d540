"""Notes of the MP3 decoder do not reach a terminal; everything else that is written to standard error does."""

from __future__ import annotations

import os
import sys

import pytest

from curate.cli.decoder_notes import without_decoder_notes


def test_notes_are_left_out_and_other_output_stays(capfd: pytest.CaptureFixture[str]) -> None:
    stderr = sys.stderr
    with without_decoder_notes():
        os.write(2, b"[src/libmpg123/id3.c:process_comment():587] error: No comment text / valid description?\n")
        os.write(2, b"from C\nNote: Illegal Audio-MPEG-Header 0x00000000 at offset 22414.\n[a bracket]\nno line ")
        os.write(2, b"end\nWarning: something of a stage")
        print("from Python", file=sys.stderr)
    assert sys.stderr is stderr
    os.write(2, b"afterwards\n")
    printed = capfd.readouterr().err
    assert sorted(printed.replace("stage", "stage\n", 1).split("\n")) == sorted(
        ["from C", "[a bracket]", "no line end", "Warning: something of a stage", "from Python", "afterwards", ""]
    )


def test_terminal_is_restored_after_an_exception(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), without_decoder_notes():
        raise KeyboardInterrupt
    os.write(2, b"[src/libmpg123/x.c:y():1] error: z\n")
    assert "libmpg123" in capfd.readouterr().err
