"""What the distribution announces, and that announcing costs nothing."""

from __future__ import annotations

import subprocess
import sys

from curate_pocketsphinx import plugin
from curate_pocketsphinx.recogniser import PocketSphinxRecogniser


def test_the_announced_target_is_the_recogniser() -> None:
    [reference] = plugin.curate_recognisers()
    assert reference.name == "pocketsphinx"
    assert reference.load() is PocketSphinxRecogniser


def test_announcing_imports_nothing_heavy() -> None:
    code = "import sys, curate_pocketsphinx.plugin; print({'pocketsphinx', 'numpy', 'torch'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
