"""What the distribution announces, and that announcing costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("curate_whisper", reason="the plugin is not installed: make .venv/.dev-all")

from curate_whisper import plugin
from curate_whisper.openai_whisper import OpenAIWhisperRecogniser
from curate_whisper.whisper import WhisperRecogniser


def test_the_announced_targets_are_the_recognisers() -> None:
    announced = {reference.name: reference.load() for reference in plugin.curate_recognisers()}
    assert announced == {"whisper": WhisperRecogniser, "openai_whisper": OpenAIWhisperRecogniser}


def test_announcing_imports_nothing_heavy() -> None:
    code = "import sys, curate_whisper.plugin; print({'ctranslate2', 'numpy', 'torch'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
